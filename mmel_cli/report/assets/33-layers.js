"use strict";
/* The map of each layer as a small picture, with the layer's learned weight. */
(function () {
  const { el, select } = mmel.page;

  mmel.Layers = class {
    constructor(run, events) {
      this.run = run;
      this.events = events;
      this.name = null;
      this.node = el("section", { class: "layers", "aria-label": "Layers" });
    }

    show(i, record, details) {
      Object.assign(this, { i, record, details });
      const names = details.layers.map((layer) => layer.name);
      if (!names.length) {
        this.node.replaceChildren();
        return;
      }
      if (!names.includes(this.name)) this.name = names.find((name) => name.endsWith("flow")) || names[0];
      this.node.replaceChildren(...this.parts(names));
      this.paint();
    }

    parts(names) {
      const head = mmel.store.head.runs[this.run];
      const weights = head.layer_weights;
      const most = weights ? Math.max(...weights) : 0;
      this.canvases = head.layers.map(() => el("canvas", { class: "overlay", "aria-hidden": "true" }));
      const address = mmel.store.picture("thumb", this.i);
      const cards = head.layers.map((number, k) => {
        const source = { kind: "layer", index: k, name: this.name };
        const [height, width] = mmel.store.size(this.i);
        const stage = el("span", { class: "stage small" }, address ? el("img", { src: address, alt: "", draggable: "false" }) : null, this.canvases[k]);
        stage.style.aspectRatio = `${width} / ${height}`;
        const share = el("i");
        if (weights) share.style.width = `${Math.max(0, (100 * weights[k]) / most)}%`;
        return el("button", {
          type: "button", class: "layer", "data-kind": "layer", "data-index": k, "aria-pressed": "false",
          title: `${this.name} of layer ${number}: point at it to see it large, press to keep it`,
          onpointerenter: () => this.events.hover(source), onpointerleave: () => this.events.hover(null),
          onfocus: () => this.events.hover(source), onblur: () => this.events.hover(null), onclick: () => this.events.pin(source),
        }, stage, el("span", { text: `layer ${number}` }),
        weights ? el("span", { class: "weight" }, `weight ${mmel.page.short(weights[k])}`, el("span", { class: "weighed", "aria-hidden": "true" }, share)) : null);
      });
      const pick = names.length > 1 ? select("of", names.map((name) => [name, name]), this.name, (name) => { this.name = name; this.show(this.i, this.record, this.details); }) : null;
      return [
        el("h3", {}, "Layers"), ...(pick ? [pick] : []),
        el("p", { class: "says" }, `${this.name}, layer by layer, as archived; one scale for all layers of this record.${weights ? ` A layer's weight is what its part is multiplied by in the sum that makes the map (METHOD 3); ${this.name} is an ingredient of that part.` : ""}`),
        el("div", { class: "multiples" }, cards),
      ];
    }

    paint() {
      if (!this.details || !this.canvases || !this.details.layers.length) return;
      const { now } = mmel.display;
      const view = now.view === "phrases" ? "positive" : now.view;
      const maps = this.details.layers.find((layer) => layer.name === this.name).maps;
      const { percentile } = mmel.store.head.runs[this.run].normalise;
      const top = Math.max(...maps.map((values) => (view === "signed" ? mmel.maths.strongestOfBoth : mmel.maths.strongest)(values, percentile)));
      const size = mmel.store.size(this.i);
      const factor = 160 / Math.max(...size);
      this.canvases.forEach((canvas, k) => {
        [canvas.height, canvas.width] = size.map((side) => Math.max(1, Math.round(side * factor)));
        mmel.draw.map(canvas, { ...now, view, values: maps[k], grid: this.record.grid, box: this.record.box, size, top });
        canvas.hidden = !now.overlay;
      });
    }

    pinned(source) {
      for (const button of this.node.querySelectorAll("button.layer")) {
        button.setAttribute("aria-pressed", String(source.kind === "layer" && source.name === this.name && Number(button.dataset.index) === source.index));
      }
    }
  };
})();
