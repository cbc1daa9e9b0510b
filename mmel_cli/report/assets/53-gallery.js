"use strict";
/* The gallery: what is sought, sorted and filtered, and sheets of cards of which only those near the screen are made. */
(function () {
  const { el, choice, select } = mmel.page;
  const { store } = mmel;
  const ROWS = 6; // of cards on a sheet
  const CARD = 232; // least width, as in the style

  mmel.Gallery = class {
    constructor() {
      const several = store.head.runs.length > 1;
      const differs = several && store.has("difference", 0);
      this.first = { text: "", key: differs ? "difference" : "run", down: differs, run: 0, marks: new Set() };
      this.wish = { ...this.first, beside: several };
      this.rows = new Int32Array(0);
      this.address = "#";
      this.node = el("main", { class: "gallery", id: "gallery", tabindex: "-1" });
      this.sheets = el("div", { class: "sheets" });
      this.count = el("p", { class: "count", role: "status" });
      this.lost = el("p", { class: "problem", role: "alert", hidden: true });
      this.node.append(this.lost, this.tools(), this.count, this.says = el("p", { class: "says legendline" }), this.sheets);
      this.near = new IntersectionObserver((entries) => entries.forEach((entry) => this.turn(entry.target, entry.isIntersecting)), { rootMargin: "900px" });
      this.seen = new IntersectionObserver((entries) => entries.forEach((entry) => entry.target.card.come(entry.isIntersecting)), { rootMargin: "150px" });
      this.width = new ResizeObserver(() => { if (!this.node.hidden && this.across() !== this.columns) this.lay(); });
      this.width.observe(this.sheets);
      mmel.display.follow(() => this.repaint());
      document.addEventListener("pointerdown", (event) => {
        for (const fold of this.node.querySelectorAll(".fold[open]")) if (!fold.contains(event.target)) fold.open = false;
      });
      this.tellScale();
    }

    tools() {
      const { head } = store;
      const several = head.runs.length > 1;
      this.text = el("input", { type: "search", placeholder: "caption or id; \u201ca phrase\u201d in quotes", spellcheck: "false", autocomplete: "off", oninput: () => this.later() });
      this.key = select("Sort by", [], "run", (key) => this.want({ key, down: mmel.order.keys(this.wish.run).find(([name]) => name === key)[2] }));
      this.down = el("button", { type: "button", class: "way", onclick: () => this.want({ down: !this.wish.down }) });
      this.runs = several ? select("Numbers of", head.runs.map((run, r) => [r, run.label]), 0, (run) => this.want({ run: Number(run) })) : null;
      this.beside = several ? choice("Pictures", [["all", "all runs"], ["one", "this run"]], "all", (way) => this.want({ beside: way === "all" })) : null;
      this.settings = new mmel.Settings(false);
      this.settings.node.id = "display";
      return el("div", { class: "tools", role: "search", "aria-label": "Records" },
        el("label", { class: "field grow" }, el("span", { text: "Search" }), this.text), this.key, this.down, this.runs, this.beside, this.markFilter(),
        el("details", { class: "fold", name: "fold" }, el("summary", { text: "Display" }), this.settings.node));
    }

    /* Marks to filter by, with how many records have each. */
    markFilter() {
      const names = store.head.mark_names || [];
      const counts = mmel.order.counts();
      const present = names.map((name, bit) => [name, store.head.marks[name].badge, counts[bit], store.head.marks[name].says]).filter(([, , count]) => count);
      if (!present.length) return null;
      this.boxes = [...present, ["", "no mark", counts.at(-1), "Records that have none of the marks"]].map(([name, badge, count, says]) => {
        const input = el("input", { type: "checkbox", value: name, onchange: () => { const marks = new Set(this.wish.marks); if (input.checked) marks.add(name); else marks.delete(name); this.want({ marks }); } });
        return [input, el("label", { class: "marked", title: says }, input, el("span", { class: "badge", text: badge }), ` ${count.toLocaleString("en")}`, el("span", { class: "says", text: says }))];
      });
      return el("details", { class: "fold", name: "fold" }, this.marksTitle = el("summary", { text: "Marks" }), el("div", { class: "marklist" }, el("p", { class: "says", text: "Records with any of the chosen marks:" }), this.boxes.map(([, label]) => label)));
    }

    later() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.want({ text: this.text.value }), 150);
    }

    /* Another wish: the address says it, so that it can be sent. */
    want(changes) {
      Object.assign(this.wish, changes);
      const { text, key, down, run, marks } = this.wish;
      const said = new URLSearchParams();
      if (text) said.set("q", text);
      if (key !== this.first.key || down !== this.first.down) said.set("sort", key);
      if (said.has("sort") && down) said.set("down", "1");
      if (run) said.set("run", run);
      if (marks.size) said.set("marks", [...marks].join(","));
      this.address = `#${String(said).replaceAll("+", "%20")}`;
      mmel.main.rewrite(this.address);
      return this.update();
    }

    /* What an address wishes; what it does not say is as at first. */
    read(said, address) {
      this.address = address;
      Object.assign(this.wish, this.first);
      if (said.has("q")) this.wish.text = said.get("q");
      if (mmel.order.keys(0).some(([key]) => key === said.get("sort"))) Object.assign(this.wish, { key: said.get("sort"), down: said.get("down") === "1" });
      if (said.get("run") in store.head.runs) this.wish.run = Number(said.get("run"));
      if (said.has("marks")) this.wish.marks = new Set(said.get("marks").split(","));
      return this.update();
    }

    async update() {
      const { wish } = this;
      const { text } = wish;
      this.tellTools();
      this.tellScale();
      const found = await mmel.search(text, (part) => { this.count.textContent = `Reading captions: ${Math.round(100 * part)} %`; });
      if (text !== this.wish.text) return; // another search has begun
      this.rows = mmel.order.rows({ ...wish, found });
      this.groups = mmel.order.groups(this.rows);
      this.flat = Int32Array.from(this.groups.flat());
      this.count.textContent = this.told();
      this.lay();
    }

    told() {
      const all = this.rows.length === store.count;
      const records = all ? mmel.page.count(store.count, "record") : `${this.rows.length.toLocaleString("en")} of ${mmel.page.count(store.count, "record")}`;
      return `${records}, ${mmel.page.count(this.groups.length, "image")}`;
    }

    tellTools() {
      const { wish } = this;
      const list = this.key.list;
      list.replaceChildren(...mmel.order.keys(wish.run).map(([value, text]) => el("option", { value, text })));
      list.value = wish.key;
      if (document.activeElement !== this.text) this.text.value = wish.text;
      this.down.textContent = wish.down ? "\u2193" : "\u2191";
      this.down.setAttribute("aria-label", wish.down ? "Greatest or last first; press to turn round" : "Least or first first; press to turn round");
      this.down.title = this.down.getAttribute("aria-label");
      if (this.runs) this.runs.list.value = String(wish.run);
      if (this.beside) this.beside.choose(wish.beside ? "all" : "one");
      if (this.boxes) {
        this.boxes.forEach(([input]) => { input.checked = wish.marks.has(input.value); });
        this.marksTitle.textContent = wish.marks.size ? `Marks (${wish.marks.size})` : "Marks";
      }
    }

    /* A record that was asked for and is not there; null once another address is. */
    miss(id) {
      this.lost.hidden = id === null;
      this.lost.textContent = id === null ? "" : `This report has no record ${mmel.page.printable(id)}.`;
    }

    across() {
      const least = this.wish.beside ? Math.min(this.sheets.clientWidth, CARD * 0.75 * store.head.runs.length) : CARD;
      return Math.max(1, Math.floor((this.sheets.clientWidth + 14) / (least + 14)));
    }

    /* Empty sheets for all groups; those near the screen fill themselves. */
    lay() {
      if (!this.groups) return;
      this.near.disconnect();
      this.seen.disconnect();
      this.columns = this.across();
      this.sheets.style.setProperty("--across", this.columns);
      const size = this.columns * ROWS;
      const sheets = [];
      for (let start = 0; start < this.groups.length; start += size) {
        const sheet = el("div", { class: "sheet" });
        sheet.groups = this.groups.slice(start, start + size);
        sheet.style.height = `${Math.ceil(sheet.groups.length / this.columns) * (this.guess || 330)}px`;
        sheets.push(sheet);
      }
      this.sheets.replaceChildren(...(sheets.length ? sheets : [el("p", { class: "none", text: store.count ? "No record fits. Take away a filter, or search for less." : "This run has no records." })]));
      sheets.forEach((sheet) => this.near.observe(sheet));
    }

    turn(sheet, near) {
      if (near && !sheet.cards) {
        const { run, key, beside } = this.wish;
        const runs = beside ? store.head.runs.map((_, r) => r) : [run];
        sheet.cards = sheet.groups.map((rows) => new mmel.Card(rows, { run, runs, key }));
        sheet.replaceChildren(...sheet.cards.map((card) => Object.assign(card.node, { card })));
        sheet.style.height = "";
        this.guess = this.guess || sheet.getBoundingClientRect().height / Math.ceil(sheet.groups.length / this.columns);
        sheet.cards.forEach((card) => this.seen.observe(card.node));
      } else if (!near && sheet.cards && !sheet.contains(document.activeElement)) {
        sheet.style.height = `${sheet.getBoundingClientRect().height}px`;
        sheet.cards.forEach((card) => { this.seen.unobserve(card.node); card.close(); });
        sheet.cards = null;
        sheet.replaceChildren();
      }
    }

    repaint() {
      this.tellScale();
      for (const sheet of this.sheets.children) for (const card of sheet.cards || []) card.repaint();
    }

    /* The sentence above the pictures says what their colours are. */
    tellScale() {
      const { now } = mmel.display;
      const several = store.head.runs.length > 1;
      const colours = now.view === "signed" ? "Colour: where the method sees evidence for the caption (" : `Bright colour: where ${several ? "the method of a run" : `the method ${store.head.runs[0].method}`} sees evidence for the caption that is chosen below the picture; where it sees none, the photo shows as it is. `;
      const own = now.scale === "record"
        ? "Each picture is on its own scale: compare places within one, not strengths between two."
        : `One scale for the whole run${several ? ", one for each run" : ""}: the same colour is the same value in every picture${several ? " of a run; runs have units of their own, so do not compare strengths between them" : ""}.`;
      const swatch = (kind) => { const node = el("span", { class: "swatch" }); node.style.backgroundColor = mmel.page.colour(store.head.diverging[kind]); return node; };
      const other = store.count && store.against(0) !== null ? " Evidence is for the caption rather than the other text: what is explained is the difference of their two cosines." : "";
      const dim = " Where the model saw only part of an image, that part has a white frame; the rest is dark.";
      const far = this.wish.key === "difference" && several ? ` Difference: 1 minus the smallest correlation of another run's map with that of ${mmel.page.printable(mmel.page.title(0))}.` : "";
      this.says.replaceChildren(...(now.view === "signed" ? [colours, swatch("above"), ") and against it (", swatch("below"), "). "] : [colours]), own, other, dim, far);
      this.says.hidden = !now.overlay;
    }
  };
})();
