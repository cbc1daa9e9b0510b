"""Published first-order methods, written out for one pair on transformers' own model in float64, from their papers.

Everything is of one image and one caption: no batches, heads and layers in loops, gradients by autograd at matrices.
"""

import numpy as np
import torch

from oracles.watched import watched


class Pair:
    """One pair seen by a watched model: what each vision block reads, normalises and gives, and all attention."""

    def __init__(self, raw, seen, family, values, captions, row, gradient):
        self.raw, self.seen, self.probed, self.gradient = raw, seen, family == "siglip", gradient
        self.blocks = raw.vision_model.encoder.layers
        self.x, self.normed, self.y = [], [], []
        hooks = []
        for block in self.blocks:
            hooks.append(block.layer_norm1.register_forward_hook(lambda _m, given, out: self._read(given[0], out)))
            hooks.append(block.register_forward_hook(lambda _m, _given, out: self.y.append(first(out))))
        if self.probed:
            keep = raw.vision_model.post_layernorm.register_forward_hook(lambda _m, x, out: self._read(x[0], out))
            hooks.append(keep)
        self.image = raw.get_image_features(pixel_values=values.double()).pooler_output[0]
        for hook in hooks:
            hook.remove()
        self.vision = list(seen)
        self.text = self.read(captions, row)
        self.reading = seen[len(self.vision) :]
        self.patches = slice(0 if self.probed else 1, None)

    def _read(self, x, out):
        self.x.append(x)
        self.normed.append(out)

    def read(self, captions, row):
        given = {} if self.probed else {"attention_mask": captions.mask[row : row + 1]}
        return self.raw.get_text_features(input_ids=captions.ids[row : row + 1], **given).pooler_output[0]

    def score(self, image):
        """The cosine with the text; lengths are constants where LayerNorms' deviations are."""
        lengths = image.norm() * self.text.norm()
        return image @ self.text / (lengths.detach() if self.gradient == "balanced-norms" else lengths)

    def pool(self, tokens):
        """Tokens (n, width) of a layer as the model's own head makes an embedding of them."""
        return self.raw.vision_model.head(self.raw.vision_model.post_layernorm(tokens[None]))[0]

    def project(self, token):
        """One token, as if it were all that is pooled."""
        if self.probed:
            return self.pool(token[None])
        return self.raw.visual_projection(self.raw.vision_model.post_layernorm(token))


def first(out):
    return out[0] if isinstance(out, tuple) else out


def attention(layer, row):
    """Mean over heads of the last layer's attention, the row of the token that is pooled."""
    return sum(head[row] for head in layer["a"][0]) / layer["a"].shape[1]


def rollout(layers, row):
    """Abnar and Zuidema: A = 0.5 W + 0.5 I, the product of all layers from the first to the last."""
    total = torch.eye(layers[0]["a"].shape[-1], dtype=torch.float64)
    for layer in layers:
        mean = sum(layer["a"][0]) / layer["a"].shape[1]
        if len(mean) == 1:  # a probe, which is no token
            return (mean @ total)[0]
        total = (0.5 * mean + 0.5 * torch.eye(len(mean), dtype=torch.float64)) @ total
    return total[row]


def legrad(pair):
    """E_l = mean over heads and rows of ReLU(d s_l / d A_l), at the patches, summed over layers."""
    total = 0
    for number, y in enumerate(pair.y):
        if pair.probed:
            image = pair.pool(y[0])
            attended = pair.seen[-1]["a"]
        else:
            image = pair.project(y[0].mean(0))
            attended = pair.vision[number]["a"]
        (gradient,) = torch.autograd.grad(pair.score(image), attended, retain_graph=True)
        total = total + gradient[0].clamp_min(0).mean((0, 1))
    return total[pair.patches]


def grad_cam(pair):
    """ReLU of the channels of the last norm before attention, each by the mean over patches of its gradient."""
    activation = pair.normed[-1]
    (gradient,) = torch.autograd.grad(pair.score(pair.image), activation, retain_graph=True)
    channels = zip(activation[0, pair.patches].T, gradient[0, pair.patches].T, strict=True)
    return sum(channel * slope.mean() for channel, slope in channels).clamp_min(0)


def eigen_cam(pair):
    """Centre, singular vectors, projection on the first; the largest of the map in magnitude is positive."""
    values = pair.normed[-1][0, pair.patches].detach().numpy()
    values = values - values.mean(axis=0)
    _, _, directions = np.linalg.svd(values, full_matrices=True)
    projection = values @ directions[0, :]
    return torch.from_numpy(projection * np.sign(projection[np.abs(projection).argmax()]))


def mask_clip(pair, number):
    """Block `number`'s values through its output projection, residual and MLP, then norm, projection and cosine.

    A block behind the last is the pooling: every patch is pooled alone.
    """
    tokens = pair.x[number][0]
    if number < len(pair.blocks):
        block = pair.blocks[number]
        tokens = tokens + block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(tokens)))
        tokens = tokens + block.mlp(block.layer_norm2(tokens))
    points = [pair.project(token) for token in tokens[pair.patches]]
    return torch.stack([torch.cosine_similarity(point, pair.text, dim=0) for point in points])


def clip_surgery(pair, start, empty):
    """Dual path from block `start`: each adds its output projection of softmax(v v^T) v; no MLPs; f . (t - e)."""
    path = pair.x[start][0]
    for number in range(start, len(pair.blocks)):
        attend = pair.blocks[number].self_attn
        path = path + attend.out_proj(value_to_value(attend.v_proj(pair.normed[number][0]), attend.num_heads))
    if pair.probed:
        head = pair.raw.vision_model.head
        weight, bias = head.attention.in_proj_weight.chunk(3)[2], head.attention.in_proj_bias.chunk(3)[2]
        v = pair.raw.vision_model.post_layernorm(path) @ weight.T + bias
        pooled = head.attention.out_proj(value_to_value(v, head.attention.num_heads))
        features = pooled + head.mlp(head.layernorm(pooled))
    else:
        features = torch.stack([pair.project(token) for token in path[1:]])
    features = features / features.norm(dim=-1, keepdim=True)
    return features @ (pair.text / pair.text.norm() - empty / empty.norm())


def value_to_value(v, heads):
    size, parts = v.shape[-1] // heads, []
    for head in range(heads):
        own = v[:, head * size : (head + 1) * size]
        parts.append((own @ own.T / size**0.5).softmax(-1) @ own)
    return torch.cat(parts, -1)


__all__ = [
    "Pair", "attention", "clip_surgery", "eigen_cam", "grad_cam", "legrad", "mask_clip", "rollout", "watched",
]  # fmt: skip
