"use strict";
/* Lines with bands, and scatter plots whose points lead to their record (uPlot). */
(function () {
  const { el } = mmel.page;
  const plots = (mmel.plots = {});
  const BAND = 1.96; // standard errors
  const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#3fa7e0", "#7a7a7a", "#7b5cc4"];
  const LINES_ON_DARK = ["#6cb6f5", "#ff9a5c", "#3ecfa0", "#eba3cc", "#f2cf4a", "#9bdcff", "#b0b4b9", "#b79cf2"];
  const DASHES = [[], [9, 5], [3, 4], [12, 4, 3, 4]]; // lines that lie on each other both show
  const NEAR = 14; // pixels from the pointer to a point

  const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const line = () => getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  const axis = (label) => ({ label, stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif", labelFont: "13px system-ui, sans-serif", size: 56 });
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  plots.colour = (k) => (dark.matches ? LINES_ON_DARK : LINES)[k % LINES.length];

  const width = (place, most) => Math.max(260, Math.min(most, place.clientWidth || most));

  /* `lines`: [{label, x, mean, error}], all with the same x. */
  plots.lines = (place, { title, across, up, lines }) => {
    const bands = lines.map((_, k) => ({ series: [3 * k + 2, 3 * k + 3], fill: `${plots.colour(k)}26` }));
    const series = [{ label: across }];
    const data = [lines[0].x];
    lines.forEach((own, k) => {
      const stroke = plots.colour(k);
      const value = (_, number) => (number === null || number === undefined ? "–" : number.toFixed(3));
      series.push({ label: own.label, stroke, width: 2, dash: DASHES[k % DASHES.length], value, points: { show: own.x.length <= 30, size: 5 } });
      series.push({ label: "", stroke: "transparent", points: { show: false } }, { label: "", stroke: "transparent", points: { show: false } });
      data.push(own.mean, own.mean.map((m, p) => m + BAND * own.error[p]), own.mean.map((m, p) => m - BAND * own.error[p]));
    });
    const figure = el("figure", { class: "plot" }, el("figcaption", { text: title }));
    place.append(figure);
    const plot = new uPlot({
      width: width(figure, 520), height: 300, series, bands, scales: { x: { time: false } },
      axes: [axis(across), axis(up)], legend: { markers: { width: 2 } }, cursor: { drag: { x: false, y: false } },
    }, data, figure);
    hideBandLegends(figure, lines.length);
    figure.setAttribute("aria-label", `${title}: ${lines.map((own) => own.label).join(", ")}`);
    return plot;
  };

  /* The ends of a band need no line in the legend. */
  function hideBandLegends(figure, count) {
    const rows = figure.querySelectorAll(".u-legend .u-series");
    for (let k = 0; k < count; k++) for (const row of [rows[3 * k + 2], rows[3 * k + 3]]) if (row) row.hidden = true;
  }

  /* `points`: rows of records with x and y; a press on one opens its record. */
  plots.scatter = (place, { across, up, rows, x, y, diagonal }) => {
    const order = Array.from(rows.keys()).sort((a, b) => x[a] - x[b]);
    const [xs, ys, records] = [order.map((k) => x[k]), order.map((k) => y[k]), order.map((k) => rows[k])];
    const figure = el("figure", { class: "plot scatter" });
    const told = el("p", { class: "reading", role: "status", text: "Point at a dot to see which record it is; press to open it." });
    place.append(figure, told);
    let near = null;
    const nearest = (plot) => {
      const { left, top } = plot.cursor;
      let best = NEAR * NEAR;
      near = null;
      if (left < 0) return null;
      for (let k = 0; k < xs.length; k++) {
        const [dx, dy] = [plot.valToPos(xs[k], "x") - left, plot.valToPos(ys[k], "y") - top];
        if (dx * dx + dy * dy < best) { best = dx * dx + dy * dy; near = k; }
      }
      return near;
    };
    const plot = new uPlot({
      width: width(figure, 980), height: 480, legend: { show: false }, scales: { x: { time: false, range: padded }, y: { range: padded } },
      axes: [axis(across), axis(up)],
      series: [{}, { stroke: plots.colour(0), fill: `${plots.colour(0)}70`, paths: () => null, points: { show: true, size: 7, fill: `${plots.colour(0)}70`, stroke: plots.colour(0), width: 1 } }],
      cursor: { drag: { x: false, y: false }, x: false, y: false, dataIdx: (own) => nearest(own), points: { size: 13, width: 2, stroke: ink, fill: "transparent" } },
      hooks: {
        draw: diagonal ? [drawDiagonal] : [],
        setCursor: [() => { told.textContent = near === null ? "Point at a dot to see which record it is; press to open it." : `${mmel.page.printable(mmel.store.caption(records[near]))} (${mmel.page.printable(mmel.store.id(records[near]))}): ${across} ${mmel.page.short(xs[near])}, ${up} ${mmel.page.short(ys[near])}`; figure.classList.toggle("onpoint", near !== null); }],
      },
    }, [xs, ys], figure);
    plot.over.addEventListener("click", () => { if (near !== null) location.hash = mmel.page.address(records[near]).slice(1); });
    figure.setAttribute("role", "img");
    figure.setAttribute("aria-label", `${up} against ${across}, one dot a record, ${xs.length} records`);
    return plot;
  };

  function padded(_, low, high) {
    const room = (high - low) * 0.05 || Math.abs(low) * 0.05 || 1;
    return [low - room, high + room];
  }

  function drawDiagonal(plot) {
    const { ctx } = plot;
    const low = Math.max(plot.scales.x.min, plot.scales.y.min);
    const high = Math.min(plot.scales.x.max, plot.scales.y.max);
    if (low >= high) return;
    ctx.save();
    ctx.strokeStyle = ink();
    ctx.globalAlpha = 0.4;
    ctx.beginPath();
    ctx.moveTo(plot.valToPos(low, "x", true), plot.valToPos(low, "y", true));
    ctx.lineTo(plot.valToPos(high, "x", true), plot.valToPos(high, "y", true));
    ctx.stroke();
    ctx.restore();
  }
})();
