"use strict";
/* The caption in words and phrases: point at one to see its map, draw a box to see what each has inside it. */
(function () {
  const { el, said, signed, short, printable } = mmel.page;
  const LEAST_SCALE = 0.01; // cosine at the ends of a caption's colours, at least

  mmel.Words = class {
    /* `events`: hover(source or null), pin(source). */
    constructor(run, events) {
      this.run = run;
      this.events = events;
      this.node = el("section", { class: "words", "aria-label": "Words and phrases" });
    }

    show(i, record) {
      this.i = i;
      this.record = record;
      this.details = null;
      this.box = null;
      this.build();
    }

    detail(details) {
      this.details = details;
      this.build();
    }

    /* The box, in cells; words take the colour of what they have inside it. */
    mark(cells) {
      this.box = cells;
      this.build();
    }

    /* Which one is pinned. */
    pinned(source) {
      this.source = source;
      for (const button of this.node.querySelectorAll("button[data-kind]")) {
        button.setAttribute("aria-pressed", String(button.dataset.kind === source.kind && Number(button.dataset.index) === source.index));
      }
    }

    build() {
      const focused = this.node.contains(document.activeElement) ? document.activeElement.dataset : null;
      const { record } = this;
      this.caption = mmel.store.caption(this.i);
      const inside = this.sums("words");
      const children = [el("h3", { text: "Caption, word by word" }), this.line(inside), this.lineLegend(inside)];
      if (record.phrases.length) children.push(this.phraseTable());
      if (record.words.length && (record.shares || record.values)) children.push(this.wordTable(inside));
      this.node.replaceChildren(...children);
      this.pinned(this.source || { kind: "map" });
      if (focused && focused.kind) this.node.querySelector(`button[data-kind="${focused.kind}"][data-index="${focused.index}"][data-place="${focused.place}"]`)?.focus();
    }

    /* Sums of each one's map inside the box; null without a box or maps. */
    sums(kind) {
      if (!this.box || !this.details || !this.details[kind].length) return null;
      return this.details[kind].map((values) => mmel.maths.sumInside(values, this.box, this.record.grid[1]));
    }

    text(start, end) { return this.caption.slice(start, end); }

    /* The whole caption; words are coloured by the box, else by what the cosine loses without them. */
    line(inside) {
      const { words, values } = this.record;
      const coloured = inside || values;
      const scale = this.scale(inside);
      const pieces = [];
      let at = 0;
      words.forEach(([start, end], k) => {
        pieces.push(printable(this.text(at, start)), this.word(k, this.text(start, end), coloured ? coloured[k] / scale : null));
        at = end;
      });
      const rest = printable(this.text(at, this.caption.length));
      pieces.push(words.length ? el("span", { class: "faint", text: rest }) : rest);
      return el("p", { class: "caption", dir: "auto" }, pieces);
    }

    scale(inside) {
      const finite = (inside || this.record.values || []).filter(Number.isFinite).map(Math.abs);
      return Math.max(inside ? 1e-30 : LEAST_SCALE, ...finite);
    }

    word(k, text, tint) {
      const node = this.button("word", k, "line", text);
      node.classList.add("word");
      if (tint !== null && Number.isFinite(tint)) {
        node.style.backgroundColor = mmel.legends.tint(tint);
        node.classList.toggle("tinted", Math.abs(tint) > 0.5);
      }
      return node;
    }

    lineLegend(inside) {
      const scale = this.scale(inside);
      if (inside) return mmel.legends.words(`Colour of words: the sum of the evidence of this word inside the box (${boxSays(this.box)}).`, `against ${short(-scale)}`, `for ${short(scale)}`);
      if (this.record.values) return mmel.legends.words("Colour of words: what the cosine does without this word. It", `rises by ${scale.toFixed(3)}`, `falls by ${scale.toFixed(3)}`);
      return el("p", { class: "says", text: "This run has no values of words." });
    }

    phraseTable() {
      const sums = this.sums("phrases");
      const head = mmel.store.head.runs[this.run];
      const rows = this.record.phrases.map(([start, end, share], k) => el("tr", {},
        el("th", { scope: "row" }, mmel.legends.chip(k), this.button("phrase", k, "table", this.text(start, end))),
        bar(share, greatest(this.record.phrases.map((phrase) => phrase[2]))), sums ? number(sums[k], short) : null));
      return el("div", {},
        table("Phrases", ["Phrase", "Share of the cosine", ...(sums ? ["Evidence inside the box"] : [])], rows),
        sums ? el("p", { class: "says", text: "Evidence of phrases and of words can be in different units: compare within one table." }) : null,
        el("p", { class: "says", text: `A phrase's share of the cosine: ${String(head.share_says || "").replace(/\.$/, "")}.` }));
    }

    wordTable(inside) {
      const { words, shares, values, errors } = this.record;
      const most = shares ? greatest(shares) : 1;
      const rows = words.map(([start, end], k) => el("tr", {},
        el("th", { scope: "row" }, this.button("word", k, "table", this.text(start, end))),
        shares ? bar(shares[k], most) : null, values ? number(values[k], signed) : null, inside ? number(inside[k], short) : null));
      const sampled = errors ? Math.max(0, ...errors.filter(Number.isFinite)) : 0;
      const says = [];
      if (shares) says.push("A word's share of the cosine is what it adds on average over all orders of the words; shares of all words sum to the cosine minus that of no words." + (sampled ? ` Here they are estimated, with standard errors of up to ${sampled.toFixed(3)}.` : ""));
      if (values) says.push("Without it: what the cosine loses when this one word is left out of the caption; below 0 it rises.");
      if (inside) says.push("Evidence inside the box: the sum of the evidence of this word inside the box. A word's map says where, its share says how much: the map need not sum to the share.");
      return el("div", {},
        table("Words", ["Word", ...(shares ? ["Share of the cosine"] : []), ...(values ? ["Lost without it"] : []), ...(inside ? ["Evidence inside the box"] : [])], rows),
        says.map((text) => el("p", { class: "says", text })));
    }

    /* A word or phrase: a button where it has a map. */
    button(kind, index, place, text) {
      const { regions } = mmel.store.head.runs[this.run].has;
      if (!regions) return el("span", {}, said(text));
      const source = { kind, index };
      return el("button", {
        type: "button", "data-kind": kind, "data-index": index, "data-place": place, "aria-pressed": "false",
        title: `Show the evidence for this ${kind}; press to keep it`,
        onpointerenter: () => this.events.hover(source), onpointerleave: () => this.events.hover(null),
        onfocus: () => this.events.hover(source), onblur: () => this.events.hover(null), onclick: () => this.events.pin(source),
      }, said(text));
    }
  };

  /* "rows 2 to 5, columns 3 to 7" */
  const boxSays = (mmel.boxSays = ([[row0, column0], [row1, column1]]) => `rows ${row0} to ${row1}, columns ${column0} to ${column1}`);

  const greatest = (values) => Math.max(1e-30, ...values.filter(Number.isFinite).map(Math.abs));
  const number = (value, format) => el("td", { class: "number", text: format(value) });

  /* A number with a bar from 0, orange above it and blue below. */
  function bar(value, most) {
    const fill = el("i", { class: value < 0 ? "below" : "above" });
    const size = Number.isFinite(value) ? (50 * Math.abs(value)) / most : 0;
    fill.style.width = `${size}%`;
    fill.style[value < 0 ? "right" : "left"] = "50%";
    return el("td", { class: "number" }, el("span", { class: "share", "aria-hidden": "true" }, fill), signed(value));
  }

  function table(caption, heads, rows) {
    return el("table", {}, el("caption", { text: caption }), el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col", text })))), el("tbody", {}, rows));
  }
})();
