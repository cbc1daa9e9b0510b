"""A real run of the builtin model on its scenes, as mmel explain leaves it, in a browser."""

import re

import numpy as np
import pytest
from browser import CHROMIUM, Browser

from mmel_cli.archive import load_archive

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]


def test_the_report_of_a_real_run(mmel, tmp_path):
    scenes, run = tmp_path / "scenes", tmp_path / "run"
    assert mmel("scenes", scenes, "--count", 2)[0] == 0
    assert mmel("explain", scenes, "--out", run, "--model", "builtin", "--words", "--device", "cpu")[0] == 0
    with load_archive(run) as archive, Browser() as browser:
        page = browser.page(1280, 900)
        page.open(f"file://{run}/index.html", "document.querySelectorAll('.card').length === 2")
        page.wait("[...document.querySelectorAll('.card img')].every((n) => n.naturalWidth > 0)")
        assert page.text(".count") == f"{len(archive)} records, 2 images"
        shown = "[...mmel.recordPage.viewers[0].shown().values]"
        for number, record in enumerate(archive):
            page.run(f"location.hash = mmel.page.address({number})")
            page.wait(f"mmel.recordPage.i === {number} && mmel.recordPage.details")
            assert np.array_equal(np.array(page.run(shown), np.float32), record.map.ravel())
            words = page.run("[...document.querySelectorAll('.words .caption button')].map((n) => n.textContent)")
            assert words == [word.text for word in record.words]
            page.hover(".words .caption button:last-of-type")
            page.wait("mmel.recordPage.viewers[0].source.kind === 'word'")
            assert np.array_equal(
                np.array(page.run(shown), np.float32), record.fields["words/map"][len(words) - 1].ravel()
            )
            page.hover(".viewer .stage", (0.4, 0.6))
            row, column, value = re.findall(r"\u2212?\d[\d.e\u2212]*", page.text(".reading"))[:3]
            assert float(value.replace("\u2212", "-")) == float(f"{record.map[int(row), int(column)]:.6g}")
        assert page.errors == []
        assert all(address.startswith("file:") for address in page.requests)
