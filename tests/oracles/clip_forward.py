"""A literal CLIP forward in float64 from a state dict, one image or caption at a time, with eager attention.

It returns every intermediate value of METHOD 1, with a graph, and can run chosen layers as one head.
"""

import torch


class Literal:
    """One tower; `prefix` is "vision_model" or "text_model"."""

    def __init__(self, model, prefix):
        self.state = {name: value.double() for name, value in model.state_dict().items()}
        self.prefix = prefix
        self.config = model.config.vision_config if prefix == "vision_model" else model.config.text_config

    def get(self, name):
        return self.state[f"{self.prefix}.{name}"]

    def linear(self, x, name):
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def norm(self, x, name):
        return torch.nn.functional.layer_norm(
            x, x.shape[-1:], self.get(f"{name}.weight"), self.get(f"{name}.bias"), self.config.layer_norm_eps
        )

    def block(self, x, layer, heads, causal):
        """One encoder layer; returns the output and a dict of q, k, v, a, o."""
        name = f"encoder.layers.{layer}"
        normed = self.norm(x, f"{name}.layer_norm1")
        q, k, v = (self.linear(normed, f"{name}.self_attn.{p}_proj") for p in "qkv")
        size = q.shape[-1] // heads
        rows, attentions = [], []
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            logits = q[:, part] @ k[:, part].T / size**0.5
            if causal:
                logits = logits + torch.full_like(logits, -torch.inf).triu(1)
            attentions.append(logits.softmax(-1))
            rows.append(attentions[-1] @ v[:, part])
        o = torch.cat(rows, -1)
        x = x + self.linear(o, f"{name}.self_attn.out_proj")
        middle = self.linear(self.norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1")
        x = x + self.linear(middle * torch.sigmoid(1.702 * middle), f"{name}.mlp.fc2")
        return x, {"q": q, "k": k, "v": v, "a": attentions, "o": o, "x": x}


def encode_image(model, pixels, one_head=()):
    """(embedding, layers) for pixels (3, S, S); layers in `one_head` (from 0) run as a single head."""
    tower = Literal(model, "vision_model")
    weight = tower.get("embeddings.patch_embedding.weight")
    patches = torch.nn.functional.conv2d(pixels.double()[None], weight, stride=weight.shape[-1])[0].flatten(1).T
    x = torch.cat([tower.get("embeddings.class_embedding")[None], patches])
    x = (x + tower.get("embeddings.position_embedding.weight")).requires_grad_()
    x = tower.norm(x, "pre_layrnorm")
    layers = []
    for layer in range(tower.config.num_hidden_layers):
        heads = 1 if layer in one_head else tower.config.num_attention_heads
        x, values = tower.block(x, layer, heads, causal=False)
        layers.append(values)
    return tower.norm(x[0], "post_layernorm") @ tower.state["visual_projection.weight"].T, layers


def encode_text(model, ids, end, one_head=()):
    """(embedding, layers) for the token ids of one caption whose EOS stands at `end`."""
    tower = Literal(model, "text_model")
    x = tower.get("embeddings.token_embedding.weight")[ids]
    x = (x + tower.get("embeddings.position_embedding.weight")[: len(ids)]).requires_grad_()
    layers = []
    for layer in range(tower.config.num_hidden_layers):
        heads = 1 if layer in one_head else tower.config.num_attention_heads
        x, values = tower.block(x, layer, heads, causal=True)
        layers.append(values)
    return tower.norm(x[end], "final_layer_norm") @ tower.state["text_projection.weight"].T, layers
