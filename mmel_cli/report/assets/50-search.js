"use strict";
/* Which records a text finds: those with all its words (or words that begin with them) in caption or id; "in quotes" as it stands. */
(function () {
  const SLICE = 2000; // records that are indexed before the page may breathe
  const LETTERS = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[^\s\p{P}\p{S}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]+/gu;
  const { store } = mmel;
  let building = null;

  const tokens = (text) => text.match(LETTERS) || [];
  const plain = (text) => text.normalize("NFKC").toLowerCase();

  /* The index, built at the first search; `progress` hears of the part that is done. */
  function index(progress) {
    building = building || build(progress);
    return building;
  }

  async function build(progress) {
    const made = new MiniSearch({ fields: ["caption", "id"], idField: "row", tokenize: tokens, processTerm: plain });
    for (let start = 0; start < store.count; start += SLICE) {
      const end = Math.min(store.count, start + SLICE);
      const documents = [];
      for (let row = start; row < end; row++) documents.push({ row, caption: store.caption(row), id: store.id(row) });
      made.addAll(documents);
      progress(end / store.count);
      await new Promise((resolve) => setTimeout(resolve));
    }
    return made;
  }

  /* A Uint8Array with 1 for each record that is found; null if the text asks for nothing. */
  mmel.search = async (text, progress) => {
    const quoted = [];
    const rest = text.replace(/"([^"]*)"?/g, (_, inner) => { if (inner.trim()) quoted.push(plain(inner)); return " "; });
    const words = tokens(rest);
    if (!quoted.length && !words.length) return null;
    const among = new Uint8Array(store.count);
    if (words.length) {
      const made = await index(progress);
      for (const result of made.search(rest, { combineWith: "AND", prefix: true })) among[result.id] = 1;
    } else {
      among.fill(1);
    }
    if (quoted.length) for (let row = 0; row < store.count; row++) if (among[row] && !quoted.every((piece) => plain(store.caption(row)).includes(piece))) among[row] = 0;
    return among;
  };
})();
