"""Command lines that messages propose: what makes a thing that is missing, and what comes next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevkd.config.schema import DataConfig

RUNS = Path("results/runs")
_USUAL = {"--scale": "sim", "--seed": "0", "--runs": str(RUNS)}


def command(name: str, **options: object) -> str:
    """`bevkd <name> --option value ...`, ready to be pasted; what is the default anyway is left out."""
    words = ["bevkd", *name.split()]
    for key, value in options.items():
        flag = f"--{key}"
        if value is not None and _USUAL.get(flag) != str(value):
            words += [flag, str(value)]
    return shlex.join(words)


def train_command(run: str, scale: str, seed: int, runs: Path = RUNS) -> str:
    """What trains a run."""
    return command("train", run=run, scale=scale, seed=seed, runs=runs)


def train_again(model: Path) -> str:
    """`; train it again with ...`, for messages on a file of a run, or "" where it lies in no folder of one."""
    from bevkd.config.snapshots import FOLDER as SNAPSHOTS

    folder = model.absolute().parent
    if folder.parent.name == SNAPSHOTS:
        folder = folder.parent.parent
    seed, parents = folder.name.removeprefix("seed"), folder.parents
    if not seed.isdecimal() or folder.name == seed or len(parents) < 3:
        return ""
    runs = parents[2].relative_to(Path.cwd()) if parents[2].is_relative_to(Path.cwd()) else parents[2]
    return f"; train it again with `{train_command(parents[0].name, parents[1].name, int(seed), runs)} --restart`"


def how_to_train(run: str, scale: str, seed: int, runs: Path) -> str:
    """`; train it with ...`, for messages on a run that is missing."""
    said = f"; train it with `{train_command(run, scale, seed, runs)}`"
    if runs == RUNS:  # the workflow knows no other place
        setting = "" if scale == "sim" else f" --config scale={scale}"
        said += f", or it and all that it needs with `snakemake --cores all run_{run}{setting}`"
    return said


def convert_command(data: DataConfig) -> str:
    """What indexes a data set."""
    version = data.version if data.kind == "nuscenes" else None
    return command("convert", dataset=data.kind, root=data.root, version=version, out=data.index)


def simulate_command(data: DataConfig) -> str | None:
    """What simulates a data set, where its folder is that of one of ours: `data/<kind>_sim/<scale>`."""
    parts = Path(data.root).parts
    if len(parts) != 3 or parts[:2] != ("data", f"{data.kind}_sim"):
        return None
    # Not through `command`: the usual scale is said, for the folder is named after it.
    return shlex.join(["bevkd", "simulate", "--dataset", data.kind, "--scale", parts[2], "--out", data.root])


def how_to_index(data: DataConfig) -> str:
    """`make it with ...`, for messages on a data set that is missing, or its index."""
    convert = f"make the index with `{convert_command(data)}`"
    if Path(data.root).is_dir():
        return convert
    made = simulate_command(data)
    first = f"simulate it with `{made}`" if made else f"no data set in {data.root}: put it there, or set data.root"
    return f"{first}, then {convert}"
