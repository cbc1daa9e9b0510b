// Texts of the page whose contrast with their ground (WCAG) is below 4.5: [class, text, ratio].
(() => {
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const parse = (text) => {
    const numbers = text.match(/[\d.]+/g).map(Number);
    return numbers.length < 4 ? [...numbers, 1] : numbers;
  };
  const ground = (start) => {
    const layers = [];
    for (let node = start; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    const over = (under, [r, g, b, a]) => [r, g, b].map((v, k) => v * a + under[k] * (1 - a));
    return layers.reverse().reduce(over, [255, 255, 255]);
  };
  const weak = [];
  for (const node of document.querySelectorAll("#app *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const excused = ".skip, :disabled, .choice label:has(:disabled), option";
    if (!own || !node.offsetParent || node.closest(excused)) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.push([node.className, node.textContent.slice(0, 40), ratio]);
  }
  return weak;
})()
