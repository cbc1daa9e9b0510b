"""Random models of every architecture, each with every kind of tokenizer that it may have, small enough for a test."""

import json

import torch
import transformers
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece
from tokenizers.processors import TemplateProcessing
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessorPil,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

SIDE, PATCH = 40, 8
CONTEXT = 23
WORDS = [
    "a",
    "red",
    "blue",
    "dog",
    "cat",
    "on",
    "the",
    "grass",
    "photo",
    "of",
    "caf\u00e9",
]
CAPTIONS = [
    "a red dog",
    "a photo of the cat",
    "blue",
    "A Red DOG on the grass.",
    "caf\u00e9 on the grass",
    "cafe\N{COMBINING ACUTE ACCENT} on the grass",
    "na\u00efve r\u00e9sum\u00e9",
    "\N{DOG FACE} a dog",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} on the grass",
    "red \N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16} blue",
    "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}",
    "\u4e00\u53ea\u7ea2\u8272\u7684\u72d7",
    "\u8349\u5730\u4e0a\u7684\u732b cat",
    "\u8d64\u3044\u72ac\u3068\u9752\u3044\u732b",
    "\ube68\uac04 \uac1c",
    "</s> a dog",
    "a <s> dog </s> cat",
    "<|endoftext|> red",
    "a dog <|startoftext|><|endoftext|>",
    "[CLS] a cat [SEP] [PAD]",
    "<pad> <unk> a dog",
    "a red dog " * 66 + "cat on",
    "...",
    "!?",
    "a dog, a cat; (blue)",
    "it's the dog's photo",
    "a-red-dog",
    "a\tred\u00a0dog",
    "dog dog dog",
    "x1 y2 z3",
]
assert len(CAPTIONS) == 30


def make_tokenizer(kind, special, template):
    """A fast tokenizer of a kind: "bytes", "words", "pieces" or "unigram".

    Args:
        kind: of its model.
        special: its special tokens by role (bos_token, eos_token, pad_token, unk_token, cls_token ...).
        template: how it frames a caption, for example "<s> $A </s>".
    """
    tokens = list(dict.fromkeys(special.values()))
    unknown = special["unk_token"]
    letters = [chr(code) for code in range(33, 127)]
    if kind == "bytes":
        vocabulary = [*tokens, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        merges = []
        for word in WORDS:
            for lead in ("", "\u0120"):
                parts = [*lead, *word] if word.isascii() else []
                while len(parts) > 1:
                    merges.append((parts[0], parts[1]))
                    parts = [parts[0] + parts[1], *parts[2:]]
                    vocabulary.append(parts[0])
        ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
        backend = Tokenizer(BPE(ids, list(dict.fromkeys(merges))))
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    elif kind == "words":
        backend = Tokenizer(WordLevel({t: n for n, t in enumerate([*tokens, *WORDS])}, unknown))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif kind == "pieces":
        pieces = [*tokens, *WORDS, *letters, *(f"##{letter}" for letter in letters), "##og", "\u7ea2", "\u72d7"]
        backend = Tokenizer(WordPiece({t: n for n, t in enumerate(dict.fromkeys(pieces))}, unk_token=unknown))
        backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    else:
        scored = [(t, 0.0) for t in tokens] + [(f"\u2581{w}", -2.0) for w in WORDS] + [(c, -9.0) for c in letters]
        scored += [("\u2581", -5.0), ("og", -4.0), ("\u7ea2", -6.0)]
        backend = Tokenizer(Unigram(scored, tokens.index(unknown), byte_fallback=False))
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    numbers = [(token, backend.token_to_id(token)) for token in tokens]
    backend.post_processor = TemplateProcessing(single=template, special_tokens=numbers)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


KINDS = ("bytes", "words", "pieces", "unigram")
ROBERTA = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<s>"}
BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
# the end is not token 2, which old configurations of CLIP say where they mean the highest id
CLIP = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
SIGLIP = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
FRAMES = {
    "clip": (CLIP, "<|startoftext|> $A <|endoftext|>"),
    "metaclip_2": (ROBERTA, "<s> $A </s>"),
    "altclip": (ROBERTA, "<s> $A </s>"),
    "chinese_clip": (BERT, "[CLS] $A [SEP]"),
    "siglip": (SIGLIP, "$A </s>"),
}
ARCHITECTURES = tuple(FRAMES)


def make_model(folder, family, kind="bytes", *, seed=0, tokenizer=None, side=SIDE):
    """Save a random one: 3 vision layers of 4 heads on a 5 x 5 grid, 2 text layers of 3 heads."""
    torch.manual_seed(seed)
    tokenizer = tokenizer or make_tokenizer(kind, *FRAMES[family])
    tokenizer.model_max_length = CONTEXT
    text = {"vocab_size": len(tokenizer), "hidden_size": 36, "intermediate_size": 50, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 3, "max_position_embeddings": CONTEXT, "pad_token_id": tokenizer.pad_token_id}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = {"hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4}
    vision |= {"image_size": side, "patch_size": PATCH}
    square = {"height": side, "width": side}
    crop = {"size": {"shortest_edge": side}, "crop_size": square}
    if family == "siglip":
        model = SiglipModel(SiglipConfig(text_config=text | {"projection_size": 32}, vision_config=vision))
        processor = SiglipImageProcessorPil(size=square)
    elif family == "altclip":
        text |= {"max_position_embeddings": CONTEXT + tokenizer.pad_token_id + 1, "project_dim": 28}
        model = AltCLIPModel(AltCLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
        processor = CLIPImageProcessorPil(**crop)
    elif family == "chinese_clip":
        model = ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
        processor = ChineseCLIPImageProcessorPil(**crop)
    else:
        config, kind_of = (CLIPConfig, CLIPModel) if family == "clip" else (MetaClip2Config, MetaClip2Model)
        model = kind_of(config(text_config=text, vision_config=vision, projection_dim=20))
        processor = CLIPImageProcessorPil(**crop)
    for name, parameter in model.named_parameters():  # the default start is so even that attention is uniform
        if parameter.ndim > 1 and "norm" not in name.lower():
            parameter.data.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    if family == "siglip":
        model.logit_scale.data.fill_(2.3)
        model.logit_bias.data.fill_(-4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def processor_of(folder):
    """transformers' own image processor of a folder, in its PIL form."""
    kind = json.loads((folder / "preprocessor_config.json").read_text())["image_processor_type"].removesuffix("Pil")
    return getattr(transformers, f"{kind}Pil").from_pretrained(folder)
