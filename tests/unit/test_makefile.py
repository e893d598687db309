"""What `make` hands on to Snakemake."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", ["--config", "scale=smoke"]),
        ("run_lidar_base", ["run_lidar_base", "--config", "scale=smoke"]),
        ("--config seeds=1 -n", ["--config", "scale=smoke", "seeds=1", "-n"]),
        ("-C gpus=0", ["--config", "scale=smoke", "gpus=0"]),
        ("table_kitti --configfile own.yaml", ["table_kitti", "--configfile", "own.yaml", "--config", "scale=smoke"]),
    ],
)
def test_smoke_keeps_its_scale_whatever_is_set_or_asked_for(arguments: str, expected: list[str]) -> None:
    """Only the last `--config` of a command line counts: another one would be a run of the default scale."""
    command = ["make", "--dry-run", "--silent", "VENV=venv", "CORES=all", f"ARGS={arguments}", "smoke"]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    recipe = [line.split() for line in plan.splitlines() if line.startswith("venv/bin/snakemake")]
    assert recipe == [["venv/bin/snakemake", "--cores", "all", *expected]]
