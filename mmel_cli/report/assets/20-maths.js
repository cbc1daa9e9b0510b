"use strict";
/* The arithmetic of pictures, as mmel_cli/render has it: normalisation, bicubic enlargement, cells of the grid. */
(function () {
  const maths = (mmel.maths = {});

  const finite = (value) => (Number.isFinite(value) ? value : 0);

  /* numpy's percentile (linear), of values that it sorts. */
  maths.percentile = (values, q) => {
    const sorted = Float32Array.from(values).sort();
    const at = ((sorted.length - 1) * q) / 100;
    const low = Math.floor(at);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
  };

  /* What counts as the strongest evidence for the caption (colours.strongest); 0 without any. */
  maths.strongest = (values, q) => {
    const positive = Float32Array.from(values, (value) => Math.max(finite(value), 0));
    return maths.percentile(positive, q) || positive.reduce((a, b) => Math.max(a, b), 0);
  };

  /* The same of both signs. */
  maths.strongestOfBoth = (values, q) => {
    const negative = Float32Array.from(values, (value) => -finite(value));
    return Math.max(maths.strongest(values, q), maths.strongest(negative, q));
  };

  /* The least and greatest finite value. */
  maths.ends = (values) => {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return low <= high ? [low, high] : [0, 0];
  };

  /* Values over a scale, clipped to 0..1, or to -1..1 if `signed`. */
  maths.scaled = (values, top, signed) => Float32Array.from(values, (value) => {
    if (!(top > 0)) return 0;
    return Math.max(signed ? -1 : 0, Math.min(1, finite(value) / top));
  });

  /* Pillow's bicubic resize of a grid; `smooth` false: each cell in one colour. What it gives is overwritten by its next
     call: a gallery asks often, and memory that is let go comes back late. */
  maths.resize = (values, [h, w], [height, width], smooth = true) => {
    const across = smooth ? bicubic(w, width) : nearest(w, width);
    const down = smooth ? bicubic(h, height) : nearest(h, height);
    const rows = room(0, h * width);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < width; x++) {
        const [first, weights] = across[x];
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += values[y * w + first + k] * weights[k];
        rows[y * width + x] = sum;
      }
    }
    const full = room(1, height * width).fill(0);
    for (let y = 0; y < height; y++) {
      const [first, weights] = down[y];
      for (let k = 0; k < weights.length; k++) {
        const from = (first + k) * width;
        const weight = weights[k];
        for (let x = 0; x < width; x++) full[y * width + x] += rows[from + x] * weight;
      }
    }
    return full;
  };

  const rooms = [new Float32Array(0), new Float32Array(0)];
  function room(k, length) {
    if (rooms[k].length < length) rooms[k] = new Float32Array(length);
    return rooms[k].subarray(0, length);
  }

  function nearest(from, to) {
    return Array.from({ length: to }, (_, x) => [Math.min(from - 1, Math.floor(((x + 0.5) * from) / to)), [1]]);
  }

  function bicubic(from, to) {
    const scale = from / to;
    const stretch = Math.max(scale, 1); // a smaller copy averages over more cells
    const support = 2 * stretch;
    return Array.from({ length: to }, (_, x) => {
      const centre = (x + 0.5) * scale;
      const first = Math.max(0, Math.floor(centre - support + 0.5));
      const end = Math.min(from, Math.floor(centre + support + 0.5));
      const weights = [];
      for (let k = first; k < end; k++) weights.push(cubic((k - centre + 0.5) / stretch));
      const sum = weights.reduce((a, b) => a + b, 0);
      return [first, weights.map((weight) => weight / sum)];
    });
  }

  function cubic(x) {
    const a = -0.5;
    const d = Math.abs(x);
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
  }

  /* The cell [row, column] of the grid at a pixel of the original, null outside what the model saw. */
  maths.cellAt = ([x, y], box, [h, w]) => {
    const column = Math.floor(((x - box[0]) / (box[2] - box[0])) * w);
    const row = Math.floor(((y - box[1]) / (box[3] - box[1])) * h);
    return row >= 0 && row < h && column >= 0 && column < w ? [row, column] : null;
  };

  /* The pixels [x0, y0, x1, y1] of the original that cells [row0, column0] to [row1, column1] cover, ends included. */
  maths.pixelsOf = ([row0, column0], [row1, column1], box, [h, w]) => {
    const across = (box[2] - box[0]) / w;
    const down = (box[3] - box[1]) / h;
    return [box[0] + column0 * across, box[1] + row0 * down, box[0] + (column1 + 1) * across, box[1] + (row1 + 1) * down];
  };

  /* All cells that a box of pixels touches, as two corners; null if it touches none. */
  maths.cellsOf = ([x0, y0, x1, y1], box, [h, w]) => {
    const column = (x) => ((x - box[0]) / (box[2] - box[0])) * w;
    const row = (y) => ((y - box[1]) / (box[3] - box[1])) * h;
    const first = [Math.max(0, Math.floor(row(y0))), Math.max(0, Math.floor(column(x0)))];
    const last = [Math.min(h, Math.ceil(row(y1))) - 1, Math.min(w, Math.ceil(column(x1))) - 1];
    return first[0] <= last[0] && first[1] <= last[1] ? [first, last] : null;
  };

  /* The sum of a map over these cells. */
  maths.sumInside = (values, [[row0, column0], [row1, column1]], w) => {
    let sum = 0;
    for (let row = row0; row <= row1; row++) for (let column = column0; column <= column1; column++) sum += finite(values[row * w + column]);
    return sum;
  };

  /* Where in the picture a map is strongest, in words. */
  maths.strongestPlace = (values, [h, w]) => {
    const [, high] = maths.ends(values);
    if (!(high > 0)) return "no evidence for the caption";
    const at = values.indexOf(high);
    const row = Math.floor(at / w);
    const third = (k, n, names) => names[Math.min(2, Math.floor((3 * (k + 0.5)) / n))];
    const down = third(row, h, ["upper", "middle", "lower"]);
    const across = third(at % w, w, ["left", "centre", "right"]);
    return `strongest at row ${row}, column ${at % w} (${down} ${across})`;
  };
})();
