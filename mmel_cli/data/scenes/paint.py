"""Paint scenes as tensors, a batch at a time, on any device; masks come out of the same arithmetic as the pixels."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmel_cli.data.scenes.sample import COLOURS, MAX_OBJECTS, SHAPES, STROKES, TEXTURES, Scene

_RGB = {
    "red": (0.85, 0.10, 0.12),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.95, 0.88, 0.15),
    "green": (0.12, 0.62, 0.20),
    "cyan": (0.15, 0.80, 0.85),
    "blue": (0.12, 0.22, 0.85),
    "purple": (0.55, 0.15, 0.70),
    "white": (0.95, 0.95, 0.95),
}
_UNDER = STROKES - 2  # the last two strokes run over the objects


def paint(
    scenes: list[Scene], side: int, device: str | torch.device = "cpu", *, clutter: bool = True
) -> tuple[Tensor, Tensor]:
    """Paint scenes.

    Args:
        scenes: B scenes.
        side: image height and width in pixels.
        device: where to compute; on one device the result depends on the scenes alone.
        clutter: False leaves out strokes and noise and evens the background (the first lessons of a training run).

    Returns:
        images (B, 3, side, side) float32 in 0..1, and masks (B, MAX_OBJECTS, side, side) bool of the visible part of
        each object (nothing that another object or a stroke hides).
    """
    random = [np.random.default_rng(scene.background_seed) for scene in scenes]
    axis = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
    image = _background(random, side, axis, device)
    strokes = _strokes(random, device)
    if not clutter:
        image = image.mean((2, 3), keepdim=True).expand_as(image).clone()
    for k in range(_UNDER if clutter else 0):
        _draw_stroke(image, strokes[:, k], axis)
    visible, shade, colour = _objects(scenes, random, axis, device)
    for slot in range(MAX_OBJECTS):
        alpha = visible[:, slot, None].clone()
        image.lerp_(shade[:, slot, None] * colour[:, slot, :, None, None], alpha)
        visible[:, :slot] *= 1 - alpha
    for k in range(_UNDER, STROKES if clutter else 0):
        visible *= 1 - _draw_stroke(image, strokes[:, k], axis)
    return (_expose(image, random, axis, device) if clutter else image.clamp_(0, 1)), visible > 0.5


def _stack(rows: list[np.ndarray], device: str | torch.device) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float32)).to(device)


def _background(random: list[np.random.Generator], side: int, axis: Tensor, device: str | torch.device) -> Tensor:
    """Muted blotches, a finer grain and a grating, (B, 3, side, side)."""
    blotch = _stack([_blotches(r) for r in random], device)
    grain = _stack([r.normal(0, r.uniform(0, 0.12), (1, 20, 20)) for r in random], device)
    wave = _stack([r.uniform((-14, -14, 0, 0), (14, 14, 6.3, 0.1)) for r in random], device)[:, :, None, None]
    smooth = interpolate(blotch, (side, side), mode="bicubic") + interpolate(grain, (side, side), mode="bilinear")
    phase = wave[:, 0] * axis + wave[:, 1] * axis[:, None]
    return smooth + (wave[:, 3] * torch.sin(2 * math.pi * phase + wave[:, 2]))[:, None]


def _blotches(random: np.random.Generator) -> np.ndarray:
    """(3, 5, 5): a grey level that varies, with a weaker cast of colour."""
    grey = random.uniform(0.2, 0.7) + random.normal(0, 0.12, (1, 5, 5))
    return grey + random.normal(0, 0.05, (3, 1, 1)) + random.normal(0, 0.06, (3, 5, 5))


def _strokes(random: list[np.random.Generator], device: str | torch.device) -> Tensor:
    """(B, STROKES, 8): both ends, half width, colour; in the colours of objects, so that colour alone is no answer."""
    rows = []
    for r in random:
        start = r.uniform(0, 1, (STROKES, 2))
        angle, length = r.uniform(0, 6.3, (STROKES, 1)), r.uniform(0.05, 0.45, (STROKES, 1))
        length[_UNDER:] *= 1.5
        end = start + length * np.concatenate([np.cos(angle), np.sin(angle)], 1)
        width = r.uniform(0.004, 0.018, (STROKES, 1))
        width[_UNDER:] = r.uniform(0.003, 0.007, (STROKES - _UNDER, 1))
        colour = np.array([_RGB[name] for name in r.choice(COLOURS, STROKES)]) * r.uniform(0.6, 1, (STROKES, 1))
        rows.append(np.concatenate([start, end, width, colour], 1))
    return _stack(rows, device)


def _draw_stroke(image: Tensor, stroke: Tensor, axis: Tensor) -> Tensor:
    """Draw one segment with round ends on each image, in place; its coverage (B, 1, side, side)."""
    x0, y0, x1, y1, width = (stroke[:, i, None, None] for i in range(5))
    across, down = axis - x0, axis[:, None] - y0
    dx, dy = x1 - x0, y1 - y0
    along = torch.add(across * (dx / (dx * dx + dy * dy)), down * (dy / (dx * dx + dy * dy))).clamp_(0, 1)
    distance = torch.hypot(across - along * dx, down - along * dy)
    alpha = _cover(distance - width, len(axis))[:, None]
    image.lerp_(stroke[:, 5:8, None, None], alpha)
    return alpha


def _cover(distance: Tensor, side: int) -> Tensor:
    """Pixel coverage from a signed distance in image sides: a ramp one pixel wide."""
    return (0.5 - distance * side).clamp_(0, 1)


def _objects(
    scenes: list[Scene], random: list[np.random.Generator], axis: Tensor, device: str | torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage and shade, both (B, MAX_OBJECTS, side, side), and colour (B, MAX_OBJECTS, 3) of every object."""
    side = len(axis)
    cover = torch.zeros(len(scenes), MAX_OBJECTS, side, side, device=device)
    shade = torch.zeros_like(cover)
    colour = torch.zeros(len(scenes), MAX_OBJECTS, 3, device=device)
    for shape in SHAPES:
        items = [(b, k, o) for b, scene in enumerate(scenes) for k, o in enumerate(scene.objects) if o.shape == shape]
        if not items:
            continue
        at = ([b for b, _, _ in items], [k for _, k, _ in items])
        pose = _stack([np.array([o.x, o.y, o.radius, o.angle]) for _, _, o in items], device)[:, :, None, None]
        across, down = axis - pose[:, 0], axis[:, None] - pose[:, 1]
        cos, sin = torch.cos(pose[:, 3]), torch.sin(pose[:, 3])
        u = (across * cos + down * sin) / pose[:, 2]
        v = (down * cos - across * sin) / pose[:, 2]
        cover[at] = _cover(_DISTANCE[shape](u, v) * pose[:, 2], side)
        dark = _stack([random[b].uniform(0.15, 0.45, (1, 1)) for b, _, _ in items], device)
        kind = torch.tensor([TEXTURES.index(o.texture) for _, _, o in items], device=device)
        shade[at] = 1 - (1 - dark) * _texture(u, v, kind)
        colour[at] = _stack([_RGB[o.colour] + random[b].normal(0, 0.04, 3) for b, _, o in items], device)
    return cover, shade, colour


def _texture(u: Tensor, v: Tensor, kind: Tensor) -> Tensor:
    """How much of the darker shade, 0..1: none, bands across, or round spots; in the object's own frame."""
    stripes = (torch.sin(u * (2 * math.pi / 0.62)) * 2).clamp(0, 1)
    cell_u, cell_v = (u / 0.62) - (u / 0.62).round(), (v / 0.62) - (v / 0.62).round()
    spots = ((0.32 - torch.hypot(cell_u, cell_v)) * 8).clamp(0, 1)
    kind = kind[:, None, None]
    return stripes * (kind == 1) + spots * (kind == 2)


def _expose(image: Tensor, random: list[np.random.Generator], axis: Tensor, device: str | torch.device) -> Tensor:
    """Uneven light and sensor noise, clipped to 0..1."""
    light = _stack([r.uniform((-0.35, -0.35, 0.85, 0), (0.35, 0.35, 1.1, 0.05)) for r in random], device)
    light = light[:, :, None, None]
    gain = light[:, 2] + light[:, 0] * (axis - 0.5) + light[:, 1] * (axis[:, None] - 0.5)
    image = image * gain[:, None]
    for one, r, level in zip(image, random, light[:, 3], strict=True):  # one stream a scene, whatever the batch
        generator = torch.Generator(device).manual_seed(int(r.integers(2**62)))
        one.add_(torch.randn(one.shape, generator=generator, device=device) * level)
    return image.clamp_(0, 1)


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 0.95


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.82


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    v = v - 0.15
    return torch.maximum(0.866 * u.abs() - 0.5 * v, v) - 0.58


def _star(u: Tensor, v: Tensor) -> Tensor:
    step = 2 * math.pi / 5
    angle = torch.atan2(u, -v)
    angle = (angle - (angle / step).round() * step).abs()
    radius = torch.hypot(u, v)
    # the edge from the tip (1.1, 0) to the notch at half a step and radius 0.42
    tip, notch = (1.1, 0.0), (0.42 * math.cos(step / 2), 0.42 * math.sin(step / 2))
    normal = (notch[1], tip[0] - notch[0])
    scale = math.hypot(*normal)
    return (radius * torch.cos(angle) - tip[0]) * (normal[0] / scale) + radius * torch.sin(angle) * (normal[1] / scale)


def _cross(u: Tensor, v: Tensor) -> Tensor:
    u, v = u.abs(), v.abs()
    return torch.minimum(torch.maximum(u - 0.98, v - 0.33), torch.maximum(u - 0.33, v - 0.98))


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return (torch.hypot(u, v) - 0.74).abs() - 0.26


def _heart(u: Tensor, v: Tensor) -> Tensor:
    v = v + 0.05
    a, b = (u - v) * 0.7071, (u + v) * 0.7071  # a square on its tip with a disc on each of its two upper sides
    box = torch.maximum(a.abs(), b.abs()) - 0.56
    return torch.minimum(box, torch.minimum(torch.hypot(a - 0.56, b), torch.hypot(a, b + 0.56)) - 0.56)


def _moon(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(u, v) - 1.0, 0.80 - torch.hypot(u - 0.50, v))


_DISTANCE = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "moon": _moon,
}
