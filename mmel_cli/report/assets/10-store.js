"use strict";
/* Data of the report: what the data files register, how a record is read from them, and chunks that come when needed. */
(function () {
  const mmel = (window.mmel = {});
  const BUDGET = 32 * 2 ** 20; // bytes of decoded chunks that are kept
  const requested = new Map(); // chunk name -> {promise, resolve, reject}
  const kept = new Map(); // chunk name -> chunk, the one used last at the end
  const inlined = new Map(); // chunks that a single file holds: never let go
  const parts = [];
  const columns = new Map();
  let keptBytes = 0;
  let rowById = null;

  const store = (mmel.store = { head: null, evaluation: null, missing: [], others: [] });

  mmel.head = (head) => { store.head = head; };
  mmel.records = (k, part, build) => { if (belongs(`records-${pad(k)}`, build)) parts[k] = part; };
  mmel.evaluation = (evaluation, build) => { if (belongs("eval", build)) store.evaluation = evaluation; };
  mmel.maps = (run, k, chunk, build) => arrive(nameOf("maps", run, k), build, () => decodeMaps(run, chunk));
  mmel.details = (run, k, chunk, build) => arrive(nameOf("details", run, k), build, () => decodeDetails(run, chunk));

  /* Whether a file that is loaded at the start is of the same build as the head, which comes first; others are named. */
  function belongs(name, build) {
    const same = store.head !== null && build === store.head.build;
    if (!same) store.others.push(`report/data/${name}.js`);
    return same;
  }

  /* After all files of records: how many records there are, and the files that did not load. */
  store.ready = () => {
    const files = Math.ceil(store.head.records / store.head.sizes.records);
    store.missing = [];
    let whole = true;
    for (let k = 0; k < files; k++) {
      const path = `report/data/records-${pad(k)}.js`;
      if (!parts[k] && !store.others.includes(path)) store.missing.push(path);
      whole = whole && Boolean(parts[k]);
    }
    store.count = whole ? store.head.records : 0;
  };

  const place = (i) => [parts[Math.floor(i / store.head.sizes.records)], i % store.head.sizes.records];

  store.text = (name, i) => { const [part, at] = place(i); return part[name] ? part[name][at] : null; };
  store.id = (i) => store.text("id", i);
  store.caption = (i) => store.text("caption", i);
  store.against = (i) => store.text("against", i);
  store.size = (i) => store.text("size", i);
  store.truncated = (i) => Boolean(store.text("truncated", i));
  store.ofRun = (name, i, run) => {
    const [part, at] = place(i);
    const column = part.runs[run] ? part.runs[run][name] : null;
    return column ? column[at] : null;
  };
  store.metric = (m, i) => { const [part, at] = place(i); return part.metrics && part.metrics[m] ? part.metrics[m][at] : null; };

  /* Whether an address is one within folders: it names no scheme and no host. */
  store.relative = (address) => !/^([a-z][a-z0-9+.-]*:|[/\\])/i.test(address);

  /* The address of a picture, relative to the report, or the picture itself; "" for none. */
  store.picture = (name, i) => {
    const path = store.text(name, i) || "";
    return store.relative(path) || path.startsWith("data:image/") ? path : "";
  };

  /* The row of an id, -1 if there is none. */
  store.rowOf = (id) => {
    if (!rowById) {
      rowById = new Map();
      for (let i = store.count - 1; i >= 0; i--) rowById.set(store.id(i), i);
    }
    return rowById.has(id) ? rowById.get(id) : -1;
  };

  /* Numbers of all records by a key "score", "rank", "evidence", "against_evidence" (of a run), "difference" or
     "metric:3"; NaN where there is none. */
  store.column = (key, run) => {
    const name = `${key} ${run}`;
    if (!columns.has(name)) {
      const values = new Float64Array(store.count);
      const number = key.startsWith("metric:") ? Number(key.slice(7)) : null;
      for (let i = 0; i < store.count; i++) {
        const value = number !== null ? store.metric(number, i)
          : key === "difference" ? store.text("difference", i) : store.ofRun(key, i, run);
        values[i] = value === null || value === undefined ? NaN : value;
      }
      columns.set(name, values);
    }
    return columns.get(name);
  };
  store.has = (key, run) => store.column(key, run).some((value) => !Number.isNaN(value));

  /* For each record the number of its image, in order of first appearance. */
  store.images = () => {
    if (!store.imageNumbers) {
      const numbers = new Map();
      store.imageNumbers = new Int32Array(store.count);
      for (let i = 0; i < store.count; i++) {
        const image = store.text("image", i);
        if (!numbers.has(image)) numbers.set(image, numbers.size);
        store.imageNumbers[i] = numbers.get(image);
      }
      store.imageCount = numbers.size;
    }
    return store.imageNumbers;
  };

  /* Promises of {map, grid, box, words, values, shares, errors, phrases} and of {layers, words, phrases, rests}. */
  store.map = (run, i) => fetchRow("maps", run, i, store.head.sizes.maps);
  store.details = (run, i) => fetchRow("details", run, i, store.head.sizes.details);

  async function fetchRow(kind, run, i, size) {
    const chunk = await load(kind, run, Math.floor(i / size));
    return chunk.row(i % size);
  }

  function load(kind, run, k) {
    const name = nameOf(kind, run, k);
    const chunk = inlined.get(name) || kept.get(name);
    if (chunk) {
      if (kept.delete(name)) kept.set(name, chunk);
      return Promise.resolve(chunk);
    }
    if (!requested.has(name)) request(name);
    return requested.get(name).promise;
  }

  function request(name) {
    const entry = {};
    entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    requested.set(name, entry);
    const path = `report/data/${name}.js`;
    const script = document.createElement("script");
    const fail = (why) => { requested.delete(name); entry.reject(new Error(`${path} ${why}`)); };
    script.addEventListener("load", () => {
      script.remove();
      if (requested.get(name) === entry) fail("does not hold what its name says; make the report again");
    });
    script.addEventListener("error", () => {
      script.remove();
      fail("could not be read; keep the folder whole, or make the report again");
    });
    script.src = path;
    document.head.append(script);
  }

  function arrive(name, build, decode) {
    const entry = requested.get(name);
    if (!store.head || build !== store.head.build) {
      requested.delete(name);
      if (entry) entry.reject(new Error(`report/data/${name}.js does not belong to this report; make it again with mmel report`));
      return;
    }
    const chunk = decode();
    if (!entry) {
      inlined.set(name, chunk);
      return;
    }
    requested.delete(name);
    kept.set(name, chunk);
    keptBytes += chunk.bytes;
    for (const [oldest, other] of kept) {
      if (keptBytes <= BUDGET || oldest === name) break;
      kept.delete(oldest);
      keptBytes -= other.bytes;
    }
    entry.resolve(chunk);
  }

  function decodeMaps(run, chunk) {
    const [h, w] = store.head.runs[run].grid;
    const maps = floats(chunk.map);
    const row = (at) => ({
      map: maps.subarray(at * h * w, (at + 1) * h * w), grid: [h, w], box: chunk.box[at],
      words: part(chunk.words, at) || [], values: part(chunk.values, at), shares: part(chunk.shares, at),
      errors: part(chunk.errors, at), phrases: part(chunk.phrases, at) || [],
    });
    return { row, bytes: maps.byteLength + 400 * chunk.box.length };
  }

  function decodeDetails(run, chunk) {
    const [h, w] = store.head.runs[run].grid;
    const layers = Object.entries(chunk.layers || {}).map(([name, text]) => [name, floats(text)]);
    const depth = store.head.runs[run].layers.length;
    const sheets = (text) => (text ? split(floats(text), h * w) : []);
    const row = (at) => ({
      layers: layers.map(([name, all]) => ({ name, maps: split(all.subarray(at * depth * h * w, (at + 1) * depth * h * w), h * w) })),
      words: sheets(part(chunk.words, at)), phrases: sheets(part(chunk.phrases, at)), rests: part(chunk.rests, at),
    });
    const texts = [...(chunk.words || []), ...(chunk.phrases || [])];
    const bytes = layers.reduce((sum, [, all]) => sum + all.byteLength, 0) + texts.reduce((sum, t) => sum + (t ? t.length : 0), 0);
    return { row, bytes };
  }

  const part = (list, at) => (list ? list[at] : null);
  const pad = (k) => String(k).padStart(5, "0");
  const nameOf = (kind, run, k) => `${kind}-${run}-${pad(k)}`;

  function split(values, length) {
    const pieces = [];
    for (let start = 0; start < values.length; start += length) pieces.push(values.subarray(start, start + length));
    return pieces;
  }

  /* base64 of little-endian float32 */
  function floats(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return new Float32Array(bytes.buffer);
  }
  store.floats = floats;
})();
