"use strict";
/* What colours mean: bars with numbers, and sentences. */
(function () {
  const { el, short, colour } = mmel.page;
  const legends = (mmel.legends = {});

  /* Of one map: the bar, its numbers in the map's own unit, and on which scale it is. */
  legends.map = ({ values, scale, what }, view) => {
    const [low, high] = mmel.maths.ends(values);
    const signed = view === "signed";
    if (!(scale.top > 0)) return [el("p", { class: "says", text: signed ? "All values are 0: nothing is drawn." : "No value is above 0: nothing is drawn." })];
    const bar = el("canvas", { class: "bar", width: 256, height: 14, "aria-hidden": "true" });
    mmel.draw.bar(bar, { ...mmel.display.now, view });
    const top = `${high > scale.top * 1.000001 ? "\u2265 " : ""}${short(scale.top)}`;
    const bottom = `${low < -scale.top * 1.000001 ? "\u2264 " : ""}${short(-scale.top)}`;
    const ticks = signed ? [bottom, short(-scale.top / 2), "0", short(scale.top / 2), top] : ["0", short(scale.top / 2), top];
    const below = !signed && low < 0 ? " Values below 0 are not drawn: \u201cfor and against\u201d shows them." : "";
    return [
      el("div", { class: "barred" }, bar, el("div", { class: "ticks" }, ticks.map((text) => el("span", { text })))),
      el("p", { class: "says" }, `Colour: ${what}, in the map's own unit, as archived. `,
        el("b", { text: scale.whole ? "One scale for the whole run" : "This record's own scale" }),
        `: its end is ${scale.says}. Values here run from ${short(low)} to ${short(high)}.${below}`,
        scale.whole ? "" : " Do not compare strengths with another record."),
    ];
  };

  /* Of the view of phrases. */
  legends.phrases = (texts, drawn) => {
    const palette = mmel.store.head.palette;
    const chips = texts.map((text, k) => el("li", {}, legends.chip(k), mmel.page.said(text), drawn[k] ? null : el("span", { class: "faint", text: k < palette.length ? " (next to none: not drawn)" : " (no colour left: not drawn)" })));
    return [
      el("ol", { class: "chips" }, chips),
      el("p", { class: "says", text: "Colour: where there is evidence for each phrase, each on its own scale; where phrases overlap, the one stronger on its own scale is shown. Values below 0 are not drawn. Sizes cannot be compared between phrases: point at a phrase to see it with numbers." }),
    ];
  };

  /* A phrase's number in its colour. */
  legends.chip = (k) => {
    const palette = mmel.store.head.palette;
    const rgb = palette[k] || [150, 150, 150];
    const chip = el("span", { class: "chip", text: String(k + 1) });
    chip.style.backgroundColor = colour(rgb);
    const linear = rgb.map((level) => (level / 255) ** 2.2);
    chip.style.color = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.18 ? "#111" : "#fff"; // what stands out more
    return chip;
  };

  /* None at 0, the full colour of a fall (orange) or a rise (blue) at the ends of a scale (render/words.py, on paper of any colour). */
  legends.tint = (value) => {
    const [r, g, b] = value > 0 ? mmel.store.head.falls : mmel.store.head.rises;
    return `rgba(${r}, ${g}, ${b}, ${Math.min(Math.abs(value), 1)})`;
  };

  /* The bar below a caption whose words have colours. */
  legends.words = (says, left, right) => {
    const bar = el("span", { class: "wordbar", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${legends.tint(-1)}, transparent, ${legends.tint(1)})`;
    return el("p", { class: "says" }, says, " ", el("span", { class: "one" }, left, " ", bar, " ", right));
  };
})();
