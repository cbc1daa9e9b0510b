"use strict";
/* Which records the gallery shows, in which order, and how they are grouped by image. */
(function () {
  const { store } = mmel;
  const order = (mmel.order = {});
  const ids = new Intl.Collator("en", { numeric: true });

  /* What records can be sorted by: [key, name, whether the greatest is first by default]. */
  order.keys = (run) => {
    const keys = [["run", "order of the run", false]];
    if (store.head.runs.length > 1 && store.has("difference", 0)) keys.push(["difference", "difference between runs", true]);
    keys.push(["score", "score (cosine)", true]);
    if (store.has("rank", run)) keys.push(["rank", "match (rank of the caption)", true]);
    keys.push(["evidence", "evidence for", true], ["against_evidence", "evidence against", true], ["id", "id", false]);
    const several = store.head.runs.length > 1;
    (store.head.metrics || []).forEach((metric, m) => {
      keys.push([`metric:${m}`, several ? `${metric.label} of ${mmel.page.title(metric.run)}` : metric.label, metric.better === "higher"]);
    });
    return keys;
  };

  /* The value that a record is sorted by, as text; null where the gallery shows it anyway. */
  order.shown = (key, i) => {
    if (key === "evidence" || key === "against_evidence") return null;
    if (key === "difference") return `difference ${mmel.page.short(store.text("difference", i) ?? NaN)}`;
    if (!key.startsWith("metric:")) return null;
    const metric = store.head.metrics[Number(key.slice(7))];
    return `${metric.label} ${mmel.page.short(store.metric(Number(key.slice(7)), i) ?? NaN)}`;
  };

  /* Rows in order. `wish`: {key, down, run, marks: Set, found: Uint8Array or null}. Records without the value come last. */
  order.rows = ({ key, down, run, marks, found }) => {
    const rows = [];
    const names = store.head.mark_names || [];
    let mask = 0;
    for (const name of marks) if (names.includes(name)) mask |= 1 << names.indexOf(name);
    for (let i = 0; i < store.count; i++) {
      if (found && !found[i]) continue;
      if (marks.size && !marked(i, mask, marks.has(""))) continue;
      rows.push(i);
    }
    if (key === "run") return Int32Array.from(down ? rows.reverse() : rows);
    if (key === "id") {
      rows.sort((a, b) => ids.compare(store.id(a), store.id(b)) || a - b);
      return Int32Array.from(down ? rows.reverse() : rows);
    }
    const values = store.column(key, run);
    const way = down ? -1 : 1;
    rows.sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
      return way * (x - y) || a - b;
    });
    return Int32Array.from(rows);
  };

  /* Whether any run gives the record one of these marks; "" among the wishes is to have none. */
  function marked(i, mask, none) {
    let bits = 0;
    for (let run = 0; run < store.head.runs.length; run++) bits |= store.ofRun("marks", i, run) || 0;
    return (bits & mask) !== 0 || (none && bits === 0);
  }

  /* How many records have each mark under any run, by bit; the last: how many have none. */
  order.counts = () => {
    const counts = new Array((store.head.mark_names || []).length + 1).fill(0);
    for (let i = 0; i < store.count; i++) {
      let bits = 0;
      for (let run = 0; run < store.head.runs.length; run++) bits |= store.ofRun("marks", i, run) || 0;
      for (let bit = 0; bit < counts.length - 1; bit++) if (bits & (1 << bit)) counts[bit]++;
      if (!bits) counts[counts.length - 1]++;
    }
    return counts;
  };

  /* Rows grouped by image, a group where its first row stands. */
  order.groups = (rows) => {
    const images = store.images();
    const at = new Int32Array(store.imageCount).fill(-1);
    const groups = [];
    for (const row of rows) {
      const image = images[row];
      if (at[image] < 0) {
        at[image] = groups.length;
        groups.push([]);
      }
      groups[at[image]].push(row);
    }
    return groups;
  };
})();
