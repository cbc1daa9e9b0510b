"""The scores of one run into its logs, whoever measures them: refusals told, failures named, a stop heeded."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from mmel_cli.evaluation import METRICS
from mmel_cli.names import count
from mmel_cli.pipelines import scores
from mmel_cli.pipelines.scoring import Scorer, families_of
from mmel_cli.runs import Events, RunFolder
from mmel_cli.runs.together import Opened


@dataclass
class Tally:
    """What became of each run, by label."""

    folder: RunFolder
    failures: scores.Failures
    names: tuple[str, ...]  # of numbers
    events: Events
    refused: dict[str, dict[str, str]] = field(default_factory=dict)  # by number: why

    def take(self, run: Opened, scorer: Scorer) -> None:
        """Log what is not scored yet; metrics that cannot be had are refused by name."""
        why = scorer.refusals()
        self._refuse(run.label, why)
        refused = {family for family in METRICS if any(name.name in why for name in METRICS[family].names)}
        families = [family for family in families_of(self.names) if family not in refused]
        with ExitStack() as stack:
            paths = {name: scores.log_path(self.folder.path, run, name) for name in families}
            logs = {family: stack.enter_context(scores.ScoreLog(path)) for family, path in paths.items()}
            if logs and (before := min(len(log.done) for log in logs.values())):
                self.events.message(f"{run.label}: {count(before, 'record')} scored before")
                self.events.progress(before, 0)
            self.failures.add(run.label, ())
            for batch in scorer.batches({family: log.done for family, log in logs.items()}):
                for family, measured in batch.scores.items():
                    logs[family].add(measured)
                self.failures.add(run.label, batch.failures)
                self.events.progress(batch.passed, len(batch.failures))
                if self.folder.stop.asked():
                    break

    def _refuse(self, label: str, why: Mapping[str, str]) -> None:
        """Note and tell which numbers cannot be had."""
        if why:
            self.refused[label] = dict(why)
        for reason in dict.fromkeys(why.values()):
            names = ", ".join(name for name, cause in why.items() if cause == reason)
            self.events.message(f"{label}: refused {names}: {reason}")
