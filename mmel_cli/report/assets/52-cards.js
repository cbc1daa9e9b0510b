"use strict";
/* One image of the gallery with its captions; the chosen caption's map lies over it. */
(function () {
  const { el, said, cosine } = mmel.page;
  const { store } = mmel;
  const CANVAS = 240; // pixels of the longer side

  /* `view`: {run, runs (those drawn), key}. */
  mmel.Card = class {
    constructor(rows, view) {
      this.rows = rows;
      this.view = view;
      this.chosen = rows[0];
      this.pictures = view.runs.map((run) => this.picture(run));
      this.link = el("a", { class: "panels" }, this.pictures.map((picture) => picture.node));
      this.lines = rows.map((row) => this.line(row));
      this.node = el("article", { class: view.runs.length > 1 ? "card wide" : "card" }, this.link, el("ul", { class: "captions" }, this.lines.map((line) => line.node)));
      this.choose(this.chosen);
    }

    picture(run) {
      const i = this.rows[0];
      const [height, width] = store.size(i);
      const address = store.picture("thumb", i) || store.picture("photo", i);
      const canvas = el("canvas", { class: "overlay", role: "img", "aria-label": "Heatmap, not drawn yet" });
      const factor = CANVAS / Math.max(height, width);
      canvas.width = Math.max(1, Math.round(width * factor));
      canvas.height = Math.max(1, Math.round(height * factor));
      const image = address ? el("img", { src: address, alt: "", loading: "lazy", draggable: "false" }) : null;
      const plane = el("span", { class: "plane" }, image, canvas);
      plane.style.aspectRatio = `${width} / ${height}`;
      plane.style.width = `${100 * Math.min(1, width / height)}%`;
      const title = this.view.runs.length > 1 ? el("span", { class: "runname" }, said(mmel.page.title(run))) : null;
      const score = title ? el("span", { class: "faint small" }) : null;
      return { run, canvas, image, score, node: el("span", { class: "panel" }, el("span", { class: "frame" }, plane), title, score) };
    }

    line(row) {
      const { run, key, runs } = this.view;
      const rank = mmel.facts.rank(row, run);
      const numbers = runs.length > 1 ? [] : [`cosine ${cosine(store.ofRun("score", row, run))}`, ...(rank && store.ofRun("among", row, run) > 1 ? [`match ${rank}`] : [])];
      if (key === "evidence" || key === "against_evidence") numbers.push(`${key === "evidence" ? "evidence for" : "evidence against"} ${mmel.page.short(store.ofRun(key, row, run) ?? NaN)}`);
      const value = mmel.order.shown(key, row);
      if (value) numbers.push(value);
      const several = this.rows.length > 1;
      const marks = new Map(runs.flatMap((r) => mmel.page.marksOf(row, r)).map((mark) => [mark.name, mark]));
      const button = several
        ? el("button", { type: "button", class: "pick", "aria-pressed": "false", title: "Show this caption's map", onclick: () => this.choose(row) }, said(store.caption(row)))
        : el("a", { class: "pick", href: mmel.page.address(row) }, said(store.caption(row)));
      const against = store.against(row);
      const node = el("li", {}, button, against === null ? null : el("span", { class: "small faint" }, "rather than ", said(against)), el("span", { class: "numbers" }, el("span", { text: numbers.join(" · ") }), [...marks.values()].map(mmel.page.badge),
        several ? el("a", { class: "open", href: mmel.page.address(row), text: "open", "aria-label": `Open: ${mmel.page.printable(store.caption(row))}` }) : null));
      return { row, node, button };
    }

    choose(row) {
      this.chosen = row;
      this.link.href = mmel.page.address(row);
      const caption = mmel.page.printable(store.caption(row));
      this.link.setAttribute("aria-label", `Open the record: ${caption}`);
      for (const line of this.lines) if (line.button.tagName === "BUTTON") line.button.setAttribute("aria-pressed", String(line.row === row));
      for (const picture of this.pictures) {
        if (picture.image) picture.image.alt = `Image captioned: ${caption}`;
        picture.record = null;
        if (picture.score) {
          const rank = mmel.facts.rank(row, picture.run);
          picture.score.textContent = `cosine ${cosine(store.ofRun("score", row, picture.run))}${rank && store.ofRun("among", row, picture.run) > 1 ? ` · match ${rank}` : ""}`;
        }
      }
      if (this.near) this.load();
    }

    /* On or near the screen, or no longer. */
    come(near) {
      this.near = near;
      if (near) this.load();
    }

    /* Before it is thrown away: canvases hold their memory until they are collected. */
    close() {
      this.near = false;
      for (const { canvas } of this.pictures) canvas.width = 0;
    }

    async load() {
      const row = this.chosen;
      for (const picture of this.pictures) {
        try {
          if (!picture.record) picture.record = await store.map(picture.run, row);
          if (this.chosen !== row || !this.near) return;
          this.paint(picture);
        } catch (error) {
          picture.canvas.setAttribute("aria-label", error.message);
          picture.canvas.classList.add("lost");
          picture.canvas.title = error.message;
        }
      }
    }

    paint(picture) {
      const { now } = mmel.display;
      const { record, canvas, run } = picture;
      canvas.hidden = !now.overlay;
      const view = now.view === "phrases" ? "positive" : now.view;
      const { top } = mmel.draw.scaleOf(run, record.map, { ...now, view });
      mmel.draw.map(canvas, { ...now, view, values: record.map, grid: record.grid, box: record.box, size: store.size(this.chosen), top });
      canvas.setAttribute("aria-label", `Heatmap${this.view.runs.length > 1 ? ` of ${mmel.page.printable(mmel.page.title(run))}` : ""}: ${mmel.maths.strongestPlace(record.map, record.grid)}`);
    }

    repaint() {
      for (const picture of this.pictures) if (this.near && picture.record) this.paint(picture);
    }
  };
})();
