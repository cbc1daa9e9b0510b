"""transformers' own model in float64 with every attention matrix in the graph, whatever the architecture."""

import copy
import importlib
from contextlib import contextmanager

import torch
from transformers import AutoModel


@contextmanager
def watched(folder, family, gradient="plain", raw=None):
    """The model, and a list that fills with the parts of each attention in the order of the forward.

    `raw` is a model of transformers that is loaded already; it is copied.

    With another `gradient` its backward goes by LibraGrad's rules, written down once more: constant attention, and
    activations as x times a constant; with "balanced-norms" LayerNorms divided by a constant too.
    """
    raw = AutoModel.from_pretrained(folder) if raw is None else copy.deepcopy(raw)
    raw.set_attn_implementation("eager")
    raw = raw.double().eval().requires_grad_(False)
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    seen, original = [], module.eager_attention_forward

    def eager(owner, query, key, value, mask, scaling, **_):
        logits = query @ key.transpose(2, 3) * scaling
        attention = (logits if mask is None else logits + mask).softmax(-1)
        attention = (attention if gradient == "plain" else attention.detach()).requires_grad_()
        seen.append({"owner": owner, "a": attention, "q": query, "k": key, "v": value})
        return (attention @ value).transpose(1, 2).contiguous(), attention

    def head(owner):
        def forward(tokens):
            attention = owner.attention
            (wq, wk, wv), (bq, bk, bv) = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
            parts = [owner.probe @ wq.T + bq, tokens @ wk.T + bk, tokens @ wv.T + bv]
            q, k, v = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts)
            a = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
            a = (a if gradient == "plain" else a.detach()).requires_grad_()
            seen.append({"owner": owner, "a": a, "q": q, "k": k, "v": v})
            y = attention.out_proj((a @ v).transpose(1, 2).flatten(2))
            return (y + owner.mlp(owner.layernorm(y)))[:, 0]

        return forward

    if gradient != "plain":
        _libra(raw, norms=gradient == "balanced-norms")
    module.eager_attention_forward = eager
    try:
        if family == "siglip":
            raw.vision_model.head.forward = head(raw.vision_model.head)
        yield raw, seen
    finally:
        module.eager_attention_forward = original


def _libra(raw, *, norms):
    for name, part in raw.named_modules():
        if name.endswith(("activation_fn", "intermediate_act_fn")):
            part.forward = lambda x, act=part.forward: x * (act(x) / x).detach()
        if norms and isinstance(part, torch.nn.LayerNorm):

            def divided(x, norm=part):
                centred = x - x.mean(-1, keepdim=True)
                deviation = ((centred**2).mean(-1, keepdim=True) + norm.eps).sqrt().detach()
                return centred / deviation * norm.weight + norm.bias

            part.forward = divided


def one_pair(raw, seen, values, ids, mask=None, *, lengths=True):
    """The score of one pair, and the attentions of its image and text tower with ds/da.

    Without `lengths` those of the embeddings are constants.
    """
    given = {} if mask is None else {"attention_mask": mask}
    image = raw.get_image_features(pixel_values=values.double()).pooler_output
    count = len(seen)
    text = raw.get_text_features(input_ids=ids, **given).pooler_output
    score = torch.cosine_similarity(image, text)[0]
    if not lengths:  # constants
        score = (image * text).sum() / (image.norm() * text.norm()).detach()
    gradients = torch.autograd.grad(score, [layer["a"] for layer in seen], retain_graph=True)
    layers = [layer | {"grad": gradient} for layer, gradient in zip(seen, gradients, strict=True)]
    return score, layers[:count], layers[count:]
