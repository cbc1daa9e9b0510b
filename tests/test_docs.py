"""The documents name what there is: commands, methods, settings, links, modules; test_docs_run.py runs commands."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from mmel_cli.attribution import METHODS
from mmel_cli.cli.app import app
from mmel_cli.config import load_config, load_eval_config, load_train_config

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "mmel_cli").glob("*.md"))]
TEXTS = {page.name: page.read_text() for page in PAGES}


def commands():
    """(page, command line) of every line that begins with mmel."""
    lines = [(name, line) for name, text in TEXTS.items() for line in text.replace("\\\n", " ").splitlines()]
    return [(name, line.split(" # ")[0].split(">")[0].strip()) for name, line in lines if line.startswith("mmel ")]


def test_every_command_and_method_is_named():
    for command in app.registered_commands:
        assert f"mmel {command.name}" in TEXTS["README.md"], command.name
        assert f"mmel {command.name}" in TEXTS["GUIDE.md"], command.name
    for method in METHODS:
        assert f"`{method}`" in TEXTS["GUIDE.md"], method


def test_every_command_line_parses():
    known = typer.main.get_command(app).commands
    lines = commands()
    assert len({name for name, _ in lines}) >= 2
    assert len(lines) > 20
    for _, line in lines:
        _, name, *arguments = shlex.split(line)
        if arguments != ["--help"]:
            known[name].make_context(name, arguments)


def every_key() -> set[str]:
    """Every setting of every command and method, dotted."""

    def leaves(tree, prefix=""):
        for key, value in tree.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")

    configs = [load_config(options={"method.name": method}) for method in METHODS]
    return {key for config in (*configs, load_eval_config(), load_train_config()) for key in leaves(config.plain())}


@pytest.mark.parametrize("page", [name for name in TEXTS if name not in ("ARCHITECTURE.md", "METHOD.md")])
def test_every_setting_that_a_page_names_is_one(page):
    keys = every_key()
    groups = {key.split(".")[0] for key in keys if "." in key}
    text = re.sub(r"```python.*?```", "", TEXTS[page], flags=re.DOTALL)
    named = set(re.findall(r"--set ['`]?([a-z_.]+)=", text))
    named |= {
        key
        for key in re.findall(r"`([a-z_]+\.[a-z_]+)(?:=[^`]*)?`", text)
        if key.split(".")[0] in groups and not key.endswith((".yaml", ".json", ".jsonl", ".csv", ".h5", ".py", ".md"))
    }
    unknown = {key for key in named if key not in keys and key not in ("key", "method.X")}
    assert not unknown


def test_every_relative_link_and_named_module_exists():
    for page in PAGES:
        text = page.read_text()
        for link in re.findall(r"\]\(([^):]+)\)", text):
            target, _, heading = link.partition("#")
            place = (page.parent / target) if target else page
            assert place.exists(), link
            if heading:
                anchors = [re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                           for line in place.read_text().splitlines() if line.startswith("#")]  # fmt: skip
                assert heading in anchors, link
        for module in re.findall(r"`([a-z_]+/[a-z_/]+\.(?:py|html))`", text):
            assert (ROOT / ("" if module.startswith("scripts/") else "mmel_cli") / module).exists(), module
        for script in re.findall(r"(scripts/[a-z_0-9-]+\.(?:py|sh))", text):
            assert (ROOT / script).exists(), script


def test_scripts_have_the_options_that_the_pages_give_them():
    named = 0
    for text in TEXTS.values():
        for script, rest in re.findall(r"python (scripts/[a-z_0-9]+\.py)([^`\n;)]*)", text.replace("\\\n", " ")):
            source = (ROOT / script).read_text()
            for option in re.findall(r"(--[a-z-]+)", rest.split(" #")[0]):
                assert f'"{option}"' in source, (script, option)
                named += 1
    assert named > 20


def test_no_page_has_an_open_figure():
    for text in TEXTS.values():
        assert not re.search(r"@[A-Z]+@|^\W*[A-Z]{5,}\W*$", text, re.MULTILINE)


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 130
