"use strict";
/* Starts the page when all data of the start are there, and shows the part that the address names. */
(function () {
  const { el } = mmel.page;
  const { store } = mmel;
  const main = (mmel.main = {});
  let parts = {};
  let shown = null;
  let scrolled = 0;

  main.start = () => {
    const root = document.getElementById("app");
    if (!store.head) {
      root.replaceChildren(el("p", { class: "problem", role: "alert", text: "report/data/head.js could not be read: keep the folder whole, or make the report again with mmel report." }));
      return;
    }
    store.ready();
    document.title = `mmel: ${mmel.page.printable(store.head.title)}`;
    mmel.display.set({ opacity: store.head.opacity });
    const gallery = new mmel.Gallery();
    const record = new mmel.RecordPage(() => gallery.flat || new Int32Array(0));
    
    const help = mmel.about.keys();
    parts = { gallery, record, charts: new mmel.ChartsPage(), failed: { node: mmel.about.failed() }, about: { node: mmel.about.page() } };
    Object.assign(mmel, { gallery, recordPage: record, charts: parts.charts });
    const failed = store.head.failed.reduce((a, b) => a + b, 0);
    const tabs = [["#", "Records"], ["#charts", store.evaluation ? "Evaluation" : "Charts"], ...(failed ? [["#failed", `Failed (${failed.toLocaleString("en")})`]] : []), ["#about", store.head.runs.length > 1 ? "Runs" : "Run"]];
    const keys = el("button", { type: "button", class: "help", text: "?", "aria-label": "Keys", title: "Keys (?)", onclick: () => help.showModal() });
    const skip = el("button", { type: "button", class: "skip", text: "To the content", onclick: () => parts[shown].node.focus() });
    const header = mmel.about.header(tabs);
    header.querySelector("nav").append(keys);
    main.tabs = header.querySelectorAll("nav a");
    root.replaceChildren(skip, header, ...(store.missing.length ? [el("p", { class: "problem", role: "alert", text: `Could not be read: ${store.missing.join(", ")}. Keep the folder whole, or make the report again with mmel report.` })] : []),
      ...(store.others.length ? [el("p", { class: "problem", role: "alert", text: `Does not belong to this report: ${store.others.join(", ")}. Make it again with mmel report.` })] : []),
      ...Object.values(parts).map((part) => part.node), help);
    mmel.keys({ record, gallery, help });
    window.addEventListener("hashchange", main.route);
    main.route();
  };

  main.route = () => {
    const address = location.hash.slice(1);
    if (address in parts && address !== "gallery" && address !== "record") {
      show(address);
      if (parts[address].open) parts[address].open();
      return;
    }
    const said = new URLSearchParams(address.replaceAll("+", "%2B"));
    const row = said.has("n") ? Number(said.get("n")) : said.has("r") ? store.rowOf(said.get("r")) : null;
    parts.gallery.miss(null);
    if (row === null) {
      const first = !parts.gallery.groups;
      show("gallery");
      if (first || `#${address}` !== parts.gallery.address) parts.gallery.read(said, `#${address}`);
      else if (parts.gallery.across() !== parts.gallery.columns) parts.gallery.lay();
      return;
    }
    if (!parts.gallery.groups) parts.gallery.read(new URLSearchParams(), "#").then(() => { if (shown === "record") parts.record.tellPlace(); });
    if (!(row >= 0 && row < store.count)) {
      show("gallery");
      parts.gallery.miss(said.get("r") ?? said.get("n"));
      return;
    }
    show("record");
    parts.record.open(row, parts.gallery.address);
  };

  /* The address of a wish of the gallery; no entry in the history. */
  main.rewrite = (address) => {
    main.tabs[0].href = address;
    if (shown === "gallery" && location.hash !== address) location.replace(address);
  };

  function show(name) {
    if (shown === "gallery" && name !== "gallery") scrolled = window.scrollY;
    const turned = shown !== null && shown !== name;
    shown = name;
    for (const [key, part] of Object.entries(parts)) part.node.hidden = key !== name;
    const at = name === "gallery" || name === "record" ? 0 : [...main.tabs].findIndex((tab) => tab.hash === `#${name}`);
    main.tabs.forEach((tab, k) => { if (k === at) tab.setAttribute("aria-current", "page"); else tab.removeAttribute("aria-current"); });
    if (!turned) return;
    window.scrollTo(0, name === "gallery" ? scrolled : 0);
    parts[name].node.focus({ preventScroll: true });
  }

  document.addEventListener("DOMContentLoaded", main.start);
})();
