"use strict";
/* One picture of one run: the photo, a map over it, the cell under the pointer, the box, and the bar with its numbers. */
(function () {
  const { el } = mmel.page;
  const MOST_PIXELS = 1100; // of the canvas's longer side

  mmel.Viewer = class {
    /* `events`: point(pixel of the original or null), box(pixels or null), move(dx, dy in parts of the stage), zoom(factor, x, y). */
    constructor(run, events, titled) {
      this.run = run;
      this.events = events;
      this.source = { kind: "map" };
      this.photo = el("img", { class: "photo", draggable: "false", alt: "" });
      this.canvas = el("canvas", { class: "overlay", role: "img", "aria-label": "Heatmap, not drawn yet" });
      this.cell = el("div", { class: "cell", hidden: true });
      this.frame = el("div", { class: "box", hidden: true });
      this.plane = el("div", { class: "plane" }, this.photo, this.canvas, this.cell, this.frame);
      this.stage = el("div", { class: "stage", tabindex: "0", role: "group", "aria-label": `Picture${titled ? ` of ${mmel.page.title(run)}` : ""}: Shift with arrow keys reads one cell after another, Enter begins and ends a box` }, this.plane);
      this.reading = el("output", { class: "reading", "aria-live": "polite" });
      this.legend = el("div", { class: "legend" });
      this.problem = el("p", { class: "problem", role: "alert", hidden: true });
      this.node = el("figure", { class: "viewer" },
        titled ? el("figcaption", {}, mmel.page.said(mmel.page.title(run))) : null,
        this.stage, this.problem, this.reading, this.legend);
      this.listen();
      this.observer = new ResizeObserver(() => this.paint());
      this.observer.observe(this.stage);
    }

    close() { this.observer.disconnect(); }

    /* Another record: the map is drawn when it has come. */
    async show(i) {
      this.i = i;
      this.record = this.details = this.corner = this.cellAt = null;
      this.source = { kind: "map" };
      const [height, width] = mmel.store.size(i);
      this.stage.style.aspectRatio = `${width} / ${height}`;
      this.stage.style.maxWidth = `calc(74vh * ${width / height})`;
      const address = mmel.store.picture("photo", i);
      this.photo.hidden = !address;
      if (address) this.photo.src = address;
      else this.photo.removeAttribute("src");
      this.photo.alt = address ? `The image of record ${mmel.page.printable(mmel.store.id(i))}, captioned: ${mmel.page.printable(mmel.store.caption(i))}` : "";
      this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
      this.problem.hidden = true;
      try {
        const record = await mmel.store.map(this.run, i);
        if (this.i !== i) return;
        this.record = record;
        this.paint();
      } catch (error) {
        this.fail(i, error);
      }
    }

    fail(i, error) {
      if (this.i !== i) return;
      this.problem.textContent = error.message;
      this.problem.hidden = false;
    }

    /* What is laid over the photo: {kind: "map" | "layer" | "word" | "phrase", index, name}. */
    lay(source) {
      this.source = source;
      this.paint();
    }

    /* Maps of layers, words and phrases, once they have come. */
    detail(details) {
      this.details = details;
      this.paint();
    }

    /* The map that is laid over the photo, with its scale and what it is. */
    shown() {
      const { kind, index, name } = this.source;
      const { now } = mmel.display;
      const method = mmel.store.head.runs[this.run].method;
      if (kind !== "map" && this.details) {
        const family = kind === "layer" ? this.details.layers.find((layer) => layer.name === name)?.maps : kind === "word" ? this.details.words : this.details.phrases;
        if (family && family[index]) return { values: family[index], ...this.shared(family, kind), what: this.named(kind, index, name) };
      }
      const values = this.record.map;
      return { values, scale: mmel.draw.scaleOf(this.run, values, now), what: `the map of ${method}`, path: "map" };
    }

    /* Layers, words and phrases have one scale each in a record, so that they can be compared with each other. */
    shared(family, kind) {
      const { percentile } = mmel.store.head.runs[this.run].normalise;
      const both = mmel.display.now.view === "signed";
      const top = Math.max(...family.map((values) => (both ? mmel.maths.strongestOfBoth : mmel.maths.strongest)(values, percentile)));
      return { scale: { top, whole: false, says: `the greatest of the ${percentile}th percentiles of all ${kind}s of this record, which share it` } };
    }

    named(kind, index, name) {
      if (kind === "layer") return `${name} of layer ${mmel.store.head.runs[this.run].layers[index]}`;
      const [start, end] = kind === "word" ? this.record.words[index] : this.record.phrases[index];
      const text = mmel.store.caption(this.i).slice(start, end);
      const share = kind === "word" ? (this.record.shares || [])[index] : this.record.phrases[index][2];
      const counts = share < 0 ? `, whose share of the cosine is ${mmel.page.signed(share)}: as a whole it counts against` : "";
      return `evidence for the ${kind} \u201c${mmel.page.printable(text)}\u201d${counts}`;
    }

    paint() {
      if (!this.record || !this.stage.clientWidth) return;
      const { now } = mmel.display;
      const size = mmel.store.size(this.i);
      const sharp = Math.min(window.devicePixelRatio || 1, MOST_PIXELS / Math.max(this.stage.clientWidth, this.stage.clientHeight));
      this.canvas.width = Math.max(1, Math.round(this.stage.clientWidth * sharp));
      this.canvas.height = Math.max(1, Math.round(this.stage.clientHeight * sharp));
      this.canvas.hidden = !now.overlay;
      const ground = { grid: this.record.grid, box: this.record.box, size, ...now };
      const coloured = this.inPhrases();
      this.photo.classList.toggle("grey", coloured && now.overlay);
      if (coloured) this.drawPhrases(ground);
      else this.drawMap(ground);
      this.read(this.point ?? null);
    }

    /* Whether each phrase has a colour of its own now. */
    inPhrases() { return mmel.display.now.view === "phrases" && this.source.kind === "map" && this.details?.phrases.length > 0; }

    drawMap(ground) {
      const shown = this.shown();
      const view = mmel.display.now.view === "phrases" ? "positive" : mmel.display.now.view;
      mmel.draw.map(this.canvas, { ...ground, view, values: shown.values, top: shown.scale.top });
      this.canvas.setAttribute("aria-label", `Heatmap: ${shown.what}, ${mmel.maths.strongestPlace(shown.values, ground.grid)}`);
      this.legend.replaceChildren(...mmel.legends.map(shown, view));
    }

    drawPhrases(ground) {
      const { percentile } = mmel.store.head.runs[this.run].normalise;
      const drawn = mmel.draw.phrases(this.canvas, { ...ground, maps: this.details.phrases, percentile });
      this.canvas.setAttribute("aria-label", "Where there is evidence for each phrase, in the phrase's own colour");
      const texts = this.record.phrases.map(([start, end]) => mmel.store.caption(this.i).slice(start, end));
      this.legend.replaceChildren(...mmel.legends.phrases(texts, drawn));
    }

    /* The value at a pixel of the original. */
    read(point) {
      this.point = point;
      const at = point && this.record ? mmel.maths.cellAt(point, this.record.box, this.record.grid) : null;
      this.cell.hidden = !at;
      if (!at) {
        this.reading.textContent = !point ? "Point at the picture to read values (rows and columns count from 0)." : "Outside the grid: the model never saw this part.";
        return;
      }
      this.lie(this.cell, mmel.maths.pixelsOf(at, at, this.record.box, this.record.grid));
      this.cellAt = at;
      const cell = at[0] * this.record.grid[1] + at[1];
      const value = (values) => el("b", { class: "value", text: mmel.page.exact(values[cell]) });
      const shown = this.inPhrases() ? null : this.shown();
      this.reading.replaceChildren(`Row ${at[0]}, column ${at[1]}: `, ...(shown ? [value(shown.values), el("span", { class: "faint", text: ` in ${shown.what}` })]
        : [...this.details.phrases.flatMap((values, k) => [mmel.legends.chip(k), value(values), " "]), el("span", { class: "faint", text: "evidence for each phrase" })]));
    }

    /* The box, in cells; null takes it away. */
    mark(cells) {
      this.frame.hidden = !cells;
      if (cells) this.lie(this.frame, mmel.maths.pixelsOf(cells[0], cells[1], this.record.box, this.record.grid));
    }

    lie(node, [x0, y0, x1, y1]) {
      const [height, width] = mmel.store.size(this.i);
      Object.assign(node.style, {
        left: `${(100 * x0) / width}%`, top: `${(100 * y0) / height}%`,
        width: `${(100 * (x1 - x0)) / width}%`, height: `${(100 * (y1 - y0)) / height}%`,
      });
    }

    /* Zoom and place, in parts of the stage. */
    pose({ zoom, x, y }) {
      this.plane.style.transform = `translate(${100 * x}%, ${100 * y}%) scale(${zoom})`;
    }

    pixelAt(event) {
      const edges = this.plane.getBoundingClientRect();
      const [height, width] = mmel.store.size(this.i);
      return [((event.clientX - edges.left) / edges.width) * width, ((event.clientY - edges.top) / edges.height) * height];
    }

    listen() {
      const { stage } = this;
      let start = null;
      let last = null;
      stage.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || !this.record) return;
        stage.setPointerCapture(event.pointerId);
        start = this.pixelAt(event);
        last = [event.clientX, event.clientY];
      });
      stage.addEventListener("pointermove", (event) => {
        if (!this.record) return;
        const pixel = this.pixelAt(event);
        this.events.point(pixel);
        if (!start) return;
        if (this.events.moves()) {
          this.events.move((event.clientX - last[0]) / stage.clientWidth, (event.clientY - last[1]) / stage.clientHeight);
          last = [event.clientX, event.clientY];
        } else if (Math.hypot(event.clientX - last[0], event.clientY - last[1]) > 4) {
          this.events.box([Math.min(start[0], pixel[0]), Math.min(start[1], pixel[1]), Math.max(start[0], pixel[0]), Math.max(start[1], pixel[1])]);
        }
      });
      const stop = (event) => {
        if (start && !this.events.moves() && Math.hypot(event.clientX - last[0], event.clientY - last[1]) <= 4) this.events.box(null);
        start = null;
      };
      stage.addEventListener("pointerup", stop);
      stage.addEventListener("pointercancel", () => { start = null; });
      stage.addEventListener("pointerleave", () => this.events.point(null));
      stage.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // plain wheels scroll the page
        event.preventDefault();
        const edges = stage.getBoundingClientRect();
        this.events.zoom(Math.exp(-event.deltaY / 300), (event.clientX - edges.left) / edges.width, (event.clientY - edges.top) / edges.height);
      }, { passive: false });
      stage.addEventListener("keydown", (event) => this.step(event));
    }

    /* Shift with an arrow: the next cell. Enter: a box from here, which further steps enlarge, until Enter again. */
    step(event) {
      if (event.key === "Enter" && this.record && this.cellAt) {
        event.preventDefault();
        this.corner = this.corner ? null : this.cellAt;
        if (this.corner) this.stretch(this.corner);
        return;
      }
      const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!way || !event.shiftKey || !this.record) return;
      event.preventDefault();
      event.stopPropagation();
      const [h, w] = this.record.grid;
      const from = this.cellAt || [Math.floor(h / 2), Math.floor(w / 2)];
      const at = [Math.max(0, Math.min(h - 1, from[0] + way[0])), Math.max(0, Math.min(w - 1, from[1] + way[1]))];
      const [x0, y0, x1, y1] = mmel.maths.pixelsOf(at, at, this.record.box, this.record.grid);
      this.events.point([(x0 + x1) / 2, (y0 + y1) / 2]);
      if (this.corner) this.stretch(at);
    }

    /* A box from the corner to a cell, a little inside their edges so that no neighbour is touched. */
    stretch(at) {
      const ends = [0, 1].map((k) => [Math.min(this.corner[k], at[k]), Math.max(this.corner[k], at[k])]);
      const [x0, y0, x1, y1] = mmel.maths.pixelsOf([ends[0][0], ends[1][0]], [ends[0][1], ends[1][1]], this.record.box, this.record.grid);
      const inset = (x1 - x0 + y1 - y0) / 1e6;
      this.events.box([x0 + inset, y0 + inset, x1 - inset, y1 - inset]);
    }
  };
})();
