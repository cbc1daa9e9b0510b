"""The documents' commands are run as they stand, in one folder, on images and a model that are made here.

`my-model` and hub ids stand for the builtin model; `photos` are scenes. What is not run is listed with the reason.
"""

import io
import re
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "mmel_cli/GUIDE.md", "mmel_cli/FORMAT.md")
SCENES, TO_LEARN = "3", "12"  # in the place of a hundred; of 12 some are held back
NOT_HERE = {"--device": "a GPU", "f.safetensors": "minutes, through the model", "runs/fused": "the same"}
MODELS = ("my-model", "openai/clip-vit-base-patch16")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def lines_of(page):
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    return [line.split(" # ")[0].strip() for line in text.splitlines() if line.startswith("mmel ")]


def arguments_of(line):
    words = shlex.split(line)[1:]
    for model in MODELS:
        words = ["builtin" if word == model else word for word in words]
    if "--count" in words:
        words[words.index("--count") + 1] = TO_LEARN if "train" in words else SCENES
    return words


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where the commands of a page run, each page by itself."""
    return {page: tmp_path_factory.mktemp(Path(page).stem) for page in PAGES}


@pytest.fixture
def place(folders, page, mmel, monkeypatch):
    """The folder of a page with what the documents take for granted."""
    folder = folders[page]
    monkeypatch.chdir(folder)
    if not (folder / "photos").exists():
        assert mmel("scenes", "photos", "--count", 3, "--seed", 4)[0] == 0
        shutil.copy(folder / "photos/images/000000.png", folder / "photo.jpg")
        (folder / "labels.txt").write_text("a red circle\na blue square\n")
        (folder / "photos/images/000000.png").rename(folder / "photos/images/cat.png")
        rows = (folder / "photos/metadata.jsonl").read_text().replace("images/000000.png", "images/cat.png")
        (folder / "photos/metadata.jsonl").write_text(rows)
        shutil.copytree(ROOT / "mmel_cli/configs", folder / "configs")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "mmel_cli/GUIDE.md"])
def test_every_command_of_the_page_does_what_it_says(page, place, mmel):
    ran = 0
    for line in lines_of(page):
        if any(mark in line for mark in NOT_HERE):
            continue
        code, out, err = mmel(*arguments_of(line))
        assert code == 0, (line, out, err)
        for option in ("--out",):
            words = shlex.split(line)
            if option in words:
                assert Path(words[words.index(option) + 1]).exists(), line
        ran += 1
    assert ran >= 6


@pytest.mark.slow
@pytest.mark.parametrize("page", ["mmel_cli/GUIDE.md", "mmel_cli/FORMAT.md"])
def test_every_python_example_of_the_page_runs(page, place, mmel):
    for run, more in (("runs/first", ()), ("runs/words", ("--words",))):
        if not Path(run).exists():
            assert mmel("explain", "photos", "--out", run, "--model", "builtin", *more)[0] == 0
    examples = blocks(page, "python")
    assert examples
    for example in examples:
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(example, page, "exec"), {})  # noqa: S102 - the project's own text
        assert printed.getvalue()
