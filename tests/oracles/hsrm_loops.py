"""METHOD 3 for one pair, written as loops over regions, in float64."""

import math

import numpy as np


def pool(grid, scale):
    """Average over scale x scale patches; the last regions take what is left (adaptive when it does not divide)."""
    height, width = grid.shape
    rows, columns = math.ceil(height / scale), math.ceil(width / scale)
    out = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            top, bottom = i * height // rows, -(-(i + 1) * height // rows)
            left, right = j * width // columns, -(-(j + 1) * width // columns)
            out[i, j] = grid[top:bottom, left:right].mean()
    return out


def upsample(regions, height, width):
    """Bilinear, pixel centres aligned, edges held."""
    rows, columns = regions.shape
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v = max((y + 0.5) * rows / height - 0.5, 0)
            u = max((x + 0.5) * columns / width - 0.5, 0)
            y0, x0 = int(v), int(u)
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
            fy, fx = v - y0, u - x0
            top = regions[y0, x0] * (1 - fx) + regions[y0, x1] * fx
            bottom = regions[y1, x0] * (1 - fx) + regions[y1, x1] * fx
            out[y, x] = top * (1 - fy) + bottom * fy
    return out


def cosine(a, b):
    """Zero where a vector vanishes, as the mean-centred features of a single region do."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 1e-12 else 0.0


def share(pooled, features, temperature):
    """S = B P with B_ij = softmax_j(cos(f_i, f_j) / tau); features (regions, D) as given, not normalised."""
    flat = pooled.ravel()
    out = np.zeros_like(flat)
    for i in range(len(flat)):
        cosines = [cosine(features[i], features[j]) for j in range(len(flat))]
        weights = np.exp(np.array(cosines) / temperature)
        out[i] = (weights / weights.sum()) @ flat
    return out.reshape(pooled.shape)


def region_features(hidden, height, width, scale):
    """(regions, D): mean-centred outputs of one layer, pooled."""
    centred = hidden - hidden.mean(0)
    return np.stack([pool(centred[:, d].reshape(height, width), scale).ravel() for d in range(centred.shape[1])], 1)


def consensus(flow, hidden, scales, temperature):
    """V_r of each scale: flow shared among regions, summed over layers, over its largest magnitude."""
    _, height, width = flow.shape
    found = []
    for scale in scales:
        total = 0
        for layer in range(len(flow)):
            features = region_features(hidden[layer], height, width, scale)
            total = total + share(pool(flow[layer], scale), features, temperature)
        total = upsample(total, height, width)
        found.append(total / np.abs(total).max())
    return found


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def fuse(loosened, flow, hidden, alignment, attention, looseness, weights, temperature):
    """METHOD 3 for one pair.

    loosened, flow, alignment, attention, looseness (L, h, w); hidden (L, h * w, D); weights: a dict of numpy arrays
    mix, negative (), scale, relation (R,), gate (5,), consensus (R,), layer (L,) and the tuple scales.
    """
    count, height, width = loosened.shape
    total = np.zeros((height, width))
    omega = softmax(weights["layer"]) * count
    agreed = consensus(flow, hidden, weights["scales"], temperature)
    supported = sum(np.maximum(loosened[layer], 0) for layer in range(count))
    supported = supported / supported.max()
    m, n = sigmoid(float(weights["mix"])), sigmoid(float(weights["negative"]))
    blend = softmax(weights["scale"])
    for layer in range(count):
        g, c = loosened[layer], flow[layer]
        mixed = (1 - m) * (np.maximum(g, 0) + n * np.minimum(g, 0)) + m * (np.maximum(c, 0) + n * np.minimum(c, 0))
        hierarchy = np.zeros((height, width))
        for r, scale in enumerate(weights["scales"]):
            pooled = pool(mixed, scale)
            features = region_features(hidden[layer], height, width, scale)
            relation = sigmoid(weights["relation"][r])
            regions = (1 - relation) * pooled + relation * share(pooled, features, temperature)
            hierarchy += blend[r] * upsample(regions, height, width)
        aligned = (alignment[layer] - alignment[layer].min()) / (alignment[layer].max() - alignment[layer].min())
        for y in range(height):
            for x in range(width):
                inputs = np.array([1, aligned[y, x], looseness[layer, y, x], attention[layer, y, x], supported[y, x]])
                opened = weights["gate"] @ inputs
                for r in range(len(agreed)):
                    opened += weights["consensus"][r] * agreed[r][y, x]
                total[y, x] += omega[layer] * sigmoid(float(opened)) * hierarchy[y, x]
    return total
