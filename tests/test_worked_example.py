"""METHOD's worked example is what its script prints of a fresh run."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLE = "images/000005.png#0"


def run(*command):
    return subprocess.run([sys.executable, *command], check=False, capture_output=True, text=True, cwd=ROOT)


def test_the_tables_of_method_7_are_those_of_its_commands(tmp_path):
    scenes, out = str(tmp_path / "scenes"), str(tmp_path / "run")
    assert run("-m", "mmel_cli", "scenes", scenes, "--count", "6", "--seed", "0").returncode == 0
    explain = ("-m", "mmel_cli", "explain", scenes, "--out", out, "--model", "builtin", "--words", "--set")
    assert run(*explain, "heatmaps=false").returncode == 0
    printed = run("scripts/worked_example.py", out, EXAMPLE)
    assert printed.returncode == 0, printed.stderr
    method = (ROOT / "mmel_cli/METHOD.md").read_text()
    section = method[method.index("## 7. A worked example") : method.index("## 8.")]
    rows = [line for line in printed.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == 8 + 5
    for row in rows:
        assert row in section, row
    assert "Shares sum to 0.262" in printed.stdout
