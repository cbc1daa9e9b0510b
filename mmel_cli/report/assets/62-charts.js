"use strict";
/* The page of charts: the tables and curves of an evaluation, and a scatter plot of any two numbers of the records. */
(function () {
  const { el, select } = mmel.page;
  const { store } = mmel;

  const MANY = 8; // different values, for dots that do not all lie on each other

  mmel.ChartsPage = class {
    constructor() {
      this.node = el("main", { class: "charts", id: "charts", tabindex: "-1", hidden: true });
    }

    open() {
      if (this.built) return;
      this.built = true;
      const { evaluation } = store;
      if (evaluation) {
        this.node.append(el("h2", { text: "Evaluation" }),
          el("p", { class: "says", text: `${mmel.page.count(evaluation.records, "record")} of ${mmel.page.count(evaluation.images, "image")}${evaluation.runs.length > 1 ? ` that all ${evaluation.runs.length} runs have; differences are from ${evaluation.reference}` : ""}.` }),
          ...[...mmel.evaluationTables.all(evaluation), mmel.evaluationTables.refused(evaluation)].filter(Boolean));
        this.curves(evaluation);
        this.layers(evaluation);
      }
      this.scatter();
    }

    curves(evaluation) {
      const names = [...new Set(Object.values(evaluation.curves || {}).flatMap(Object.keys))];
      if (!names.length) return;
      const place = el("div", { class: "plots" });
      this.node.append(el("h2", { text: "Curves" }), el("p", { class: "says", text: "Mean over records; the band is 1.96 standard errors to each side, over images." }), place);
      for (const name of names) {
        const at = (evaluation.curves_at || {})[name];
        const lines = Object.entries(evaluation.curves).filter(([, table]) => table[name]).map(([label, table]) => {
          const { mean, error } = table[name];
          return { label, mean, error, x: mean.map((_, k) => 100 * (at ? at[k] : k / Math.max(1, mean.length - 1))) };
        });
        const way = name.includes("insertion") ? "put back" : name.includes("deletion") ? "taken away" : "changed";
        const of = name.startsWith("word") ? "words and patches" : "pixels";
        mmel.plots.lines(place, { title: name, across: `% of ${of} ${way}, highest first`, up: name.endsWith("probability") ? "probability of the caption" : "cosine", lines });
      }
    }

    layers(evaluation) {
      const numbers = Object.fromEntries(evaluation.runs.map((run) => [run.label, run.layers]));
      const names = [...new Set(Object.values(evaluation.layers || {}).flatMap(Object.keys))].map((name) => name.split("/").at(-1));
      const metrics = [...new Set(names)];
      if (!metrics.length) return;
      const place = el("div", { class: "plots" });
      this.node.append(el("h2", { text: "Layer by layer" }), el("p", { class: "says", text: "The raw map of each layer scored alone; the band is 1.96 standard errors to each side." }), place);
      for (const metric of metrics) {
        const lines = Object.entries(evaluation.layers).flatMap(([label, table]) => Object.entries(table)
          .filter(([key]) => key.endsWith(`/${metric}`))
          .map(([key, { mean, error }]) => ({ label: `${label}: ${key.slice(0, -metric.length - 1)}`, mean, error, x: numbers[label] || mean.map((_, k) => k + 1) })));
        for (const x of new Set(lines.map((line) => String(line.x)))) { // runs of other layers have a plot of their own
          mmel.plots.lines(place, { title: `${metric} of each layer's map`, across: "layer", up: metric, lines: lines.filter((line) => String(line.x) === x) });
        }
      }
    }

    /* Numbers that a record has: [key, name, values]. */
    numbers() {
      const { runs, metrics } = store.head;
      const several = runs.length > 1;
      const of = (run) => (several ? ` of ${runs[run].label}` : "");
      const list = [];
      (metrics || []).forEach((metric, m) => list.push([`metric:${m}`, `${metric.label}${of(metric.run)}`, () => store.column(`metric:${m}`, 0), metric.label]));
      runs.forEach((_, run) => {
        list.push([`score ${run}`, `cosine${of(run)}`, () => store.column("score", run), "cosine"]);
        list.push([`evidence ${run}`, `evidence for${of(run)}`, () => store.column("evidence", run), "evidence"]);
        list.push([`against ${run}`, `evidence against${of(run)}`, () => store.column("against_evidence", run), "against"]);
        if (store.has("rank", run)) list.push([`rank ${run}`, `match rank${of(run)}`, () => store.column("rank", run), "rank"]);
      });
      if (several && store.has("difference", 0)) list.push(["difference", "difference between runs", () => store.column("difference", 0), "difference"]);
      return list;
    }

    scatter() {
      if (!store.count) return;
      const numbers = this.numbers();
      const pair = this.firstPair(numbers);
      const options = numbers.map(([key, name]) => [key, name]);
      const plot = el("div");
      let chosen = pair;
      const draw = () => {
        plot.replaceChildren();
        const [one, other] = chosen.map((key) => numbers.find((number) => number[0] === key));
        const [x, y] = [one[2](), other[2]()];
        const rows = Array.from({ length: store.count }, (_, i) => i).filter((i) => !Number.isNaN(x[i]) && !Number.isNaN(y[i]));
        if (!rows.length) {
          plot.append(el("p", { class: "none", text: "No record has both numbers." }));
          return;
        }
        this.plot = mmel.plots.scatter(plot, { across: one[1], up: other[1], rows, x: rows.map((i) => x[i]), y: rows.map((i) => y[i]), diagonal: one[3] === other[3] && one[0] !== other[0] });
      };
      this.node.append(el("h2", { text: "Record by record" }),
        el("div", { class: "tools" }, select("Across", options, pair[0], (key) => { chosen = [key, chosen[1]]; draw(); }), select("Up", options, pair[1], (key) => { chosen = [chosen[0], key]; draw(); })), plot);
      draw();
    }

    /* The first number that two runs have and that takes many values, else the first two numbers. */
    firstPair(numbers) {
      const many = numbers.filter(([, , values]) => new Set(values()).size > MANY);
      for (const [key, , , kind] of many) {
        const twin = many.find((other) => other[3] === kind && other[0] !== key);
        if (twin) return [key, twin[0]];
      }
      return [numbers[0][0], numbers[1][0]];
    }
  };
})();
