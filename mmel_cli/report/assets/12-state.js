"use strict";
/* How pictures are shown, one choice for the whole page, and who wants to know when it changes. */
(function () {
  const display = { overlay: true, opacity: 0.8, table: "run", view: "positive", scale: "record", cells: "smooth" };
  const listeners = new Set();

  mmel.display = {
    now: display,
    set(changes) {
      Object.assign(display, changes);
      for (const listener of [...listeners]) listener(changes);
    },
    follow(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
})();
