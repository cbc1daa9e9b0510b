"""What a method is: a name, its parameters, and a pure function from a Capture to an Attribution."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from mmel_cli.attribution.views import views_of
from mmel_cli.errors import UsageError
from mmel_cli.fields import MAP, TOKEN_MAP, WORD_MAP, Field
from mmel_cli.scoring import Scoring
from mmel_cli.tensors import Attribution, Capture, ImageSide
from mmel_cli.types import Gradient

METHOD_VERSION = "2"
"""Of METHOD sections 1 and 2, which all methods share: raised when the same settings give other numbers."""

Layers = str | int | tuple[int, ...]
"""Which layers: "last", "all", a number n for the last n, or a list of layer numbers from 1 (negative from the end)."""


OF_MODEL = {
    "hidden": "the outputs of the layers",
    "alignment": "patches projected to the text",
    "entering": "what enters the attention of layers",
    "own": "a score of each layer's own",
    "alone": "patches that attend to themselves alone",
    "surgery": "patches by attention of values to values",
    "one_head": "attention as one head",
    "tails": "what follows a block of each tower",
}
"""What a method may need of a model that not every model gives."""
NEEDS = OF_MODEL | {
    "truth": "a mask or boxes of each record",
    "seeds": "random numbers drawn from the record id",
    "probe": "the model itself, to look again at altered images and captions",
}
"""Every optional part of a Capture."""


@dataclass(frozen=True)
class LayerParams:
    """Parameters that every method has."""

    layers: Layers = "all"
    text_layers: Layers = "all"


@dataclass(frozen=True)
class LastLayerParams(LayerParams):
    """Those of methods that look at the last layer by default, or at none: one is the cheapest to capture."""

    layers: Layers = "last"
    text_layers: Layers = "last"


@dataclass(frozen=True)
class GradientParams(LayerParams):
    """Those of the gradient methods: how the backward goes, and what views of the input maps are averaged over.

    `gradient`: "plain", or "balanced" (attention and the gates of activations are constants in the backward), or
    "balanced-norms" (the deviations of layer norms too; METHOD 2). `shifts` counts the image itself; each of `zooms` is
    one more view, at one more cost.
    """

    gradient: Literal["plain", "balanced", "balanced-norms"] = "plain"
    shifts: int = 1
    zooms: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        views_of(self.shifts, self.zooms, 1)

    @property
    def several(self) -> bool:
        """Whether there is more than one view."""
        return len(views_of(self.shifts, self.zooms, 1)) > 1


@dataclass(frozen=True)
class BalancedParams(GradientParams):
    """Those of the gradient methods that go backwards by balanced gradients unless told otherwise."""

    gradient: Literal["plain", "balanced", "balanced-norms"] = "balanced"


@dataclass(frozen=True)
class Target:
    """The model that a method is about to explain, as far as a method may depend on it."""

    model: str
    model_sha256: str
    layers: tuple[int, ...]  # explained vision layers
    scoring: Scoring = field(default_factory=Scoring)  # what the model makes of a cosine


@dataclass(frozen=True)
class Method:
    """One attribution method.

    `explain(capture, params, state)` is pure and gives the fields that `fields(params, target)` declares, for example
    raw maps of each layer: no more, no less.
    `prepare(params, target)` runs once before the first capture and makes `state` (for example loads a weights file).
    `needs` names the optional parts of a Capture, keys of NEEDS. With "own" the gradients are those of each layer's own
    score, and no others.
    `decides(params, target)` says what else than the parameters decides the maps (a file's SHA-256), `describe(params,
    target)` what else a reader wants to know of them; `version` is raised when the same parameters give other numbers.
    `one_head(params)` asks for the published Grad-ECLIP forward (METHOD 2, heads: single).
    `on_probe` says what it does where a tower has no class token but pools with a probe (SigLIP).
    `along(side, params, state)`, of a method that has it, explains images along directions of the joint space in place
    of a caption, as a map each; phrases are explained by it (METHOD 9).
    `caption_blind`: its map of an image is the same for any caption (it may depend on the record), so that it has none
    for the difference of two scores.
    `fuse(fields, params, state)`, of a method that has it, makes the final map from its other fields alone, so that an
    archive can be fused again without the model.
    """

    name: str
    summary: str
    source: str
    cost: str  # in passes through the model, for an image and a caption
    params: type[LayerParams]
    explain: Callable[[Capture, Any, Any], Attribution]
    fields: Callable[[Any, Target], tuple[Field, ...]] = lambda _params, _target: (MAP, TOKEN_MAP)
    needs: frozenset[str] = frozenset()
    prepare: Callable[[Any, Target], Any] = lambda _params, _target: None
    decides: Callable[[Any, Target], dict[str, str]] = lambda _params, _target: {}
    describe: Callable[[Any, Target], dict[str, str]] = lambda _params, _target: {}
    version: str = "1"
    one_head: Callable[[Any], bool] = lambda _params: False
    on_probe: str = "the same: it looks at scores alone"
    along: Callable[[ImageSide, Any, Any], Tensor] | None = None
    caption_blind: bool = False
    fuse: Callable[[dict[str, Tensor], Any, Any], Tensor] | None = None

    @property
    def of_one_score(self) -> str:
        """Why it explains no difference of two scores (--against); "" where it does."""
        if self.caption_blind:
            return "makes the same map for any caption: none of a difference"
        if any(field.name == WORD_MAP.name for field in self.fields(self.params(), Target("", "", (1,)))):
            return "joins the words of one caption to regions: it has no map of a difference"
        return ""

    @property
    def modality(self) -> str:
        """What of a pair it explains, by the fields that it declares for its default parameters."""
        names = {field.name for field in self.fields(self.params(), Target("", "", (1,)))}
        return "image and caption" if TOKEN_MAP.name in names else "image"


def gradient_of(params: LayerParams) -> Gradient:
    """How a method with these parameters goes backwards through the model."""
    return params.gradient if isinstance(params, GradientParams) else "none"


def wants_whole(method: Method, params: LayerParams) -> bool:
    """Whether a method reads the gradients of the score at the layers.

    Not without a backward, nor for scores of layers' own, nor where it makes its own gradients at the pixels.
    """
    return gradient_of(params) != "none" and not method.needs & {"own", "probe"}


def resolve_layers(layers: Layers, total: int, name: str = "layers", of: str = "method") -> tuple[int, ...]:
    """The layer numbers (from 1, ascending) that `layers` means for a tower of `total` layers.

    Raises:
        UsageError: naming the setting and what it may be.
    """
    if layers == "all":
        return tuple(range(1, total + 1))
    if layers == "last":
        return (total,)
    if isinstance(layers, int) and layers >= 1:
        return tuple(range(max(1, total - layers + 1), total + 1))
    if isinstance(layers, tuple) and layers:
        numbers = tuple(sorted({n if n > 0 else total + 1 + n for n in layers}))
        if numbers[0] >= 1 and numbers[-1] <= total and 0 not in layers:
            return numbers
    raise UsageError(
        f"{of}.{name}: {layers!r} is not 'last', 'all', how many of the last layers, or a list of numbers "
        f"from 1 to {total} (or -1 to -{total})"
    )
