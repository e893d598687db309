"""`bevkd doctor`: what is installed, which fast paths are active, what is wrong with a data set folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bevkd import __version__
from bevkd.config.places import config_tree
from bevkd.data.layout import recognise
from bevkd.data.options import ConvertOptions, Problems
from bevkd.data.summary import describe
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.io import reason
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


@dataclass
class DatasetFindings:
    """What a data set folder is and holds.

    Attributes:
        root: the folder.
        format: name of the reader; none where it is not recognised.
        also: names of further formats, of which it holds files as well.
        versions: of tables that lie there (nuScenes).
        files: folder -> number of files.
        contents: what an index of each version would hold, in words.
        problems: all that was met.
    """

    root: str
    format: str | None = None
    versions: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    contents: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _typed(error: DataError | OSError) -> DataError:
    return error if isinstance(error, DataError) else DataError(reason(error), file=error.filename)


def examine_dataset(root: Path, version: str | None, options: ConvertOptions | None = None) -> DatasetFindings:
    """Look at a folder as a conversion does, with an index that is thrown away, and collect all that is wrong.

    Args:
        root: the folder.
        version: of nuScenes tables; default: every one that lies there.
        options: of the conversion.
    """
    found = DatasetFindings(str(root))
    try:
        layout = recognise(root)
    except (DataError, OSError) as error:
        found.problems.append(str(_typed(error)))
        return found
    found.format, found.versions, found.files = layout.format, list(layout.versions), layout.files
    found.also = list(layout.also)
    if layout.format is None:
        asked = "" if version is None else f", and no version {version!r}"
        found.problems.append(f"no format is recognised{asked}: {layout.hint} (file={root})")
        return found
    versions: list[str | None] = [version] if version or not layout.versions else list(layout.versions)
    if version is not None and layout.versions and version not in layout.versions:
        known = ", ".join(layout.versions)
        found.problems.append(
            f"no version {version!r}{nearest(version, layout.versions)}; found: {known} (file={root})"
        )
        return found
    looks = [("nuscenes", one) for one in versions] if layout.format == "nuscenes" else [(layout.format, None)]
    for kind, one in [*looks, *((kind, None) for kind in layout.also)]:
        problems = Problems(collect=True)
        settings = replace(options or ConvertOptions(), problems=problems)
        with tempfile.TemporaryDirectory(prefix="bevkd-doctor-") as folder:
            index = Path(folder) / "index"
            try:
                lookup("reader", kind).convert(root, one, index, options=settings)
                summary = describe(index, root)
                found.contents.append(str(summary))
                found.problems += summary.warnings
            except (DataError, OSError) as error:
                if not problems.found:
                    problems.found.append(_typed(error))
            except ConfigError as error:
                found.problems.append(str(error))
        found.problems += problems.lines()
    return found


def examine(
    root: Path | None = None, version: str | None = None, options: ConvertOptions | None = None
) -> dict[str, Any]:
    """Collect the findings; `problems` lists what a user should mend.

    Args:
        root: a data set folder to look at, or none; which format it has is seen by its layout.
        version: its version (nuScenes); default: all that lie there.
        options: how it is to be indexed.
    """
    packages = {name: _version(name) for name in _PACKAGES}
    problems = [f"{n} is not installed" for n in ("torch", "numpy", "snakemake", "dvc") if packages[n] is None]
    if packages["spconv"] and packages["spconv-cu120"]:
        problems.append("spconv and spconv-cu120 install the same module: remove one of them")
    if importlib.util.find_spec("torchvision") is not None and packages["torch"] and "+cpu" in packages["torch"]:
        problems.append("torchvision is installed beside a CPU build of torch: importing it fails, and others with it")
    dataset = examine_dataset(root, version, options) if root is not None else None
    problems += dataset.problems if dataset is not None else []
    return {
        "bevkd": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        "configuration": [str(folder) for folder in config_tree().folders],
        "packages": packages,
        "fast_paths": _fast_paths(),
        "dataset": asdict(dataset) if dataset is not None else None,
        "problems": problems,
    }


def render(findings: dict[str, Any]) -> str:
    """The findings as text."""
    lines = [
        f"bevkd {findings['bevkd']}, Python {findings['python']}, {findings['platform']}",
        f"{findings['cores']} cores, {findings['disk_free_gb']} GB free",
        f"configuration: {' laid over '.join(findings['configuration'])}",
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
    if findings.get("dataset"):
        lines += [*_render_dataset(findings["dataset"]), ""]
    if findings["problems"]:
        lines += [f"problems ({len(findings['problems'])})", *(f"  - {problem}" for problem in findings["problems"])]
    else:
        lines.append("no problems found")
    return "\n".join(lines)


def _render_dataset(found: dict[str, Any]) -> list[str]:
    formats = " and ".join([found["format"] or "not recognised", *found["also"]])
    lines = [f"data set {found['root']}", f"  format    {formats}"]
    if found["versions"]:
        lines.append(f"  versions  {', '.join(found['versions'])}")
    if found["files"]:
        lines.append("  files     " + ", ".join(f"{folder} {count}" for folder, count in found["files"].items()))
    return [*lines, *(line for text in found["contents"] for line in text.splitlines())]
