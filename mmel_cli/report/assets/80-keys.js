"use strict";
/* Keys, where no field is being typed into. */
(function () {
  const TYPED = new Set(["INPUT", "SELECT", "TEXTAREA"]);

  mmel.keys = ({ record, gallery, help }) => {
    const opened = () => !record.node.hidden;
    const { now, set } = mmel.display;
    const always = {
      o: () => set({ overlay: !now.overlay }),
      s: () => set({ view: now.view === "signed" ? "positive" : "signed" }),
      "?": () => (help.open ? help.close() : help.showModal()),
      "/": () => { if (gallery.node.hidden) location.hash = gallery.address; requestAnimationFrame(() => gallery.text.focus()); },
    };
    const onRecord = {
      ArrowLeft: () => record.step(-1), k: () => record.step(-1), ArrowRight: () => record.step(1), j: () => record.step(1),
      l: () => record.focusOn(".layers button"), w: () => record.focusOn(".words button"),
      "+": () => record.zoom(1.5, 0.5, 0.5), "-": () => record.zoom(1 / 1.5, 0.5, 0.5), 0: () => record.place(1, 0, 0), Escape: () => record.leave(),
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const { target } = event;
      const typed = TYPED.has(target.tagName) && target.type !== "checkbox";
      const fold = event.key === "Escape" && gallery.node.querySelector(".fold[open]");
      if (fold) {
        fold.open = false;
        fold.querySelector("summary").focus();
        return;
      }
      if (event.key === "Escape" && typed) {
        target.blur();
        return;
      }
      if (typed || (help.open && event.key !== "?")) return;
      const act = (opened() && onRecord[event.key]) || always[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  };
})();
