"use strict";
/* The tables of an evaluation: means with intervals, differences from the reference, and who cannot be told from the best. */
(function () {
  const { el, said } = mmel.page;
  const ALPHA = 0.05;
  const FEW = 12; // images
  const tables = (mmel.evaluationTables = {});

  tables.all = (evaluation) => {
    const groups = new Map();
    for (const [name, metric] of Object.entries(evaluation.metrics || {})) {
      if (!groups.has(metric.group)) groups.set(metric.group, []);
      groups.get(metric.group).push([name, metric]);
    }
    const labels = evaluation.runs.map((run) => run.label);
    return [...groups].map(([group, metrics]) => el("section", {}, el("h3", { text: group }), table(group, metrics, labels, evaluation)));
  };

  function table(group, metrics, labels, evaluation) {
    const interval = evaluation.confidence ? `${+(100 * evaluation.confidence).toFixed(1)} % interval` : "interval";
    const rows = metrics.map(([name, metric]) => {
      const best = tables.best(metric, labels, evaluation.reference);
      return el("tr", {},
        el("th", { scope: "row", title: metric.definition }, name, el("span", { class: "faint small", text: ` ${better(metric)}` }), el("span", { class: "definition", text: metric.definition })),
        labels.map((label) => cell(metric, label, best, evaluation.reference)));
    });
    const few = evaluation.images < FEW ? ` There are ${evaluation.images} images: with so few, a p that is corrected for all comparisons is hardly ever below ${ALPHA}, however far means are apart.` : "";
    const says = `Mean over records, with its ${interval} in brackets (images are drawn, not records). Bold: the best mean, and \u201ctie\u201d: those that cannot be told from it, by the paired difference from ${evaluation.reference} (corrected p of ${ALPHA} or more) where one of the two is that run, else since the two intervals overlap. Nothing is bold where all are tied.${few}`;
    return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Table of ${group}` },
      el("table", { class: "metrics" }, el("caption", { class: "unseen", text: group }),
        el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "Metric" }), labels.map((label) => el("th", { scope: "col" }, said(named(label)), label === evaluation.reference && labels.length > 1 ? el("span", { class: "faint small", text: " reference" }) : null)))),
        el("tbody", {}, rows)),
      el("p", { class: "says", text: labels.length > 1 ? says : `Mean over records, with its ${interval} in brackets (images are drawn, not records).` }));
  }

  /* A run's label, with its method where the report shows the run. */
  function named(label) {
    const run = mmel.store.head.runs.findIndex((other) => other.label === label);
    return run < 0 ? label : mmel.page.title(run);
  }

  /* What could not be scored, and why. */
  tables.refused = (evaluation) => {
    const refused = Object.entries(evaluation.refused || {}).flatMap(([label, reasons]) => [...new Set(Object.values(reasons))].map((why) => {
      const names = Object.keys(reasons).filter((name) => reasons[name] === why);
      return el("li", {}, said(label), `, ${names.join(", ")}: `, said(why));
    }));
    const failed = Object.entries(evaluation.failed || {}).filter(([, count]) => count).map(([label, count]) => el("li", {}, said(label), `: ${mmel.page.count(count, "record")} could not be scored`));
    const items = [...refused, ...failed];
    return items.length ? el("section", {}, el("h3", { text: "Not scored" }), el("ul", { class: "says" }, items)) : null;
  };

  /* Which end of a metric is better: 1 the upper, -1 the lower, 0 neither. */
  const way = (metric) => ({ up: 1, higher: 1, down: -1, lower: -1 })[metric.better] || 0;
  const better = (metric) => ["lower is better", "no better end", "higher is better"][way(metric) + 1];
  const shown = (value) => (Number.isFinite(value) ? value.toFixed(3).replace("-", "\u2212") : "–");

  function cell(metric, label, best, reference) {
    const own = (metric.runs || {})[label];
    if (!own || own.mean === null) return el("td", { class: "number", text: "–" });
    const other = (metric.differences || {})[label];
    const p = other && (other.p_holm ?? other.p);
    const wins = best.names.includes(label);
    return el("td", { class: "number" },
      el(wins && !best.all ? "b" : "span", { text: shown(own.mean) }), ` [${shown(own.low)}, ${shown(own.high)}]`,
      wins && best.names.length > 1 ? el("span", { class: "tie", text: "tie" }) : null,
      other && other.mean !== null ? el("span", { class: "against", text: `${other.mean > 0 ? "+" : ""}${shown(other.mean)} [${shown(other.low)}, ${shown(other.high)}] from ${reference}${p === null || p === undefined ? "" : `, p ${p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`}`}` }) : null,
      own.undefined ? el("span", { class: "against", text: `undefined on ${own.undefined}` }) : null);
  }

  /* The best mean and those not told from it, and whether that is all of them: {names, all}. */
  tables.best = (metric, labels, reference) => {
    const had = labels.filter((label) => metric.runs && metric.runs[label] && metric.runs[label].mean !== null);
    if (had.length < 2 || !way(metric)) return { names: [] };
    const top = had.reduce((a, b) => (way(metric) * metric.runs[b].mean > way(metric) * metric.runs[a].mean ? b : a));
    const names = had.filter((label) => label === top || tied(metric, top, label, reference));
    return { names, all: names.length === had.length };
  };

  function tied(metric, top, label, reference) {
    const [one, other] = [metric.runs[top], metric.runs[label]];
    if (one.mean === other.mean) return true;
    const compared = top === reference ? metric.differences?.[label] : label === reference ? metric.differences?.[top] : null;
    if (compared) {
      const p = compared.p_holm ?? compared.p;
      if (p !== null && p !== undefined) return p >= ALPHA;
    }
    return one.low !== null && other.low !== null && one.low <= other.high && other.low <= one.high;
  }
})();
