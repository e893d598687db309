"""Weights and metrics of runs at smoke scale, as digests that only one kind of machine can repeat."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import torch

GOLDEN = Path(__file__).parents[1] / "golden" / "bits.json"


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
