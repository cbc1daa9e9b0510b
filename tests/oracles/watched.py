"""transformers' own model in float64 with every attention matrix in the graph, whatever the architecture."""

import importlib
from contextlib import contextmanager

import torch
from transformers import AutoModel


@contextmanager
def watched(folder, family):
    """The model, and a list that fills with the parts of each attention in the order of the forward."""
    raw = AutoModel.from_pretrained(folder, attn_implementation="eager").double().eval().requires_grad_(False)
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    seen, original = [], module.eager_attention_forward

    def eager(owner, query, key, value, mask, scaling, **_):
        logits = query @ key.transpose(2, 3) * scaling
        attention = (logits if mask is None else logits + mask).softmax(-1).requires_grad_()
        seen.append({"owner": owner, "a": attention, "q": query, "k": key, "v": value})
        return (attention @ value).transpose(1, 2).contiguous(), attention

    def head(owner):
        def forward(tokens):
            attention = owner.attention
            (wq, wk, wv), (bq, bk, bv) = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
            parts = [owner.probe @ wq.T + bq, tokens @ wk.T + bk, tokens @ wv.T + bv]
            q, k, v = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts)
            a = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1).requires_grad_()
            seen.append({"owner": owner, "a": a, "q": q, "k": k, "v": v})
            y = attention.out_proj((a @ v).transpose(1, 2).flatten(2))
            return (y + owner.mlp(owner.layernorm(y)))[:, 0]

        return forward

    module.eager_attention_forward = eager
    try:
        if family == "siglip":
            raw.vision_model.head.forward = head(raw.vision_model.head)
        yield raw, seen
    finally:
        module.eager_attention_forward = original


def one_pair(raw, seen, values, ids, mask=None):
    """The score of one pair, and the attentions of its image and text tower with ds/da."""
    given = {} if mask is None else {"attention_mask": mask}
    image = raw.get_image_features(pixel_values=values.double()).pooler_output
    count = len(seen)
    text = raw.get_text_features(input_ids=ids, **given).pooler_output
    score = torch.cosine_similarity(image, text)[0]
    gradients = torch.autograd.grad(score, [layer["a"] for layer in seen], retain_graph=True)
    layers = [layer | {"grad": gradient} for layer, gradient in zip(seen, gradients, strict=True)]
    return score, layers[:count], layers[count:]
