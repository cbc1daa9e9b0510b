"use strict";
/* What a record's page says in numbers and sentences: score, match, evidence, metrics, marks, and where it is archived. */
(function () {
  const { el, said, short, cosine, exact } = mmel.page;
  const { store } = mmel;
  const facts = (mmel.facts = {});

  facts.rank = (i, run) => {
    const [rank, among] = [store.ofRun("rank", i, run), store.ofRun("among", i, run)];
    return rank === null || among === null ? null : among < 2 ? "no other caption to compare with" : `${rank} of ${among}`;
  };

  facts.rankSays = (i, run) => {
    const [rank, among] = [store.ofRun("rank", i, run), store.ofRun("among", i, run)];
    if (rank === null || among === null || among < 2) return null;
    const others = mmel.page.count(among - 1, "other caption");
    return rank === 1 ? `None of the ${others} compared scores as high on this image.` : `${rank - 1} of the ${others} compared ${rank === 2 ? "scores" : "score"} at least as high on this image.`;
  };

  /* A table, one column a run. */
  facts.table = (i) => {
    const { runs, metrics } = store.head;
    const rows = [["Cosine of image and caption", (run) => exact(store.ofRun("score", i, run))]];
    if (store.against(i) !== null) rows.push(["Cosine of image and the other text", (run) => blank(store.ofRun("against_score", i, run), exact)]);
    if (runs.some((_, run) => facts.rank(i, run) !== null)) rows.push(["Match: rank of the caption by its score", (run) => facts.rank(i, run) ?? "–"]);
    rows.push(["Evidence for: sum of the map's values above 0", (run) => blank(store.ofRun("evidence", i, run), short)]);
    rows.push(["Evidence against: sum of its values below 0", (run) => blank(store.ofRun("against_evidence", i, run), (value) => short(-value))]);
    (metrics || []).forEach((metric, m) => {
      if (store.metric(m, i) === null && !runs[metric.run]) return;
      const label = metric.label;
      let row = rows.find((other) => other.metric === label);
      if (!row) {
        row = Object.assign([metric.better === "neither" ? label : `${label} (${metric.better} is better)`, (run) => (row.of[run] === undefined ? "–" : blank(store.metric(row.of[run], i), short))], { metric: label, of: {}, title: metric.definition });
        rows.push(row);
      }
      row.of[metric.run] = m;
    });
    const several = runs.length > 1;
    return el("table", { class: "facts" },
      el("caption", { class: several ? "" : "unseen", text: "Numbers of this record" }),
      several ? el("thead", {}, el("tr", {}, el("td"), runs.map((run) => el("th", { scope: "col" }, said(run.label))))) : null,
      el("tbody", {}, rows.map((row) => el("tr", {}, el("th", { scope: "row", title: row.title, text: row[0] }), runs.map((_, run) => el("td", { class: "number", text: row[1](run) }))))));
  };

  const blank = (value, format) => (value === null || value === undefined ? "–" : format(value));

  /* The marks of a record, as sentences. */
  facts.marks = (i) => {
    const runs = store.head.runs;
    const items = runs.flatMap((run, r) => mmel.page.marksOf(i, r).map((mark) => el("li", {}, mmel.page.badge(mark), " ", runs.length > 1 ? [said(run.label), ": "] : null, mark.says)));
    return items.length ? el("ul", { class: "marks" }, items) : null;
  };

  /* Where the numbers lie, and the line that reads them. */
  facts.source = (i) => el("section", { class: "source" }, el("h3", { text: "In the archive" }), store.head.runs.map((run, r) => {
    const links = run.links || {};
    const shard = links.archive ? links.archive[store.ofRun("shard", i, r)] : null;
    const row = store.ofRun("row", i, r);
    const file = shard ? decoded(shard) : "";
    const line = `from mmel_cli.archive import load_archive; load_archive(${JSON.stringify(file)})[${JSON.stringify(store.id(i))}].map`;
    return el("p", { class: "says" }, store.head.runs.length > 1 ? [said(run.label), ": "] : null,
      links.run ? [el("a", { href: facts.path(links.run), text: "run.yaml" }), ", "] : null,
      shard ? ["row ", el("b", { text: String(row) }), " of ", el("a", { href: facts.path(shard), text: file }), ". In Python, from the report's folder: ", el("code", { text: line })] : null);
  }));

  /* An address within folders; nothing else becomes a link. */
  facts.path = (address) => (store.relative(address) ? address : null);

  function decoded(address) {
    try {
      return decodeURIComponent(address);
    } catch {
      return address; // the name of the file is no text
    }
  }

  facts.cosineOf = (i, run) => cosine(store.ofRun("score", i, run));
})();
