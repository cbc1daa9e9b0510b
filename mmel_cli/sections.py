"""The settings of every command as sections that are validated once.

The settings of each part live with the part (image limits, archive, heatmap, method parameters); this module composes
them. It is longer than others because it is the one list of what every command can be told.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic.dataclasses import dataclass as validated

from mmel_cli.archive import ArchiveOptions
from mmel_cli.attribution import METHODS, find_method
from mmel_cli.attribution.base import LayerParams
from mmel_cli.data.images import ImageLimits
from mmel_cli.errors import UsageError
from mmel_cli.evaluation import select
from mmel_cli.evaluation.compare import ComparisonOptions
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions
from mmel_cli.evaluation.localisation import LocalisationOptions
from mmel_cli.evaluation.modalities import ModalityOptions
from mmel_cli.evaluation.protocols import AidOptions
from mmel_cli.evaluation.sanity import SanityOptions
from mmel_cli.model.match import MatchOptions
from mmel_cli.model.preprocess import GEOMETRIES
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.render import BY_PART, HeatmapOptions
from mmel_cli.training.options import TrainOptions

_STRICT = ConfigDict(extra="forbid")

DEFAULT_MODEL = "openai/clip-vit-base-patch16"
DEFAULT_METHOD = "mmel"


def _strict(part: type) -> type:
    """A stdlib dataclass, validated and with unknown fields forbidden."""
    return cast("type", validated(part, config=_STRICT, frozen=True))


_Image = _strict(ImageLimits)
_Archive = _strict(ArchiveOptions)
_Heatmap = _strict(HeatmapOptions)
_Faithfulness = _strict(FaithfulnessOptions)
_Aid = _strict(AidOptions)
_Localisation = _strict(LocalisationOptions)
_Sanity = _strict(SanityOptions)
_Modalities = _strict(ModalityOptions)
_Comparison = _strict(ComparisonOptions)
_Training = _strict(TrainOptions)
_Words = _strict(WordOptions)
_Match = _strict(MatchOptions)


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def plain(self) -> dict[str, Any]:
        """The resolved configuration as plain values, ready for YAML and JSON."""
        return cast("dict[str, Any]", _jsonable(self.model_dump(mode="python")))


class ModelConfig(Section):
    """Which model is explained, and at which input."""

    name: str = DEFAULT_MODEL
    image_size: tuple[int, int] | None = None  # height, width in pixels; None: as it was trained

    @field_validator("image_size", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        """Text like 224,336 as --set gives it, one number for a square."""
        parts = value.split(",") if isinstance(value, str) else value
        parts = (parts, parts) if isinstance(parts, int) else parts
        if parts is not None and (len(parts) != 2 or not all(str(part).strip().isdecimal() for part in parts)):
            raise ValueError("must be height,width in pixels, for example 224,336")
        return None if parts is None else tuple(int(part) for part in parts)

    @field_validator("image_size")
    @classmethod
    def _positive(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError("must be height,width in pixels, for example 224,336")
        return value


class TrainModelConfig(ModelConfig):
    """The same for `mmel train-weights`, where an archive may name its model."""

    name: str | None = None  # type: ignore[assignment]  # None: the archive's, or the default one for a dataset


class InputConfig(Section):
    """How images and captions are found."""

    caption: str | None = None  # for a single image
    caption_column: str | None = None  # of metadata and tables
    image_column: str | None = None  # the same
    prompts: Path | None = None  # a file of texts, one a line, in the place of captions


class AgainstConfig(Section):
    """What the score of each caption is explained against: nothing, a text, or the image's next other caption."""

    text: str | None = None
    other: bool = False

    @field_validator("other")
    @classmethod
    def _alone(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("text") is not None:
            raise ValueError("against.text says already what captions are explained against; leave one out")
        return value

    @property
    def given(self) -> bool:
        """Whether differences are explained."""
        return self.other or self.text is not None


class ImageConfig(Section):
    """How images are decoded and laid under the patch grid."""

    geometry: str = "native"
    limits: _Image = _Image()  # type: ignore[valid-type]

    @field_validator("geometry")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in GEOMETRIES:
            raise ValueError(f"is not one of {', '.join(GEOMETRIES)}")
        return value


class LimitsConfig(Section):
    """How images are decoded where the geometry is that of a run."""

    limits: _Image = _Image()  # type: ignore[valid-type]


class MethodConfig(Section):
    """A method by name, and its own parameters."""

    name: str
    params: LayerParams

    def plain(self) -> dict[str, Any]:
        """Name and parameters in one flat group, as they are written in YAML."""
        return {"name": self.name} | cast("dict[str, Any]", _jsonable(dataclasses.asdict(self.params)))


class WorkersConfig(Section):
    """How many processes share the work, and what starts them."""

    count: int = Field(default=1, ge=1, le=4096)
    engine: Literal["local", "ray"] = "local"
    address: str | None = None  # of a Ray cluster; None: one is started
    cores: int = Field(default=1, ge=1)  # of an actor of Ray
    gpus: float | None = Field(default=None, ge=0)  # of an actor of Ray; None: 1 where the cluster has any

    @property
    def several(self) -> bool:
        """Whether this process starts others, and does none of the work itself."""
        return self.count > 1 or self.engine != "local" or self.address is not None


class RanksConfig(WorkersConfig):
    """Of a run, whose ranks claim shards."""

    lease: float = Field(default=60.0, ge=0.5)  # seconds without a sign of life until a shard is taken over
    restarts: int = Field(default=3, ge=0)  # of an actor of Ray


class RunConfig(Section):
    """Everything that `mmel explain` can be told."""

    model: ModelConfig = ModelConfig()
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | Literal["auto"] = 16
    workers: int = Field(default=4, ge=1, le=256)
    draw_processes: int = Field(default=0, ge=0, le=256)
    ranks: RanksConfig = RanksConfig()
    limit: int | None = Field(default=None, ge=1)
    heatmaps: bool = True
    report: bool = True  # index.html: every record with its map
    word_values: bool = True
    words: _Words = _Words()  # type: ignore[valid-type]
    match: _Match = _Match()  # type: ignore[valid-type]
    high_norm: bool = True
    input: InputConfig = InputConfig()
    against: AgainstConfig = AgainstConfig()
    image: ImageConfig = ImageConfig()
    method: MethodConfig = Field(default={"name": DEFAULT_METHOD}, validate_default=True)
    archive: _Archive = _Archive()  # type: ignore[valid-type]
    heatmap: _Heatmap = _Heatmap()  # type: ignore[valid-type]

    @field_validator("model", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A name alone stands for the group, and nothing for its defaults."""
        return {"name": value} if isinstance(value, str) else {} if value is None else value

    @field_validator("batch_size", mode="before")
    @classmethod
    def _open_or_a_number(cls, value: Any) -> Any:
        """Text as an option gives it, too."""
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if number != "auto" and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
            raise ValueError("must be a number of pairs of at least 1, or auto")
        return number

    @field_validator("method", mode="before")
    @classmethod
    def _method(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError(f"needs a name: one of {', '.join(METHODS)}")  # noqa: TRY004 - pydantic collects ValueError
        method = find_method(value["name"])
        params = _strict(method.params)
        given = {
            name: tuple(item) if isinstance(item, list) else item for name, item in value.items() if name != "name"
        }
        return MethodConfig.model_construct(name=method.name, params=TypeAdapter(params).validate_python(given))

    @field_validator("method")
    @classmethod
    def _looks_at_captions(cls, value: MethodConfig, info: ValidationInfo) -> MethodConfig:
        against = info.data.get("against")
        if isinstance(against, AgainstConfig) and against.given and METHODS[value.name].of_one_score:
            fit = ", ".join(name for name, method in METHODS.items() if not method.of_one_score)
            raise ValueError(f"{value.name} {METHODS[value.name].of_one_score}; choose from {fit}")
        return value

    @field_validator("heatmap")
    @classmethod
    def _drawable(cls, value: Any, info: ValidationInfo) -> Any:
        """Panels of phrases or words want a run that has their regions, where it draws pictures at all."""
        wanted, words = value.panels in BY_PART and info.data.get("heatmaps"), info.data.get("words")
        if wanted and words is not None and not words.regions:
            raise ValueError(
                f"heatmap.panels {value.panels} shows where phrases and words come from: add --words, or take auto, "
                "overlay or side-by-side"
            )
        return value

    @field_serializer("method")
    def _flat(self, value: MethodConfig) -> dict[str, Any]:
        return value.plain()


class EvalConfig(Section):
    """Everything that `mmel eval` can be told."""

    metrics: tuple[str, ...] = ("standard",)
    model: str | None = None  # where the runs' model lies now; default: where they found it
    data: Path | None = None  # where their input lies now
    captions: Path | None = None  # a text file, one caption a line, to tell the right one from
    rivals: int = Field(default=64, ge=1)  # without a file: so many distinct captions of the first run
    ranks: WorkersConfig = WorkersConfig()
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = Field(default=16, ge=1)
    workers: int = Field(default=4, ge=1, le=256)
    limit: int | None = Field(default=None, ge=1)
    plots: bool = True
    report: bool = True  # index.html: the records of all runs side by side
    image: LimitsConfig = LimitsConfig()
    faithfulness: _Faithfulness = _Faithfulness()  # type: ignore[valid-type]
    aid: _Aid = _Aid()  # type: ignore[valid-type]
    localisation: _Localisation = _Localisation()  # type: ignore[valid-type]
    sanity: _Sanity = _Sanity()  # type: ignore[valid-type]
    modalities: _Modalities = _Modalities()  # type: ignore[valid-type]
    comparison: _Comparison = _Comparison()  # type: ignore[valid-type]

    @field_validator("metrics", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
            raise ValueError("needs names of metrics or groups")
        try:
            select(names)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return tuple(names)


class FuseConfig(Section):
    """What of `mmel fuse` is a setting."""

    report: bool = True  # index.html of the new run
    image: LimitsConfig = LimitsConfig()


class TrainConfig(RunConfig):
    """Everything that `mmel train-weights` can be told: how a dataset is explained first, and how weights are learned.

    With an archive as input, what concerns the explaining is the archive's; model.name then says where it lies now.
    """

    model: TrainModelConfig = TrainModelConfig()
    batch_size: int = Field(default=16, ge=1)
    data: Path | None = None  # where the input of an archive lies now
    training: _Training = _Training()  # type: ignore[valid-type]

    @property
    def objective(self) -> str:
        """What the weights are learned for."""
        return cast("TrainOptions", self.training).objective

    def run_settings(self) -> dict[str, Any]:
        """That of the run that explains a dataset: untrained, every channel, no pictures, words or marks."""
        plain = self.plain()
        settings = {name: plain[name] for name in RunConfig.model_fields}
        settings["model"] = plain["model"] | {"name": self.model.name or DEFAULT_MODEL}
        settings |= {"heatmaps": False, "word_values": False, "words": plain["words"] | {"regions": False}}
        settings |= {"match": {"captions": 0}, "high_norm": False}
        settings["method"] |= {"weights": "untrained"}
        settings["archive"] |= {"channels": "all"}
        return settings


def _jsonable(value: Any) -> Any:
    """Dataclasses, tuples and paths to plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return str(value) if isinstance(value, Path) else value
