"""Before results are taken as they came (`make adopt`): whether the runs among them are those of this configuration.

    python workflow/scripts/adopt.py

Snakemake would take any file for the one that it would make. Runs that the configuration does not know are passed
over, as by Snakemake.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the code of this folder, installed or not

from bevkd.config import differences, identity, load_run, rows_at
from bevkd.errors import BevkdError
from bevkd.report.runs import read_config


def others(runs: Path, scale: str) -> list[str]:
    """A line for every run that lies there and is another one than the configuration says, and what differs.

    Args:
        runs: folder of <run>/seed<n>/config.yaml.
        scale: of these runs.

    Raises:
        ConfigError: the configuration is faulty.
        DataError: a stored configuration cannot be read.
    """
    rows, lines = rows_at(scale), list[str]()
    for row in rows.values():
        for seed in row.seeds:
            file = runs / row.id / f"seed{seed}" / "config.yaml"
            if file.exists():
                found = differences(identity(read_config(file)), identity(load_run(row.id, scale, seed)))
                lines += [f"{file.parent}: {'; '.join(found)}"] if found else []
    return lines


def main() -> int:
    """Exit code 0 where nothing differs, 3 where a run is another one, or cannot be read."""
    try:
        lines = [line for folder in sorted(Path("results/runs").glob("*/")) for line in others(folder, folder.name)]
    except BevkdError as error:
        lines = [str(error)]
    for line in lines:
        print(line, file=sys.stderr)
    if lines:
        print("Not adopted: remove these, or pull the results of this configuration.", file=sys.stderr)
    return 3 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
