"""Weights and metrics of runs at smoke scale, as digests that only one kind of machine can repeat.

    python tests/workflow/bits.py CLONE [--only]

writes those of the runs of a finished smoke workflow (as `smoke_by_default` has it: one seed) into the golden file;
with `--only`, those of other machines are dropped, as they must be once the runs are others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path

import torch

GOLDEN = Path(__file__).parents[1] / "golden" / "bits.json"
# One run of each kind.
RUNS = (
    *("lidar_base", "camera_base", "fusion_base", "camera_fresh", "camera_further", "lidar_further"),
    *("camera_depth", "camera_depth_all", "camera_reweighted"),
    *("unidistill_p1", "unidistill_p2", "unidistill_p3", "unidistill_p4", "unidistill_p3_bare", "scratch_p2"),
    *("s6_relation_adapt", "s7_complete", "s7_gaussian", "lidar_image", "monodistill"),
    *("s4_fusion", "s4_lidar", "s4_p1", "s5_fusion", "s5_p2", "s3_fusion", "s3_p2", "kitti_lidar", "waymo_lidar"),
    *("le_l_to_c", "ll_lc_to_c", "dense_u"),
)


def machine() -> str:
    """What decides which kernels run, and with it the last bits of a training: processor and version of torch."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    facts = dict(line.split(":", 1) for line in first.splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in facts.items()}
    parts = [known.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping", "cache size")]
    flags = hashlib.sha256(known.get("flags", "").encode()).hexdigest()[:8]
    return "/".join([*parts, flags, torch.backends.cpu.get_cpu_capability(), torch.__version__])


def weights(model: Path) -> str:
    """Digest of the tensors of a `model.pt`, not of the file."""
    state = torch.load(model, weights_only=True)["model"]
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(str(state[name].dtype).encode())
        digest.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def metrics(folder: Path, split: str) -> str:
    """Digest of the metrics of a run, without the time that it took to make them and what is said about them.

    Errors that a class does not have are null in the file, and NaN in the digest, which is older.
    """
    content = json.loads((folder / f"metrics_{split}.json").read_text())
    for name in ("eval_time", "frames", "warnings"):
        content.pop(name, None)
    for errors in content.get("label_tp_errors", {}).values():
        errors |= {name: math.nan for name, value in errors.items() if value is None}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def last_loss(folder: Path) -> float:
    """The total loss of the last line of a run's log."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["losses"]["total"])


def digests(runs: Path) -> dict[str, dict[str, str | float]]:
    """Of the first seeds of `RUNS`, from the folder of a scale's runs."""
    found: dict[str, dict[str, str | float]] = {}
    for name in RUNS:
        folder = runs / name / "seed0"
        found[name] = {"weights": weights(folder / "model.pt"), "metrics": metrics(folder, "val")}
        found[name]["loss"] = round(last_loss(folder), 6)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("--only", action="store_true")
    options = parser.parse_args()
    known = {} if options.only else json.loads(GOLDEN.read_text())
    known[machine()] = digests(options.clone / "results" / "runs" / "smoke")
    GOLDEN.write_text(json.dumps(known, indent=1) + "\n")
