"use strict";
/* The page of a record: its pictures, words, layers and numbers, under each run side by side. */
(function () {
  const { el, said } = mmel.page;
  const { store } = mmel;

  mmel.RecordPage = class {
    /* `order()`: the records as the gallery shows them. */
    constructor(order) {
      this.order = order;
      this.active = 0;
      this.node = el("main", { class: "record", id: "record", tabindex: "-1", hidden: true });
      mmel.display.follow(() => this.repaint());
    }

    /* `back`: the address of the gallery as it was. */
    open(i, back) {
      if (!this.viewers) this.build();
      this.i = i;
      this.back.href = back;
      this.details = this.record = null;
      this.pin = { kind: "map" };
      this.pixels = null;
      this.pose = { zoom: 1, x: 0, y: 0 };
      this.fill();
      this.viewers.forEach((viewer) => { viewer.pose(this.pose); viewer.mark(null); viewer.point = null; viewer.show(i); });
      this.choose(this.active);
    }

    build() {
      const several = store.head.runs.length > 1;
      const events = {
        point: (pixel) => this.viewers.forEach((viewer) => viewer.read(pixel)),
        box: (pixels) => this.mark(pixels),
        move: (dx, dy) => this.place(this.pose.zoom, this.pose.x + dx, this.pose.y + dy),
        zoom: (factor, x, y) => this.zoom(factor, x, y),
        moves: () => this.dragging === "move",
      };
      this.dragging = "box";
      this.viewers = store.head.runs.map((_, run) => new mmel.Viewer(run, events, several));
      this.settings = new mmel.Settings(store.head.runs.some((run) => run.has.phrases));
      this.title = el("h2", { class: "captioned", tabindex: "-1" });
      this.explained = el("p", { class: "says", hidden: true, text: "The map explains the difference of the two cosines: why the model finds the caption, rather than the other text, in the image. Words and phrases are of the caption's own cosine." });
      this.position = el("span", { class: "faint" });
      this.side = el("div", { class: "side" });
      this.below = el("div");
      this.wordsPlace = el("div");
      this.layersPlace = el("div");
      this.boxed = el("p", { class: "says boxed", "aria-live": "polite" });
      this.drag = mmel.page.choice("Drag", [["box", "draws a box", "What each word has inside the box"], ["move", "moves", "Move the picture, when it is larger than its frame"]], "box", (way) => { this.dragging = way; });
      const button = (text, title, press) => el("button", { type: "button", title, "aria-label": title, text, onclick: press });
      const runs = several ? mmel.page.select("Words and layers of", store.head.runs.map((run, r) => [r, run.label]), 0, (r) => this.choose(Number(r))) : null;
      this.node.append(
        el("nav", { class: "trail", "aria-label": "Records" },
          this.back = el("a", { href: "#", class: "back", text: "\u2190 All records" }),
          button("\u2039 Previous", "Previous record (left arrow or k)", () => this.step(-1)),
          button("Next \u203a", "Next record (right arrow or j)", () => this.step(1)), this.position),
        this.title, this.explained,
        el("div", { class: several ? "columns stacked" : "columns" },
          el("div", { class: "pictures" },
            el("div", { class: several ? "viewers several" : "viewers" }, this.viewers.map((viewer) => viewer.node)),
            several ? el("p", { class: "says", text: "Each run is on its own scale: methods have units of their own, so compare places between runs, not strengths." }) : null,
            this.boxed,
            el("div", { class: "settings" }, this.drag,
              button("\u2212", "Smaller", () => this.zoom(1 / 1.5, 0.5, 0.5)), button("+", "Larger (or Ctrl and wheel)", () => this.zoom(1.5, 0.5, 0.5)), button("Whole picture", "Whole picture (0)", () => this.place(1, 0, 0))),
            this.looks = el("details", { class: "looks" }, el("summary", { text: "Display" }), this.settings.node)),
          el("div", { class: "texts" }, this.side, el("div", { class: "wording" }, runs, this.wordsPlace), this.below)),
        this.layersPlace);
      this.looks.open = window.innerWidth >= 900;
    }

    fill() {
      const { i } = this;
      const against = store.against(i);
      this.title.replaceChildren(said(store.caption(i)));
      this.explained.hidden = against === null;
      if (against !== null) this.title.append(el("span", { class: "faint", text: " rather than " }), said(against));
      if (store.truncated(i)) this.title.append(el("span", { class: "faint small", text: ` (longer than the model reads${against !== null ? ", this or the other text" : ""}: the end was cut)` }));
      this.tellPlace();
      const ranks = store.head.runs.map((run, r) => [run, mmel.facts.rankSays(i, r)]).filter(([, says]) => says);
      this.side.replaceChildren(...[
        el("p", { class: "id" }, "Record ", said(store.id(i), { class: "mono" })),
        mmel.facts.marks(i), mmel.facts.table(i),
        ...ranks.map(([run, says]) => el("p", { class: "says" }, store.head.runs.length > 1 ? [said(run.label), ": "] : null, says)),
      ].filter(Boolean));
      this.below.replaceChildren(...[this.others(), mmel.facts.source(i)].filter(Boolean));
    }

    /* Where the record stands among those of the gallery. */
    tellPlace() {
      const order = this.places();
      this.position.textContent = `${(order.indexOf(this.i) + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}`;
    }

    /* The other captions of the image. */
    others() {
      const images = store.images();
      const others = [];
      for (let k = 0; k < images.length && others.length < 50; k++) if (images[k] === images[this.i] && k !== this.i) others.push(k);
      if (!others.length) return null;
      return el("section", {}, el("h3", { text: "Other captions of this image" }), el("ul", { class: "others" },
        others.map((k) => el("li", {}, el("a", { href: mmel.page.address(k) }, said(store.caption(k))), el("span", { class: "faint", text: ` cosine ${mmel.facts.cosineOf(k, this.active)}` })))));
    }

    /* The run whose words and layers are shown. */
    async choose(run) {
      this.active = run;
      const { i } = this;
      const events = { hover: (source) => this.lay(source || this.pin), pin: (source) => this.keep(source) };
      this.words = new mmel.Words(run, events);
      this.layers = new mmel.Layers(run, events);
      this.wordsPlace.replaceChildren(this.words.node);
      this.layersPlace.replaceChildren(this.layers.node);
      this.lay(this.pin = { kind: "map" });
      const has = store.head.runs[run].has;
      this.settings.view.allow("phrases", has.phrases);
      try {
        this.record = await store.map(run, i);
        if (this.i !== i || this.active !== run) return;
        this.words.show(i, this.record);
        if (!has.layers && !has.regions) return;
        const details = await store.details(run, i);
        if (this.i !== i || this.active !== run) return;
        this.details = details;
        this.words.detail(details);
        this.layers.show(i, this.record, details);
        this.viewers[run].detail(details);
        this.mark(this.pixels);
      } catch (error) {
        this.viewers[run].fail(i, error);
      }
    }

    /* The viewer of the chosen run shows a word, phrase or layer, the others their map. */
    lay(source) {
      this.viewers.forEach((viewer, run) => {
        const next = run === this.active ? source : { kind: "map" };
        if (viewer.source !== next) viewer.lay(next);
      });
    }

    keep(source) {
      const same = this.pin.kind === source.kind && this.pin.index === source.index && this.pin.name === source.name;
      this.pin = same ? { kind: "map" } : source;
      this.lay(this.pin);
      this.words.pinned(this.pin);
      this.layers.pinned(this.pin);
    }

    /* A box in pixels of the original, null for none: each run takes the cells that it touches. */
    mark(pixels) {
      this.pixels = pixels;
      const says = [];
      this.viewers.forEach((viewer, run) => {
        const { record } = viewer;
        const cells = pixels && record ? mmel.maths.cellsOf(pixels, record.box, record.grid) : null;
        if (record) viewer.mark(cells);
        if (run === this.active && this.words.record) this.words.mark(cells);
        if (!cells) return;
        const sum = mmel.maths.sumInside(record.map, cells, record.grid[1]);
        says.push([store.head.runs.length > 1 ? [said(store.head.runs[run].label), ": "] : null, `Box of ${mmel.boxSays(cells)} (whole cells): the map's values inside sum to `, el("b", { class: "boxsum", text: mmel.page.exact(sum) }), ". "]);
      });
      this.boxed.replaceChildren(...says.flat(2).filter(Boolean), ...(says.length ? [el("button", { type: "button", text: "Take the box away", onclick: () => this.mark(null) })] : []));
    }

    zoom(factor, x, y) {
      const zoom = Math.min(12, Math.max(1, this.pose.zoom * factor));
      const ratio = zoom / this.pose.zoom;
      this.place(zoom, x - (x - this.pose.x) * ratio, y - (y - this.pose.y) * ratio);
    }

    /* No edge of the picture comes inside its frame. */
    place(zoom, x, y) {
      const clip = (value) => Math.min(0, Math.max(1 - zoom, value));
      this.pose = { zoom, x: clip(x), y: clip(y) };
      this.viewers.forEach((viewer) => viewer.pose(this.pose));
    }

    repaint() {
      if (!this.viewers || this.node.hidden) return;
      this.viewers.forEach((viewer) => viewer.paint());
      this.layers.paint();
    }

    places() {
      const order = this.order();
      return order.includes(this.i) ? order : Int32Array.from({ length: store.count }, (_, k) => k);
    }

    step(way) {
      const order = this.places();
      const next = order.indexOf(this.i) + way;
      if (next >= 0 && next < order.length) location.replace(mmel.page.address(order[next]));
    }

    /* Esc: first what is pinned, then the box, then the gallery. */
    leave() {
      if (this.pin.kind !== "map") this.keep(this.pin);
      else if (this.pixels) this.mark(null);
      else location.hash = this.back.hash || "";
    }

    focusOn(selector) {
      const node = this.node.querySelector(selector);
      if (node) {
        node.scrollIntoView({ block: "nearest" });
        node.focus();
      }
    }
  };
})();
