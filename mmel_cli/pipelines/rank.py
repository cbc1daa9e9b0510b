"""A rank that `ranks` starts: this module, run, takes its work as a line of JSON and answers in lines."""

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmel_cli.runs import Stop


def main() -> None:
    """Do the work that the first line of stdin says; its end means that whoever started this process is gone."""
    work = json.loads(sys.stdin.readline())
    if work["cores"]:
        os.sched_setaffinity(0, work["cores"])
    threading.Thread(target=_until_alone, daemon=True).start()
    from mmel_cli.errors import MmelError  # noqa: PLC0415 - torch counts its threads when it is imported
    from mmel_cli.pipelines.rank_process import SIGNALS  # noqa: PLC0415
    from mmel_cli.runs import Stop  # noqa: PLC0415

    stop = Stop()
    try:
        with stop.watch():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            _work(work, stop)
    except MmelError as error:
        _say(error={"message": str(error), "kind": error.kind})
        sys.exit(error.exit_code)


def _work(work: dict[str, Any], stop: "Stop") -> None:
    from mmel_cli.pipelines.explain import explain_folders  # noqa: PLC0415
    from mmel_cli.pipelines.planning import Rank  # noqa: PLC0415
    from mmel_cli.pipelines.ranks import plain  # noqa: PLC0415
    from mmel_cli.runs import Events  # noqa: PLC0415
    from mmel_cli.sections import RunConfig  # noqa: PLC0415

    enter(work["folder"])
    events = Events(
        lambda text: _say(message=text),
        lambda total: _say(total=total),
        lambda done, failed: _say(progress=[done, failed]),
    )
    places = {Path(out): RunConfig.model_validate(config) for out, config in work["places"].items()}
    rank = Rank(work["rank"], work["of"], work["job"], driven=True, began=work["began"])
    summaries, _ = explain_folders(Path(work["source"]), places, overwrite=False, events=events, rank=rank, stop=stop)
    _say(summaries=plain(summaries))


def enter(folder: str) -> None:
    """Go to the folder that relative paths are relative to.

    Raises:
        UsageError: if this machine has none of that name.
    """
    from mmel_cli.errors import UsageError  # noqa: PLC0415

    try:
        os.chdir(folder)
    except OSError as error:
        where = f"{os.uname().nodename}: {folder}"
        raise UsageError(f"{where} cannot be entered; ranks need the same folders on every machine") from error


def _say(**said: object) -> None:
    with suppress(BrokenPipeError):  # who listened is gone, and _until_alone stops the work
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def _until_alone() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
