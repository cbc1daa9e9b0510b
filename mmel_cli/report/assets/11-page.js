"use strict";
/* Elements made without markup, and numbers and names as the page shows them. */
(function () {
  const page = (mmel.page = {});

  /* An element. `set`: class, text, attributes, and listeners as "on..."; children: elements, texts, lists, null. */
  page.el = (tag, set = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(set)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "class") node.className = value;
      else if (name === "text") node.textContent = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  };

  /* Text of the input: its direction is its own, and what cannot be printed is a mark. */
  page.said = (text, set = {}) => page.el("bdi", { ...set, text: page.printable(text) });
  page.printable = (text) => String(text).replace(/[\p{Cc}\p{Cs}\p{Co}\p{Cn}\u202a-\u202e\u2066-\u2069]/gu, (c) => (/\s/.test(c) ? c : "\ufffd"));

  page.colour = (rgb) => `rgb(${Math.round(rgb[0])}, ${Math.round(rgb[1])}, ${Math.round(rgb[2])})`;

  /* A choice of a few, as radio buttons in a row. */
  let groups = 0;
  page.choice = (label, options, chosen, change) => {
    const name = `choice-${groups++}`;
    const box = page.el("fieldset", { class: "choice" }, page.el("legend", { text: label }));
    for (const [value, text, title] of options) {
      const input = page.el("input", { type: "radio", name, value, onchange: () => change(value) });
      input.checked = value === chosen;
      box.append(page.el("label", { title }, input, page.el("span", { text })));
    }
    box.choose = (value) => { for (const input of box.querySelectorAll("input")) input.checked = input.value === value; };
    box.allow = (value, allowed) => {
      for (const input of box.querySelectorAll("input")) if (input.value === value) input.disabled = !allowed;
    };
    return box;
  };

  page.select = (label, options, chosen, change) => {
    const list = page.el("select", { onchange: () => change(list.value) });
    for (const [value, text] of options) list.append(page.el("option", { value, text }));
    list.value = chosen;
    const box = page.el("label", { class: "field" }, page.el("span", { text: label }), list);
    box.list = list;
    return box;
  };

  /* 6 significant digits of an archived float32; a true minus sign. */
  page.exact = (value) => (Number.isFinite(value) ? minus(value === 0 ? "0" : Number(value).toPrecision(6)) : "not a number");
  page.short = (value) => (Number.isFinite(value) ? minus(Number.isInteger(value) ? String(value) : Number(value).toPrecision(3)) : "–");
  page.cosine = (value) => (Number.isFinite(value) ? minus(value.toFixed(3)) : "–");
  page.signed = (value) => (Number.isFinite(value) ? (value > 0 ? "+" : "") + minus(value.toFixed(3)) : "–");
  page.count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many || `${one}s`}`;
  const minus = (text) => text.replace(/^-/, "\u2212").replace("e-", "e\u2212");

  /* Names in a sentence. */
  page.listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

  /* Where a record's page is; an id that is no whole text goes by its row. */
  page.address = (i) => {
    const id = mmel.store.id(i);
    return id.isWellFormed && !id.isWellFormed() ? `#n=${i}` : `#r=${encodeURIComponent(id)}`;
  };

  /* What a mark of a record or run means. */
  page.marksOf = (i, run) => {
    const bits = mmel.store.ofRun("marks", i, run) || 0;
    return (mmel.store.head.mark_names || []).filter((_, bit) => bits & (1 << bit)).map((name) => ({ name, ...mmel.store.head.marks[name] }));
  };
  page.badge = (mark) => page.el("span", { class: "badge", title: mark.says, text: mark.badge });

  page.title = (run) => { // with the method, where the name of the folder does not have it
    const { label, method } = mmel.store.head.runs[run];
    return label.split("/").includes(method) ? label : `${label} (${method})`;
  };
})();
