"""A rank that `rank_scoring` starts: this module, run, takes its work as a line of JSON and answers in lines."""

import json
import os
import queue
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any


def main() -> None:
    """Score the share of every run; the end of stdin means that whoever started this process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this process ends it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    work = lines.get()
    if work["cores"]:
        os.sched_setaffinity(0, work["cores"])
    from mmel_cli.errors import MmelError  # noqa: PLC0415 - the first line may be long in coming

    try:
        _work(work, lines)
    except MmelError as error:
        _say(error={"message": str(error), "kind": error.kind})
        sys.exit(error.exit_code)


def _work(work: dict[str, Any], lines: "queue.SimpleQueue[dict[str, Any]]") -> None:
    from mmel_cli.archive import load_archive  # noqa: PLC0415
    from mmel_cli.config import EvalConfig  # noqa: PLC0415
    from mmel_cli.pipelines import scores  # noqa: PLC0415
    from mmel_cli.pipelines.models import Models  # noqa: PLC0415
    from mmel_cli.pipelines.rank import enter  # noqa: PLC0415
    from mmel_cli.pipelines.rivals import RivalTexts  # noqa: PLC0415
    from mmel_cli.pipelines.scoring import Scoring  # noqa: PLC0415
    from mmel_cli.runs import Events  # noqa: PLC0415
    from mmel_cli.runs.together import Opened, common_records, labels_of  # noqa: PLC0415

    enter(work["folder"])
    paths, config = [Path(path) for path in work["runs"]], EvalConfig.model_validate(work["config"])
    events = Events(message=lambda text: _say(message=text))
    with ExitStack() as stack:
        runs = [
            Opened(label, path, stack.enter_context(load_archive(path)))
            for label, path in zip(labels_of(paths), paths, strict=True)
        ]
        wanted = common_records(runs, config.limit, lambda _line: None)
        rivals = RivalTexts.of(runs[0].archive, config)
        models = Models(config, [(run.path, run.archive.info) for run in runs])
        for run in runs:
            with ExitStack() as own:
                share = (work["rank"], config.ranks.count)
                scoring = Scoring(run, wanted, tuple(work["names"]), rivals, config, events, models, own, share)
                _say(refused=scoring.refusals())
                done = {family: scores.scored(Path(path))[0] for family, path in lines.get()["logs"].items()}
                for batch in scoring.batches(done):
                    _say(batch=batch.plain())
            _say(end=True)


def _say(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _listen(lines: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in sys.stdin:
        lines.put(json.loads(line))
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
