"""`bevkd doctor`: what is installed, which fast paths are active, what is wrong with a data set folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bevkd import __version__
from bevkd.errors import DataError
from bevkd.registry import lookup

_PACKAGES = (
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "lightning-fabric",
    "transformers",
    "snakemake",
    "dvc",
    "matplotlib",
    "orjson",
    "spconv",
    "spconv-cu120",
    "mmdet3d",
    "nuscenes-devkit",
    "onnx",
)
# Format -> a folder that only it has.
_LAYOUTS = {"kitti": "training/velodyne", "waymo": "training/vehicle_pose"}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fast_paths() -> dict[str, dict[str, Any]]:
    """Name -> active or not, and why."""
    import torch

    from bevkd.train.optim import resolve_precision

    cuda = torch.cuda.is_available()
    precision = resolve_precision("auto", "cuda" if cuda else "cpu")
    spconv = importlib.util.find_spec("spconv") is not None
    return {
        "cuda": {
            "active": cuda,
            "why": torch.cuda.get_device_name(0) if cuda else "torch finds no CUDA device",
        },
        "bf16 autocast (precision: auto)": {
            "active": "bf16" in precision,
            "why": f"this machine trains with {precision}",
        },
        "spconv sparse convolution": {
            "active": spconv,
            "why": "installed" if spconv else "not installed (extras: sparse or gpu); plain PyTorch is used",
        },
        "fused lift-splat (embedding_bag)": {"active": True, "why": "part of torch"},
        "orjson reader": {
            "active": importlib.util.find_spec("orjson") is not None,
            "why": "submissions and tables are parsed with it",
        },
    }


def _examine_dataset(root: Path, version: str) -> list[str]:
    """The first problem that indexing a folder meets (the index is thrown away), or nothing."""
    kind = next((name for name, mark in _LAYOUTS.items() if (root / mark).is_dir()), "nuscenes")
    with tempfile.TemporaryDirectory(prefix="bevkd-doctor-") as folder:
        try:
            lookup("reader", kind).convert(root, version, Path(folder) / "index")
        except DataError as error:
            return [str(error)]
    return []


def examine(root: Path | None = None, version: str = "v1.0-trainval") -> dict[str, Any]:
    """Collect the findings; `problems` lists what a user should mend.

    Args:
        root: a data set folder to look at, or none; which format it has is seen by its layout.
        version: its version (nuScenes).
    """
    packages = {name: _version(name) for name in _PACKAGES}
    problems = [f"{n} is not installed" for n in ("torch", "numpy", "snakemake", "dvc") if packages[n] is None]
    if packages["spconv"] and packages["spconv-cu120"]:
        problems.append("spconv and spconv-cu120 install the same module: remove one of them")
    if importlib.util.find_spec("torchvision") is not None and packages["torch"] and "+cpu" in packages["torch"]:
        problems.append("torchvision is installed beside a CPU build of torch: importing it fails, and others with it")
    if root is not None:
        problems += _examine_dataset(root, version)
    return {
        "bevkd": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        "packages": packages,
        "fast_paths": _fast_paths(),
        "problems": problems,
    }


def render(findings: dict[str, Any]) -> str:
    """The findings as text."""
    lines = [
        f"bevkd {findings['bevkd']}, Python {findings['python']}, {findings['platform']}",
        f"{findings['cores']} cores, {findings['disk_free_gb']} GB free",
        "",
        "packages",
        *(f"  {name:18} {version or '-'}" for name, version in findings["packages"].items()),
        "",
        "fast paths",
        *(
            f"  [{'x' if path['active'] else ' '}] {name}: {path['why']}"
            for name, path in findings["fast_paths"].items()
        ),
        "",
    ]
    if findings["problems"]:
        lines += ["problems", *(f"  - {problem}" for problem in findings["problems"])]
    else:
        lines.append("no problems found")
    return "\n".join(lines)
