"""exCLIP as published: one backward for each dimension of the joint space through each tower, float64."""

import torch
from torch.nn.functional import normalize

from oracles.clip_forward import Literal


def interactions(image, text, steps):
    """A over all tokens and positions, and s(x, y) - s(x, r) - s(r, y) + s(r, r).

    Args:
        image: (output of the block, that of the reference, what follows the block up to the unit embedding).
        text: the same.
        steps: midpoints a side.
    """
    (x, x0, f), (y, y0, g) = image, text
    matrix = torch.einsum("djv,jv,diw,iw->ji", jacobian(g, y, y0, steps), y - y0, jacobian(f, x, x0, steps), x - x0)
    scores = [f(one) @ g(other) for one in (x, x0) for other in (y, y0)]
    return matrix, scores[0] - scores[1] - scores[2] + scores[3]


def jacobian(embed, output, reference, steps):
    """The mean over midpoints of the straight way, (embedding, tokens, width)."""
    total = 0
    for step in range(steps):
        point = (reference + (step + 0.5) / steps * (output - reference)).detach().requires_grad_()
        value = embed(point)
        rows = [torch.autograd.grad(value[d], point, retain_graph=True)[0] for d in range(len(value))]
        total = total + torch.stack(rows)
    return total / steps


def output_of(block, forward):
    """What a block gives in a forward of one input, (tokens, width)."""
    kept = []
    hook = block.register_forward_hook(lambda _module, _inputs, output: kept.append(output[0].detach()))
    with torch.no_grad():
        forward()
    hook.remove()
    return kept[0]


def image_side(raw, family, values, block):
    """What `interactions` takes of an image; `raw` is transformers' own model in float64."""
    tower = raw.vision_model
    layers = tower.encoder.layers

    def embed(tokens):
        x = tokens[None]
        for layer in layers[block:]:
            x = layer(x, None)
        if family == "siglip":
            return normalize(tower.head(tower.post_layernorm(x))[0], dim=-1)
        return normalize(raw.visual_projection(tower.post_layernorm(x[:, 0]))[0], dim=-1)

    given = [values.double()[None], torch.zeros_like(values).double()[None]]
    outputs = [output_of(layers[block - 1], lambda one=one: raw.get_image_features(pixel_values=one)) for one in given]
    return *outputs, embed


def text_side(raw, family, ids, keys, neutral, block):
    """The same of a caption without padding behind its end, whose text stands at `keys`."""
    tower = raw.text_model
    layers = tower.encoder.layer if family == "chinese_clip" else tower.encoder.layers

    def embed(tokens):
        x = tokens[None]
        if family == "clip":
            literal, x = Literal(raw, "text_model"), tokens
            for layer in range(block, len(layers)):
                x, _ = literal.block(x, layer, literal.config.num_attention_heads, causal=True)
            return normalize(raw.text_projection(tower.final_layer_norm(x[-1])), dim=-1)
        for layer in layers[block:]:
            x = layer(x, None)
        if family == "siglip":
            return normalize(tower.head(tower.final_layer_norm(x)[0, -1]), dim=-1)
        return normalize(raw.text_projection(x[0, 0]), dim=-1)

    silent = ids.clone()
    silent[keys] = neutral
    outputs = [
        output_of(layers[block - 1], lambda one=one: raw.get_text_features(input_ids=one[None]))
        for one in (ids, silent)
    ]
    return *outputs, embed
