"""Look-ups stay cheap: what the workflow asks for, and what a typo of a run id costs, loads no heavy library.

What counts is which modules are loaded, not how long it takes: a busy machine may be slow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "lightning_fabric", "pandas", "pyarrow", "scipy", "matplotlib")


def loaded_by(code: str, folder: Path = ROOT) -> tuple[set[str], str]:
    """Heavy libraries that a new process has loaded after it ran the code, and what it wrote to stderr."""
    ending = f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}{ending}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1])), done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import bevkd, bevkd.cli, bevkd.config, bevkd.distill, bevkd.train, bevkd.io, bevkd.report",
        "from bevkd.report.spec import load_claims, load_figures, load_tables\n"
        "assert load_tables('smoke') and load_figures('smoke') and load_claims('smoke')",
        "from bevkd.config import load_rows, load_run\n"
        "assert [load_run(run, 'smoke', row.seeds[0]).run for run, row in load_rows().items()] == list(load_rows())",
        "sys.path.insert(0, 'workflow/scripts')\nimport launch\nlaunch.devices()",
    ],
    ids=["packages", "tables", "runs", "launcher"],
)
def test_what_the_workflow_looks_up_loads_no_heavy_library(code: str) -> None:
    assert loaded_by(code)[0] == set()


@pytest.mark.parametrize(
    "command",
    [
        ["train"],
        ["cache"],
        ["bench"],
        ["predict", "--split", "val"],
        ["response", "--split", "val"],
        ["gates", "--split", "val"],
        ["attention", "--split", "val"],
        ["matches", "--split", "val"],
        ["breakdown", "--split", "val"],
        ["view", "--frame", "f", "--out", "o"],
    ],
    ids=lambda command: command[0],
)
def test_a_typo_of_a_run_id_loads_no_heavy_library(command: list[str], tmp_path: Path) -> None:
    code = f"from bevkd.cli import main\nassert main({[*command, '--run', 'camera_bose']!r}) == 2"
    heavy, error = loaded_by(code, tmp_path)
    assert heavy == set()
    assert "did you mean 'camera_base'" in error
    assert not list(tmp_path.iterdir())


def test_lazy_packages_hold_what_they_promise() -> None:
    import bevkd
    import bevkd.distill
    import bevkd.train

    for package in (bevkd, bevkd.distill, bevkd.train):
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            package.nonsense  # noqa: B018
