"use strict";
/* What stands above everything, the failed pairs, what the runs are, and the keys. */
(function () {
  const { el, said } = mmel.page;
  const { store } = mmel;
  const about = (mmel.about = {});

  about.header = (tabs) => {
    const { head } = store;
    return el("header", { class: "top" },
      el("div", { class: "titles" }, el("h1", {}, said(head.title)), el("p", { class: "faint small" }, "mmel, ", el("time", { text: head.created }))),
      el("nav", { class: "tabs", "aria-label": "Parts of the report" }, tabs.map(([address, text]) => el("a", { href: address, text }))),
      about.marks());
  };

  /* What a map of a run cannot carry. */
  about.marks = () => {
    const { runs, marks } = store.head;
    const marked = (name) => runs.filter((run) => (run.marks || []).includes(name));
    const items = Object.keys(marks).filter((name) => marked(name).length).map((name) => el("li", {}, mmel.page.badge(marks[name]), " ",
      marked(name).length < runs.length ? [said(mmel.page.listed(marked(name).map((run) => run.label))), ": "] : runs.length > 1 ? "all runs: " : null, marks[name].says));
    return items.length ? el("ul", { class: "marks banner", "aria-label": "About the whole run" }, items) : null;
  };

  about.failed = () => {
    const { failures, failed, runs } = store.head;
    const all = failed.reduce((a, b) => a + b, 0);
    const several = runs.length > 1;
    return el("main", { class: "failed", id: "failed", tabindex: "-1", hidden: true }, el("h2", { text: `${mmel.page.count(all, "pair")} failed` }),
      el("div", { class: "scroll" }, el("table", {}, el("caption", { class: "unseen", text: "Failed pairs" }),
        el("thead", {}, el("tr", {}, [...(several ? ["Run"] : []), "Pair", "Stage", "Reason"].map((text) => el("th", { scope: "col", text })))),
        el("tbody", {}, failures.map((failure) => el("tr", {}, several ? el("td", {}, said(runs[failure.run].label)) : null, el("th", { scope: "row" }, said(failure.id)), el("td", { text: failure.stage }), el("td", {}, said(failure.error))))))),
      all > failures.length ? el("p", { class: "says", text: `And ${(all - failures.length).toLocaleString("en")} more in failures.jsonl of the run.` }) : null);
  };

  about.page = () => {
    const rows = [["Model", (run) => run.model], ["Method", (run) => run.method], ["Gradient", (run) => run.gradient || "–"], ["Weights of the method", (run) => run.trained || "–"],
      ["Geometry", (run) => run.geometry], ["Grid", (run) => `${run.grid[0]} rows, ${run.grid[1]} columns`], ["Layers", (run) => run.layers.join(", ")],
      ["Percentile that colours end at", (run) => String(run.normalise.percentile)], ["That of the whole run", (run) => (run.scale ? mmel.page.exact(run.scale.top) : "–")],
      ["Greatest magnitude of the run", (run) => (run.scale ? mmel.page.exact(run.scale.strongest) : "–")]];
    const { runs } = store.head;
    const link = (address, text) => (address && mmel.facts.path(address) ? el("a", { href: mmel.facts.path(address), text }) : "–");
    return el("main", { class: "about", id: "about", tabindex: "-1", hidden: true }, el("h2", { text: runs.length > 1 ? "The runs" : "The run" }),
      el("div", { class: "scroll" }, el("table", { class: "facts" }, el("caption", { class: "unseen", text: "What each run is" }),
        runs.length > 1 ? el("thead", {}, el("tr", {}, el("td"), runs.map((run) => el("th", { scope: "col" }, said(run.label))))) : null,
        el("tbody", {}, rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row", text: name }), runs.map((run) => el("td", {}, said(value(run)))))),
          el("tr", {}, el("th", { scope: "row", text: "Settings" }), runs.map((run) => el("td", {}, link(run.links.run, "run.yaml"))))))),
      el("p", { class: "says", text: "All numbers of maps are in the map's own unit, as archived. Units differ between methods: places can be compared between methods, strengths cannot." }));
  };

  about.keys = () => {
    const rows = [["\u2190 or k", "previous record"], ["\u2192 or j", "next record"], ["o", "overlay on or off"], ["s", "for, or for and against"], ["l", "to the layers"], ["w", "to the words"],
      ["Shift and arrows", "on a picture: read one cell after another"], ["Enter", "on a picture: begin a box at the cell that is read, and end it"], ["Ctrl and wheel, + or \u2212", "larger or smaller"], ["0", "whole picture"], ["/", "to the search"], ["Esc", "let go what is pinned, take the box away, back to all records"], ["?", "this list"]];
    const box = el("dialog", { class: "keys", "aria-label": "Keys" }, el("h2", { text: "Keys" }),
      el("dl", {}, rows.map(([key, text]) => [el("dt", {}, el("kbd", { text: key })), el("dd", { text })])),
      el("button", { type: "button", text: "Close", onclick: () => box.close() }));
    return box;
  };
})();
