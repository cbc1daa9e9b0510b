"use strict";
/* The row of choices of how pictures are shown; it stands in the gallery and on a record's page alike. */
(function () {
  const { el, choice, select } = mmel.page;

  mmel.Settings = class {
    /* `phrases`: whether the view of phrases is among the choices. */
    constructor(phrases) {
      const { now, set } = mmel.display;
      const own = mmel.store.head.colormap.name;
      const tables = [["run", own], ...Object.keys(mmel.tables).filter((name) => name !== own).map((name) => [name, name])];
      this.overlay = el("input", { type: "checkbox", onchange: () => set({ overlay: this.overlay.checked }) });
      this.opacity = el("input", { type: "range", min: "0", max: "100", step: "5", oninput: () => set({ opacity: Number(this.opacity.value) / 100 }) });
      this.table = select("Colours", tables, now.table, (table) => set({ table }));
      this.view = choice("Show", [["positive", "for", "Evidence for the caption alone"], ["signed", "for and against", "Both signs, diverging around 0"],
        ...(phrases ? [["phrases", "phrases", "Each phrase in a colour of its own"]] : [])], now.view, (view) => set({ view }));
      this.scale = choice("Scale", [["record", "each record", "Each map on a scale of its own"], ["run", "whole run", "One scale for all records of a run"]], now.scale, (scale) => set({ scale }));
      this.cells = choice("Cells", [["smooth", "smooth", "Bicubic between cells, as in the pictures of the run"], ["cells", "as they are", "Each cell of the grid in one colour"]], now.cells, (cells) => set({ cells }));
      this.node = el("div", { class: "settings", role: "group", "aria-label": "How pictures are shown" },
        el("label", { class: "field" }, this.overlay, el("span", { text: "overlay" })),
        el("label", { class: "field" }, el("span", { text: "opacity" }), this.opacity),
        this.table, this.view, this.scale, this.cells);
      mmel.display.follow(() => this.update());
      this.update();
    }

    update() {
      const { now } = mmel.display;
      this.overlay.checked = now.overlay;
      this.opacity.value = String(Math.round(now.opacity * 100));
      this.table.list.value = now.table;
      this.view.choose(now.view);
      this.scale.choose(now.scale);
      this.cells.choose(now.cells);
      this.table.list.disabled = now.view !== "positive";
    }
  };
})();
