"""index.html and the files of the page, beside the data or all in one file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmel_cli.report.layout import APP


def assets() -> dict[str, str]:
    """Every file of the page by its name below the report: scripts and styles of others first, then its own."""
    root = files("mmel_cli.report") / "assets"
    texts = dict(_walk(root, PurePosixPath(APP)))
    return {name: texts[name] for name in sorted(texts, key=lambda name: ("/vendor/" not in name, name))}


def _walk(folder: Any, at: PurePosixPath) -> list[tuple[str, str]]:
    texts = []
    for item in folder.iterdir():
        if item.is_dir():
            texts += _walk(item, at / item.name)
        else:
            texts.append((str(at / item.name), item.read_text("utf-8")))
    return texts


def page(title: str, app: Mapping[str, str], data: Sequence[str]) -> str:
    """index.html of a folder.

    Args:
        title: of the report.
        app: what `assets` gives.
        data: names of the data scripts that are loaded at the start.
    """
    return _render(
        title=title,
        data=list(data),
        inline=False,
        hashes={},
        script=lambda name: Markup('<script src="{}"></script>').format(name),
        style=lambda name: Markup('<link rel="stylesheet" href="{}">').format(name),
        **_names(app),
    )


def single_page(title: str, app: Mapping[str, str], data: Mapping[str, str]) -> str:
    """The whole report as one page, whose scripts and styles are known by their SHA-256.

    Args:
        title: of the report.
        app: what `assets` gives.
        data: the text of every data script, by name.
    """
    names = _names(app)
    texts = {name: _inline(text) for name, text in (*app.items(), *data.items())}
    return _render(
        title=title,
        data=list(data),
        inline=True,
        hashes={
            "scripts": _sources(texts[name] for name in (*names["scripts"], *data)),
            "styles": _sources(texts[name] for name in names["styles"]),
        },
        script=lambda name: Markup("<script>") + Markup(texts[name]) + Markup("</script>"),  # noqa: S704 - cannot end it
        style=lambda name: Markup("<style>") + Markup(texts[name]) + Markup("</style>"),  # noqa: S704 - the same
        **names,
    )


def _names(app: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        "scripts": [name for name in app if name.endswith(".js")],
        "styles": [name for name in app if name.endswith(".css")],
    }


def _inline(text: str) -> str:
    """The text of a script or style that does not end the element it stands in, with the line ends that HTML reads."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")


def _sources(texts: Any) -> Markup:
    """For a content security policy."""
    digests = (b64encode(sha256(text.encode()).digest()).decode() for text in texts)
    return Markup(" ".join(f"'sha256-{digest}'" for digest in digests) or "'none'")  # noqa: S704 - base64


def _render(title: str, **values: Any) -> str:
    readable = title.encode("utf-8", "replace").decode()  # a name of a folder need not be text
    environment = Environment(
        loader=PackageLoader("mmel_cli.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("index.html").render(title=readable, **values)
