"""open_clip's standard CLIP written out in float64 on its own tensors, one image or caption at a time.

A ViT of pre-norm blocks with a class token and a norm before them; a causal text tower that pools the highest id;
attention as nn.MultiheadAttention packs it; projections as x @ projection. Every intermediate value keeps its graph.
"""

import numpy as np
import torch
from PIL import Image


def norm(state, x, name):
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def block(state, x, name, heads, mask, quick):
    """One residual attention block; returns the output and a dict of q, k, v, a, o."""
    normed = norm(state, x, f"{name}.ln_1")
    packed = normed @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]
    width = x.shape[-1]
    q, k, v = packed[:, :width], packed[:, width : 2 * width], packed[:, 2 * width :]
    size, rows, attentions = width // heads, [], []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        attentions.append((q[:, part] @ k[:, part].T / size**0.5 + mask).softmax(-1))
        rows.append(attentions[-1] @ v[:, part])
    o = torch.cat(rows, -1)
    x = x + o @ state[f"{name}.attn.out_proj.weight"].T + state[f"{name}.attn.out_proj.bias"]
    middle = norm(state, x, f"{name}.ln_2") @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"]
    middle = middle * (1 / (1 + torch.exp(-1.702 * middle)) if quick else (1 + torch.erf(middle / 2**0.5)) / 2)
    x = x + middle @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]
    return x, {"q": q, "k": k, "v": v, "a": attentions, "o": o}


def encode_image(state, config, pixels):
    """(embedding, layers) of pixels (3, side, side)."""
    cfg = config["model_cfg"]["vision_cfg"]
    kernel, pixels = state["visual.conv1.weight"], torch.as_tensor(pixels).double()
    patch = cfg["patch_size"]
    patches = [
        (kernel * pixels[:, top : top + patch, left : left + patch]).sum((1, 2, 3))
        for top in range(0, pixels.shape[1], patch)
        for left in range(0, pixels.shape[2], patch)
    ]
    x = torch.stack([state["visual.class_embedding"], *patches]) + state["visual.positional_embedding"]
    x = norm(state, x.requires_grad_(), "visual.ln_pre")
    layers = []
    for layer in range(cfg["layers"]):
        heads = cfg["width"] // cfg["head_width"]
        name = f"visual.transformer.resblocks.{layer}"
        x, values = block(state, x, name, heads, 0.0, config["model_cfg"]["quick_gelu"])
        layers.append(values)
    return norm(state, x[0], "visual.ln_post") @ state["visual.proj"], layers


def encode_text(state, config, ids):
    """(embedding, layers, pooled position) of a caption's ids, padded with 0 to the context as open_clip does."""
    cfg, state = config["model_cfg"]["text_cfg"], {name.removeprefix("text."): value for name, value in state.items()}
    context = cfg["context_length"]
    ids = torch.tensor([*ids] + [0] * (context - len(ids)))
    x = (state["token_embedding.weight"][ids] + state["positional_embedding"]).requires_grad_()
    mask = torch.full((context, context), -torch.inf, dtype=torch.float64).triu(1)
    layers = []
    for layer in range(cfg["layers"]):
        name = f"transformer.resblocks.{layer}"
        x, values = block(state, x, name, cfg["heads"], mask, config["model_cfg"]["quick_gelu"])
        layers.append(values)
    end = int(ids.argmax())
    return norm(state, x, "ln_final")[end] @ state["text_projection"], layers, end


def literal_pixels(image, config):
    """An RGB image as torchvision's Resize, CenterCrop, ToTensor and Normalize leave it: (3, side, side), float64."""
    side, cfg = config["model_cfg"]["vision_cfg"]["image_size"], config["preprocess_cfg"]
    resample = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[cfg["interpolation"]]
    width, height = image.size
    if cfg["resize_mode"] == "squash":
        image = image.resize((side, side), resample)
    elif width <= height:
        image = image.resize((side, int(side * height / width)), resample)
    else:
        image = image.resize((int(side * width / height), side), resample)
    left, top = round((image.width - side) / 2.0), round((image.height - side) / 2.0)
    image = image.crop((left, top, left + side, top + side))
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).double() / 255
    mean, std = (torch.tensor(cfg[name]).double()[:, None, None] for name in ("mean", "std"))
    return (values - mean) / std
