"""Train the builtin CLIP on generated scenes, or the control that it is compared with; measure it on the test split.

    python scripts/train_builtin.py train --out runs/builtin --steps 10000    (run again to go on after an interruption)
    python scripts/train_builtin.py train --out runs/control --shape control --steps 6000 --compile
    python scripts/train_builtin.py evaluate --model mmel_cli/model/builtin

The control never ships. It has another width, number of heads and layers, grid, patch and seed, and other scenes, so
that what is chosen on both models is not chosen for one.

Objective: the symmetric contrastive loss of CLIP over several captions an image, with captions that are one swap away
from the truth as further negatives. Captions that happen to be true of another image in the batch are known exactly
and are left out of its negatives.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

try:
    from transformers import CLIPImageProcessorPil as ImageProcessor
except ImportError:
    from transformers import CLIPImageProcessor as ImageProcessor

from mmel_cli.data.scenes import KINDS, Caption, Scene, captions_of, hard_negatives, sample_scene
from mmel_cli.data.scenes.captions import NUMBERS, PREFIXES, RELATIONS, full_caption, truth_table
from mmel_cli.data.scenes.paint import paint
from mmel_cli.data.scenes.sample import COLOURS, SHAPES, SIZES, TEXTURES

SCENE_SIDE, DATA_SEED = 192, 0  # of the choices that measure a model
VIEWS, NEGATIVES, CHOICES = 2, 3, 64


@dataclass(frozen=True)
class Shape:
    """What one model differs from another in; `seed` is that of its weights and its training scenes."""

    side: int
    patch: int
    width: int
    layers: int
    heads: int
    text_width: int
    text_layers: int
    text_heads: int
    joint: int
    seed: int


MODELS = {
    "builtin": Shape(
        96, 8, width=128, layers=6, heads=4, text_width=96, text_layers=4, text_heads=4, joint=128, seed=0
    ),
    "control": Shape(
        100, 10, width=112, layers=5, heads=7, text_width=80, text_layers=3, text_heads=5, joint=96, seed=7
    ),
}


def make_tokenizer() -> CLIPTokenizer:
    """A byte-level BPE in CLIP's format, learned from the words of the captions; other words are spelled in pieces."""
    corpus = [*PREFIXES, "a an and", *SHAPES, *(f"{s}s" for s in SHAPES), "crosses", *COLOURS, *TEXTURES, *SIZES]
    corpus += [*RELATIONS, *NUMBERS]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        corpus * 2, trainers.BpeTrainer(vocab_size=2000, end_of_word_suffix="</w>", initial_alphabet=alphabet)
    )
    state = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in state["merges"]]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *(a + b for a, b in merges)]
    words = [*dict.fromkeys(words), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges, model_max_length=32)


def make_model(tokenizer: CLIPTokenizer, shape: Shape) -> CLIPModel:
    """1.7 M parameters for the builtin model: 6 vision layers on a 12 x 12 grid, 4 text layers."""
    end = tokenizer.eos_token_id
    text = {"vocab_size": len(tokenizer), "hidden_size": shape.text_width, "intermediate_size": 4 * shape.text_width}
    text |= {"num_hidden_layers": shape.text_layers, "num_attention_heads": shape.text_heads}
    text |= {"max_position_embeddings": 32, "projection_dim": shape.joint}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": end, "pad_token_id": end}
    vision = {"hidden_size": shape.width, "intermediate_size": 4 * shape.width, "num_hidden_layers": shape.layers}
    vision |= {"num_attention_heads": shape.heads, "image_size": shape.side, "patch_size": shape.patch}
    vision |= {"projection_dim": shape.joint}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=shape.joint)
    # on the CPU the backward of the fused attention kernel is 4 times slower than plain matrix products
    model = CLIPModel._from_config(config, attn_implementation="eager")
    start_well(model)
    return model


@torch.no_grad()
def start_well(model: CLIPModel) -> None:
    """Give the vision tower a start from which shapes are learned in minutes on two cores.

    Positions start as waves, as strong as the patches; q and k start equal and of unit scale, so that attention
    begins among tokens that are alike and near each other. From CLIP's own start (positions near zero, attention
    almost uniform) the model knew colours only after 180,000 images.
    """
    tower = model.vision_model
    position = tower.embeddings.position_embedding.weight
    grid = tower.config.image_size // tower.config.patch_size
    position[1:] = wave_positions(grid, position.shape[1])
    for block in tower.encoder.layers:
        attention = block.self_attn
        for projection in (attention.q_proj, attention.v_proj, attention.out_proj):
            torch.nn.init.normal_(projection.weight, std=0.8 * attention.embed_dim**-0.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)


@torch.no_grad()
def take_vision(model: CLIPModel, earlier: Path) -> None:
    """Begin with an earlier run's vision tower and projection; the text tower starts anew."""
    weights = load_file(earlier / "model.safetensors")
    weights = {name: value for name, value in weights.items() if name.startswith("vis")}
    missing, unknown = model.load_state_dict(weights, strict=False)
    if unknown or any(name.startswith("vis") for name in missing):
        raise SystemExit(f"{earlier}: the vision tower has another shape than this script's model")


def wave_positions(side: int, width: int) -> Tensor:
    """(side * side, width): sines and cosines of row and column."""
    place = torch.arange(side, dtype=torch.float32)
    rates = math.pi / side * 2 ** torch.linspace(0, math.log2(side), width // 4)
    waves = torch.cat([torch.sin(place[:, None] * rates), torch.cos(place[:, None] * rates)], 1)
    rows = waves[:, None].expand(-1, side, -1)
    return 0.3 * torch.cat([rows, rows.transpose(0, 1)], 2).flatten(0, 1)


def make_processor(side: int) -> ImageProcessor:
    """CLIP's preprocessing at the model's size."""
    return ImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


@dataclass(frozen=True)
class Batch:
    """Scenes, captions (the VIEWS x B true ones first) and which caption is true of which scene (captions, B)."""

    scenes: list[Scene]
    ids: Tensor
    mask: Tensor
    truth: Tensor


class Batches(torch.utils.data.Dataset):
    """Batch number `step` of the training split: a pure function of the step, so a resumed run sees the same data.

    Scenes hold one object for the first `singles` of the run, one to four after that.
    """

    def __init__(self, tokenizer: CLIPTokenizer, args: argparse.Namespace, seed: int, first: int) -> None:
        self.tokenizer, self.seed, self.first = tokenizer, seed, first
        self.size, self.steps, self.singles = args.batch, args.steps, args.singles

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, item: int) -> Batch:
        step = self.first + item
        counts = (1,) if step < self.singles * self.steps else (1, 2, 3, 4)
        scenes = [sample_scene(self.seed, "train", step * self.size + i, counts) for i in range(self.size)]
        rng = np.random.default_rng([self.seed, 10, step])
        views: list[list[Caption]] = [[] for _ in range(VIEWS)]
        negatives: list[Caption] = []
        for scene in scenes:
            true = captions_of(scene, rng)
            chosen = [true[int(k)] for k in rng.permutation(len(true))[:VIEWS]]
            for view, caption in zip(views, (chosen * VIEWS)[:VIEWS], strict=True):
                view.append(caption)
                near = [other for other in hard_negatives(caption, scene) if not other.held_out]
                negatives += [near[int(k)] for k in rng.permutation(len(near))[: math.ceil(NEGATIVES / VIEWS)]]
        captions = [caption for view in views for caption in view] + negatives
        truth = torch.from_numpy(truth_table(captions, scenes))
        words = self.tokenizer([c.text for c in captions], padding=True, return_tensors="pt")
        return Batch(scenes, words["input_ids"], words["attention_mask"], truth)


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, truth: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy, averaged over the views.

    images (B, D), texts (VIEWS * B + negatives, D), both of unit length; truth (texts, B) bool.
    """
    size = len(images)
    logits = scale * texts @ images.T
    own = torch.eye(size, dtype=torch.bool, device=images.device)
    target = torch.arange(size, device=images.device)
    loss = logits.new_zeros(())
    for view in range(VIEWS):
        rows = slice(view * size, (view + 1) * size)
        here = logits[rows].masked_fill(truth[rows] & ~own, -math.inf)
        false_texts = logits[VIEWS * size :].masked_fill(truth[VIEWS * size :], -math.inf)
        loss = loss + cross_entropy(here, target) + cross_entropy(torch.cat([here, false_texts]).T, target)
    return loss / (2 * VIEWS)


def optimizer_for(model: CLIPModel, rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay on gains, biases and the temperature."""
    plain = [p for p in model.parameters() if p.ndim < 2]
    decay = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 300 steps, then half a cosine to zero."""
    return peak * min(1.0, (step + 1) / 300) * 0.5 * (1 + math.cos(math.pi * step / steps))


def save_state(folder: Path, model: CLIPModel, optimizer: torch.optim.AdamW, step: int) -> None:
    """Write model and optimizer to one safetensors file, by rename, so that a kill leaves the last one whole."""
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for k, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{k}.{name}": value for name, value in state.items()}
    save_file(tensors, folder / "state.tmp", {"step": str(step)})
    (folder / "state.tmp").rename(folder / "state.safetensors")


def load_state(folder: Path, model: CLIPModel, optimizer: torch.optim.AdamW) -> int:
    """Restore what save_state wrote; the step to go on from, 0 when there is nothing."""
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, k, key = name.split(".")
            state.setdefault(int(k), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(next(iter(state.values()))["step"].item()) if state else 0


def train(args: argparse.Namespace) -> None:
    """Train, logging one JSON line every 50 steps and a validation line every `--check`."""
    shape = MODELS[args.shape]
    torch.manual_seed(shape.seed)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    args.out.mkdir(parents=True, exist_ok=True)
    made = (args.out / "tokenizer.json").exists()  # learned once: equal counts may be merged in another order
    tokenizer = CLIPTokenizer.from_pretrained(args.out) if made else make_tokenizer()
    processor = make_processor(shape.side)
    model = make_model(tokenizer, shape).to(device)
    if args.vision_from:
        take_vision(model, args.vision_from)
    optimizer = optimizer_for(model, args.rate)
    first = load_state(args.out, model, optimizer)
    tokenizer.save_pretrained(args.out)
    processor.save_pretrained(args.out)
    vision = torch.compile(model.get_image_features) if args.compile else model.get_image_features
    mean = torch.tensor(processor.image_mean, device=device).view(3, 1, 1)
    spread = torch.tensor(processor.image_std, device=device).view(3, 1, 1)
    loader = torch.utils.data.DataLoader(
        Batches(tokenizer, args, shape.seed, first), batch_size=None, num_workers=args.workers
    )
    log, since = (args.out / "training_log.jsonl").open("a"), time.perf_counter()
    for step, batch in enumerate(loader, first):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, args.steps, args.rate)
        pixels, _ = paint(batch.scenes, shape.side, device, clutter=step >= args.clean * args.steps)
        with torch.autocast(device.type, torch.bfloat16):
            images = vision((pixels - mean) / spread).pooler_output
            texts = model.get_text_features(batch.ids.to(device), batch.mask.to(device)).pooler_output
        images, texts = normalize(images.float(), dim=-1), normalize(texts.float(), dim=-1)
        loss = contrastive(images, texts, model.logit_scale.exp(), batch.truth.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        model.logit_scale.data.clamp_(max=math.log(100))
        if (step + 1) % 50 == 0:
            seconds = (time.perf_counter() - since) / 50
            line = {"step": step + 1, "loss": round(loss.item(), 4), "seconds_a_step": round(seconds, 3)}
            if (step + 1) % args.check == 0 or step + 1 == args.steps:
                line |= validate(model, tokenizer, processor, "validation", 200)
                save_state(args.out, model, optimizer, step + 1)
                model.save_pretrained(args.out)
            print(json.dumps(line), file=log, flush=True)
            since = time.perf_counter()


def choices(kind: str, split: str, count: int) -> list[tuple[Scene, list[Caption]]]:
    """`count` scenes with the true caption and CHOICES hard negatives (one swap first, then two)."""
    rng, made, index = np.random.default_rng([DATA_SEED, 11]), [], 0
    counts = (1,) if kind == "single" else (2, 3, 4)
    while len(made) < count:
        scene = sample_scene(DATA_SEED, split, index, counts)
        index += 1
        true = [full_caption(scene.objects[0])] if kind == "single" else captions_of(scene, rng, (kind,))
        if not true:
            continue
        near, far = hard_negatives(true[0], scene), hard_negatives(true[0], scene, swaps=2)
        wrong = [*near, *(far[int(k)] for k in rng.permutation(len(far)))][:CHOICES]
        made.append((scene, [true[0], *wrong]))
    return made


@torch.no_grad()
def validate(model: CLIPModel, tokenizer: CLIPTokenizer, processor: ImageProcessor, split: str, count: int) -> dict:
    """Top-1 retrieval among CHOICES hard negatives, per kind; and the two-way choices that isolate one ability.

    Scenes are drawn at SCENE_SIDE, rounded to 8 bits and go through the image processor, as real files do.
    """
    model.eval()
    device = model.logit_scale.device
    figures = {}
    for kind in ("single", *KINDS):
        cases = choices(kind, split, count)
        hits, near_hits, held_out = [], [], []
        for scene, captions in cases:
            pixels = paint([scene], SCENE_SIDE)[0][0].mul(255).round().byte().permute(1, 2, 0).numpy()
            inputs = processor(Image.fromarray(pixels), return_tensors="pt").to(device)
            words = tokenizer([c.text for c in captions], padding=True, return_tensors="pt").to(device)
            image = model.get_image_features(inputs["pixel_values"]).pooler_output
            scores = (normalize(model.get_text_features(**words).pooler_output, dim=-1) @ image[0]).cpu()
            hits.append(bool(scores.argmax() == 0))
            held_out.append(any(scene.objects[k].held_out for k in captions[0].about(scene)))
            # only what this kind adds: the opposite relation, the other numbers
            rivals = [i for i, c in enumerate(captions) if i and c.first == captions[0].first]
            rivals = [i for i in rivals if captions[i].second == captions[0].second]
            if rivals and kind in ("relation", "count"):
                near_hits.append(bool(scores[0] > scores[rivals].max()))
        figures[kind] = round(float(np.mean(hits)), 4)
        if kind == "single" and any(held_out):
            rare = np.array(held_out)
            figures["single_seen"] = round(float(np.mean(np.array(hits)[~rare])), 4)
            figures["single_held_out"] = round(float(np.mean(np.array(hits)[rare])), 4)
        if near_hits:
            figures[f"{kind}_only"] = round(float(np.mean(near_hits)), 4)
    model.train()
    return figures


def evaluate(args: argparse.Namespace) -> None:
    """Print the test figures of a saved model as JSON."""
    model = CLIPModel.from_pretrained(args.model).eval()
    tokenizer = CLIPTokenizer.from_pretrained(args.model)
    print(json.dumps(validate(model, tokenizer, ImageProcessor.from_pretrained(args.model), "test", args.count)))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--steps", type=int, default=10000)
    command.add_argument("--batch", type=int, default=64)
    command.add_argument("--rate", type=float, default=1e-3)
    command.add_argument("--shape", choices=list(MODELS), default="builtin")
    command.add_argument("--check", type=int, default=500)
    command.add_argument("--clean", type=float, default=0.12, help="part of the run without clutter")
    command.add_argument("--singles", type=float, default=0.42, help="part of the run with one object a scene")
    command.add_argument("--vision-from", type=Path, help="begin with the vision tower of an earlier run")
    command.add_argument("--workers", type=int, default=1)
    command.add_argument("--device")
    command.add_argument("--compile", action="store_true", help="torch.compile the vision tower; needs a C++ compiler")
    command.set_defaults(run=train)
    command = commands.add_parser("evaluate")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--count", type=int, default=500)
    command.set_defaults(run=evaluate)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
