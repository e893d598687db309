"""`workflow/scripts/snakemake.sh`: other tools find the project's Snakemake, whatever their PATH."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from workflow_case import ROOT


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("there", "said"),
    [(("venv", "path"), "venv 1 2 3"), (("path",), "path 1 2 3"), ((), "made made 1 2 3"), (("other",), "other 1 2 3")],
)
def test_the_projects_snakemake_is_found(tmp_path: Path, there: tuple[str, ...], said: str) -> None:
    clone = tmp_path / "a clone"
    script = clone / "workflow" / "scripts" / "snakemake.sh"
    script.parent.mkdir(parents=True)
    shutil.copyfile(ROOT / "workflow" / "scripts" / "snakemake.sh", script)
    places = {"venv": clone / ".venv" / "bin", "other": clone / "mine" / "bin", "path": tmp_path / "bin"}
    for name in there:
        program(places[name] / "snakemake", f'echo {name} "$@"')
    # Stands in for `make env`.
    text = "#!/bin/sh\\necho made \\$PWD \\$@"
    made = f'mkdir -p .venv/bin; printf "{text}" > .venv/bin/snakemake; chmod +x .venv/bin/snakemake'
    program(tmp_path / "bin" / "make", f'[ "$1" = env ] && {made}')
    done = subprocess.run(
        ["sh", str(script), "1", "2", "3"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"} | ({"VENV": "mine"} if "other" in there else {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == said.replace("made made", f"made {clone}")
