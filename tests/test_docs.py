"""README and ARCHITECTURE name what there is."""

import re
import shlex
from pathlib import Path

import typer

from mmel_cli.attribution import METHODS
from mmel_cli.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_readme_names_every_command_and_method():
    for command in app.registered_commands:
        assert f"mmel {command.name}" in README
    for method in METHODS:
        assert f"`{method}`" in README


def test_every_command_line_of_the_readme_parses():
    commands = typer.main.get_command(app).commands
    lines = [line.split("#")[0].split(">")[0] for line in README.splitlines() if line.startswith("mmel ")]
    assert len(lines) > 20
    for line in lines:
        _, name, *arguments = shlex.split(line)
        if arguments != ["--help"]:
            commands[name].make_context(name, arguments)


def test_every_relative_link_and_named_module_exists():
    for page in (ROOT / "README.md", ROOT / "mmel_cli/ARCHITECTURE.md"):
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / link).exists(), link
        for module in re.findall(r"`([a-z_]+/[a-z_/]+\.(?:py|html))`", text):
            assert (ROOT / "mmel_cli" / module).exists(), module


def test_no_page_has_an_open_figure():
    for page in (README, (ROOT / "mmel_cli/METHOD.md").read_text()):
        assert not re.search(r"@[A-Z]+@|^\W*[A-Z]{5,}\W*$", page, re.MULTILINE)
