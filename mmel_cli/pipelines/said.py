"""The distinct images and captions of a batch, and which of them each pair has."""

from dataclasses import dataclass

from mmel_cli.model import Captions
from mmel_cli.pipelines.differences import read_alike
from mmel_cli.pipelines.regions import BatchRegions
from mmel_cli.types import Failure


@dataclass(frozen=True)
class Said:
    """What a batch of pairs asks of a model."""

    keys: tuple[str, ...]  # of the distinct images
    texts: list[str]  # the distinct captions; `captions` goes on with the texts that some are against
    captions: Captions
    pairs: list[tuple[int, int]]  # image and caption of each
    against: list[int] | None  # the text that each caption is against
    regions: BatchRegions | None  # of words x regions, if they are wanted

    @property
    def columns(self) -> list[int]:
        """The caption of each pair."""
        return [column for _, column in self.pairs]

    def unfit(self, record_id: str, number: int) -> Failure | None:
        """Why a pair cannot be explained, by what is said of it."""
        reason = ""
        if self.against and read_alike(self.captions, self.columns[number], self.against[number]):
            reason = "the model reads its caption and the text that it is against as the same tokens"
        elif self.regions:
            reason = self.regions.unfit(number)
        return Failure(record_id, "caption", reason) if reason else None
