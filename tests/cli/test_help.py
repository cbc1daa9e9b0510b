"""Help that fits, examples that run, completion that is light, names that cannot drift."""

import functools
import os
import re
import shlex
import subprocess
import sys

import pytest

from mmel_cli import names
from mmel_cli.attribution import METHODS
from mmel_cli.cli.app import app
from mmel_cli.data.scenes import SPLITS
from mmel_cli.training.options import TrainOptions

COMMANDS = [command.name for command in app.registered_commands]


@functools.cache  # a process takes seconds to begin, and its help does not change
def run(*arguments, **environment):
    command = [sys.executable, "-m", "mmel_cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "80"} | environment
    )


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_eighty_columns_and_nothing_is_cut(command):
    shown = run(*command.split(), "--help").stdout
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "…" not in shown
    assert not re.search(r"\w\.\.\.$", shown, re.MULTILINE)


def test_every_command_has_its_line_and_an_example_that_parses():
    overview = run("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z].*\.$", overview, re.MULTILINE), command
        example = re.search(r"Example: (mmel .*)", run(command, "--help", COLUMNS="200").stdout).group(1)
        said = shlex.split(example)
        assert said[:2] == ["mmel", command]
        options = {word for word in said if word.startswith("--")}
        assert options <= set(re.findall(r"(--[a-z-]+)", run(command, "--help").stdout))


@pytest.mark.parametrize("command", ["explain", "train-weights", "eval", "fuse"])
def test_the_example_of_set_is_a_setting_of_the_command(command, tmp_path):
    setting = re.search(r"for\s+example\s+(\S+=\S+)\.\s", run(command, "--help").stdout).group(1)
    needed = {"fuse": ["--weights", "auto"], "eval": [], "explain": [], "train-weights": []}[command]
    out = tmp_path / ("w.safetensors" if command == "train-weights" else "o")
    said = run(command, tmp_path / "nope", "--out", str(out), *needed, "--set", setting).stderr
    assert "does not exist" in said
    assert "no such setting" not in said


def test_light_names_are_those_of_the_registries():
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in names.METHODS}
    assert set(names.SPLITS) == set(SPLITS)
    assert set(names.OBJECTIVES) == set(TrainOptions.__annotations__["objective"].__args__)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("mmel exp", "explain"),
        ("mmel explain x --method gra", "grad-eclip"),
        ("mmel explain x --method flow,gra", "flow,grad-eclip"),
        ("mmel explain x --dtype bf", "bfloat16"),
        ("mmel train-weights x --objective fai", "faithfulness"),
        ("mmel scenes x --split val", "validation"),
        ("mmel eval x --metrics pix", "pixel-ap"),
        ("mmel config ev", "eval"),
    ],
)
def test_the_shell_completes_names(typed, expected):
    words = str(len(typed.split()) - 1)
    shown = run(
        _MMEL_COMPLETE="complete_bash",
        COMP_WORDS=typed,
        COMP_CWORD=words,
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert expected in shown.stdout.split(), shown
    assert all(word.startswith(typed.split()[-1]) for word in shown.stdout.split())


def test_completion_loads_no_torch():
    code = "import sys, mmel_cli.cli; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
