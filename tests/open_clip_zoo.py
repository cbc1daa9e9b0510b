"""Random open_clip checkpoints in its own layout, with every kind of tokenizer, small enough to make in a test."""

import json

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram, WordLevel, WordPiece
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

CONTEXT, SIDE, PATCH = 23, 40, 8
WORDS = ["a", "red", "blue", "dog", "cat", "on", "the", "grass", "photo", "of", "café", "two"]
KINDS = ("bytes", "words", "pieces", "unigram")
SPECIAL = {
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "bos_token": "<start_of_text>",
    "eos_token": "<end_of_text>",  # the highest id
}
CAPTIONS = [
    "a red dog",
    "a photo of the cat",
    "blue",
    "A Red DOG on the grass.",
    "café on the grass",
    "cafe\N{COMBINING ACUTE ACCENT} on the grass",
    "naïve résumé, über-dog",
    "\N{DOG FACE} a dog",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} on the grass",
    "red \N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16} blue",
    "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E} cat",
    "一只红色的狗",
    "草地上的猫 cat",
    "赤い犬と青い猫",
    "빨간 개",
    "</s> a dog",
    "a <s> dog </s> cat",
    "<|endoftext|> red",
    "a dog <|startoftext|><|endoftext|>",
    "[CLS] a cat [SEP] [PAD]",
    "a<end_of_text>dog<start_of_text>",
    "a red dog " * 66 + "cat on",
    "...",
    "!?",
    "a dog, a cat; (blue)",
    "it's the dog's photo",
    "a-red-dog",
    "two cats & <b>dogs</b>",
    "dog dog dog",
    "x1 y2 z3",
]
assert len(CAPTIONS) == 30


def make_tokenizer(kind):
    """A fast tokenizer whose special tokens come last: CLIP's byte-level BPE, word level, WordPiece or unigram."""
    special = [*SPECIAL.values()]
    letters = [chr(code) for code in range(33, 127)]
    if kind == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary, merges = [*alphabet, *(f"{letter}</w>" for letter in alphabet)], []
        for word in (word for word in WORDS if word.isascii()):
            parts = [*word[:-1], word[-1] + "</w>"]
            while len(parts) > 1:
                merges.append((parts[0], parts[1]))
                parts = [parts[0] + parts[1], *parts[2:]]
                vocabulary.append(parts[0])
        ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
        ids = {token: n for n, token in enumerate(dict.fromkeys([*vocabulary, *ends.values()]))}
        return CLIPTokenizer(ids, list(dict.fromkeys(merges)), **ends, model_max_length=CONTEXT)
    if kind == "words":
        backend = Tokenizer(WordLevel({t: n for n, t in enumerate([*WORDS, *special])}, SPECIAL["unk_token"]))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif kind == "pieces":
        pieces = [*dict.fromkeys([*WORDS, *letters, *(f"##{letter}" for letter in letters), "##og", "红"]), *special]
        backend = Tokenizer(WordPiece({t: n for n, t in enumerate(pieces)}, unk_token=SPECIAL["unk_token"]))
        backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    else:
        scored = [(f"▁{w}", -2.0) for w in WORDS] + [(c, -9.0) for c in letters] + [("▁", -5.0), ("og", -4.0)]
        scored += [(token, 0.0) for token in special]
        backend = Tokenizer(Unigram(scored, len(scored) - len(special), byte_fallback=False))
        backend.normalizer, backend.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    start, end = SPECIAL["bos_token"], SPECIAL["eos_token"]
    numbers = [(token, backend.token_to_id(token)) for token in special]
    backend.post_processor = TemplateProcessing(single=f"{start} $A {end}", special_tokens=numbers)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL, model_max_length=CONTEXT)


def configuration(vocab_size, *, quick):
    """3 vision layers of 3 heads on a 5 x 5 grid, 2 text layers of 3 heads."""
    vision = {"image_size": SIDE, "layers": 3, "width": 48, "patch_size": PATCH, "head_width": 16, "mlp_ratio": 2.3}
    text = {"context_length": CONTEXT, "vocab_size": vocab_size, "width": 36, "heads": 3, "layers": 2}
    return {
        "model_cfg": {"embed_dim": 20, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {
            "mean": [0.48, 0.46, 0.41],
            "std": [0.27, 0.26, 0.28],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def shapes(config, prefix=""):
    """Every tensor of the standard towers by open_clip's name; `prefix` is "text." where custom_text is set."""
    cfg = config["model_cfg"]
    vision, text = cfg["vision_cfg"], cfg["text_cfg"]
    wide, narrow, joint = vision["width"], text["width"], cfg["embed_dim"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    sizes = {
        "visual.class_embedding": (wide,),
        "visual.positional_embedding": (patches + 1, wide),
        "visual.proj": (wide, joint),
        "visual.conv1.weight": (wide, 3, vision["patch_size"], vision["patch_size"]),
        f"{prefix}token_embedding.weight": (text["vocab_size"], narrow),
        f"{prefix}positional_embedding": (text["context_length"], narrow),
        f"{prefix}text_projection": (narrow, joint),
        "logit_scale": (),
    }
    linear = {}
    for tower, width, part in (("visual.", wide, vision), (prefix, narrow, text)):
        for layer in range(part["layers"]):
            name, middle = f"{tower}transformer.resblocks.{layer}", int(width * part.get("mlp_ratio", 4.0))
            sizes |= {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}
            linear |= {f"{name}.attn.out_proj": (width, width), f"{name}.ln_1": (width,), f"{name}.ln_2": (width,)}
            linear |= {f"{name}.mlp.c_fc": (middle, width), f"{name}.mlp.c_proj": (width, middle)}
    linear |= {"visual.ln_pre": (wide,), "visual.ln_post": (wide,), f"{prefix}ln_final": (narrow,)}
    for name, shape in linear.items():
        sizes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return sizes


def make_open_clip(folder, kind="bytes", *, quick=False, prefix="", bias=None, seed=0):
    """Save one: weights, configuration and tokenizer; returns the folder, the tensors and the configuration."""
    generator = torch.Generator().manual_seed(seed)
    tokenizer = make_tokenizer(kind)
    config = configuration(len(tokenizer), quick=quick)
    tensors = {}
    for name, shape in shapes(config, prefix).items():
        values = torch.randn(shape, generator=generator)
        centred = 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0
        tensors[name] = centred + values * (0.2 if len(shape) < 2 else 1.5 / shape[-1] ** 0.5)
    tensors["logit_scale"] = torch.tensor(2.3)
    if prefix:
        config["model_cfg"]["custom_text"] = True
    if bias is not None:
        tensors["logit_bias"] = torch.tensor(bias)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    return folder, tensors, config


def configure(folder, part, **changes):
    """Change a part of a folder's configuration, and give the whole of it."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    place = config["model_cfg"] if part in ("vision_cfg", "text_cfg") else config
    place[part] |= changes
    path.write_text(json.dumps(config))
    return config
