"use strict";
/* Maps as colours on a canvas, by the rules of mmel_cli/render (METHOD 6), and the bars that say what colours mean. */
(function () {
  const draw = (mmel.draw = {});
  const OUTSIDE = 0.55; // what the model never saw is darkened by this
  const PALE = [225, 0.4]; // a grey photo: light laid over it, so that every colour of a phrase stands out
  const PHRASE_OPACITY = 0.8;
  const FAINTEST = 0.05; // of the strongest phrase, the least that is painted

  const parsed = new Map();

  /* A table of 256 colours by name; "run": the run's own. */
  draw.table = (name) => {
    if (name === "run" || !mmel.tables[name]) return mmel.store.head.colormap.colours;
    if (!parsed.has(name)) {
      const hex = mmel.tables[name];
      parsed.set(name, Array.from({ length: 256 }, (_, k) => [0, 2, 4].map((c) => parseInt(hex.slice(6 * k + c, 6 * k + c + 2), 16))));
    }
    return parsed.get(name);
  };

  /* The top of the scale of a map, and what to call it. `own`: of this record alone. */
  draw.scaleOf = (run, values, { view, scale }) => {
    const { percentile } = mmel.store.head.runs[run].normalise;
    const whole = mmel.store.head.runs[run].scale;
    const both = view === "signed";
    if (scale === "run" && whole) return { top: both ? whole.strongest : whole.top, says: both ? "the run's greatest magnitude" : `the ${percentile}th percentile of the run's positive evidence`, whole: true };
    const top = both ? maths().strongestOfBoth(values, percentile) : maths().strongest(values, percentile);
    return { top, says: `the ${percentile}th percentile of this ${both ? "map, the larger of its two signs" : "map's positive evidence"}`, whole: false };
  };

  /* One map. `spec`: values, grid, box, size (height and width of the original), top, and what display has. */
  draw.map = (canvas, spec) => {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    const edges = edgesOf(spec, width, height);
    const [wide, high] = [Math.max(1, edges[2] - edges[0]), Math.max(1, edges[3] - edges[1])];
    const signed = spec.view === "signed";
    const heat = maths().resize(maths().scaled(spec.values, spec.top, signed), spec.grid, [high, wide], spec.cells !== "cells");
    const pixels = sheet(wide, high);
    paint(pixels.data, heat, signed ? diverging() : positive(draw.table(spec.table)), spec.opacity, signed ? -1 : 0);
    context.putImageData(pixels, edges[0], edges[1]);
    frame(context, edges, width, height);
  };

  /* Phrases in their own colours over the grey photo: the one strongest on its own scale shows. Returns those drawn. */
  draw.phrases = (canvas, spec) => {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    const edges = edgesOf(spec, width, height);
    const [wide, high] = [Math.max(1, edges[2] - edges[0]), Math.max(1, edges[3] - edges[1])];
    const palette = mmel.store.head.palette;
    const tops = spec.maps.slice(0, palette.length).map((values) => maths().strongest(values, spec.percentile));
    const most = Math.max(...tops, 0);
    const drawn = tops.map((top) => top > 0 && top >= FAINTEST * most);
    const best = new Float32Array(wide * high);
    const owner = new Int8Array(wide * high);
    tops.forEach((top, k) => {
      if (!drawn[k]) return;
      const shown = maths().resize(spec.maps[k].map((value) => (Number.isFinite(value) ? value / top : 0)), spec.grid, [high, wide], spec.cells !== "cells");
      for (let p = 0; p < shown.length; p++) if (shown[p] > best[p]) { best[p] = shown[p]; owner[p] = k; }
    });
    const pixels = sheet(wide, high);
    for (let p = 0; p < best.length; p++) {
      const alpha = PHRASE_OPACITY * Math.min(1, best[p]);
      const under = PALE[1] * (1 - alpha);
      const [light, own] = [PALE[0], palette[owner[p]]];
      const all = alpha + under;
      for (let c = 0; c < 3; c++) pixels.data[4 * p + c] = (own[c] * alpha + light * under) / all;
      pixels.data[4 * p + 3] = all * 255;
    }
    context.putImageData(pixels, edges[0], edges[1]);
    frame(context, edges, width, height);
    return drawn;
  };

  /* The colours of a scale from left to right, as they lie on middle grey. */
  draw.bar = (canvas, { view, table, opacity }) => {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.fillStyle = "rgb(128, 128, 128)";
    context.fillRect(0, 0, width, height);
    const signed = view === "signed";
    const values = Float32Array.from({ length: width }, (_, x) => (signed ? (2 * x) / (width - 1) - 1 : x / (width - 1)));
    const colour = signed ? diverging() : positive(draw.table(table));
    values.forEach((value, x) => {
      const [r, g, b] = colour(value);
      context.fillStyle = `rgba(${r}, ${g}, ${b}, ${opacity * Math.sqrt(Math.abs(value))})`;
      context.fillRect(x, 0, 1, height);
    });
  };

  const maths = () => mmel.maths;
  const positive = (table) => (value) => table[Math.floor(value * 255 + 0.5)];
  const diverging = () => {
    const { above, below } = mmel.store.head.diverging;
    return (value) => (value > 0 ? above : below);
  };

  /* Pixels to fill, all of them, used again while their size stays. */
  let last = null;
  function sheet(wide, high) {
    if (!last || last.width !== wide || last.height !== high) last = new ImageData(wide, high);
    return last;
  }

  /* Bicubic overshoot is clipped; below 0 only a signed view has a colour. */
  function paint(data, heat, colour, opacity, least) {
    for (let p = 0; p < heat.length; p++) {
      const value = Math.max(least, Math.min(1, heat[p]));
      const [r, g, b] = colour(value);
      data[4 * p] = r;
      data[4 * p + 1] = g;
      data[4 * p + 2] = b;
      data[4 * p + 3] = 255 * opacity * Math.sqrt(Math.abs(value));
    }
  }

  /* The box in pixels of the canvas; it may reach beyond. */
  function edgesOf({ box, size }, width, height) {
    const [across, down] = [width / size[1], height / size[0]];
    return [box[0] * across, box[1] * down, box[2] * across, box[3] * down].map(Math.round);
  }

  /* Dark outside the box, with a thin line around it. */
  function frame(context, [left, top, right, bottom], width, height) {
    if (left <= 0 && top <= 0 && right >= width && bottom >= height) return;
    context.fillStyle = `rgba(0, 0, 0, ${OUTSIDE})`;
    context.fillRect(0, 0, width, Math.max(0, top));
    context.fillRect(0, bottom, width, Math.max(0, height - bottom));
    context.fillRect(0, Math.max(0, top), Math.max(0, left), bottom - Math.max(0, top));
    context.fillRect(right, Math.max(0, top), Math.max(0, width - right), bottom - Math.max(0, top));
    context.strokeStyle = "#fff";
    context.strokeRect(left + 0.5, top + 0.5, right - left - 1, bottom - top - 1);
  }
})();
