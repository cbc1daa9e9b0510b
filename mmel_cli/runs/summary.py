"""What a run did, as summary.json says it."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Summary:
    """What a run did, as summary.json and `--json` give it."""

    out: str
    layout: str
    model: str
    method: str
    done: int  # records in the archive
    failed: int
    failed_by_stage: dict[str, int]
    without_caption: int
    truncated_captions: int  # among the records of this call
    resumed: int  # records that an earlier call had finished
    seconds: float  # of this call, with all methods that shared it
    complete: bool  # False after an interruption
    remaining: int = 0  # records of a fused archive that were not reached
    report: str = ""
    warnings: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)  # that shared the call, if there were several

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)
