"""`evaluate`: metrics of the three benchmarks, from files or from plain arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bevkd.api.arrays import Frames, frame_name, kitti_results, nuscenes_metrics, waymo_sets
from bevkd.errors import ConfigError, nearest
from bevkd.io import read_json, write_json

# Benchmark -> what is asked for beside the results, of files and of arrays.
_OF_FILES = {"nuscenes": ("root", "version", "split"), "kitti": ("labels",), "waymo": ()}
_OF_ARRAYS = {"nuscenes": ("truth",), "kitti": ("root",), "waymo": ("truth",)}
_OPTIONAL = {"nuscenes": ("max_range",), "kitti": ("frames",), "waymo": ("let",)}


def evaluate(
    benchmark: str, results: str | Path | Frames | Mapping[str, Any], *, out: str | Path | None = None, **options: Any
) -> dict[str, Any]:
    """Metrics as `bevkd evaluate` writes them.

    From files, as on the command line:

        evaluate("nuscenes", "submission.json", root="data/nuscenes", version="v1.0-trainval", split="val")
        evaluate("kitti", "results", labels="data/kitti/training/label_2")
        evaluate("waymo", "sets.npz", let=True)

    From arrays, where results are detections by frame, as `Model.predict` returns them:

        evaluate("nuscenes", found, truth={frame: {"boxes": ..., "names": ...}})
        evaluate("kitti", found, root="data/kitti/training")
        evaluate("waymo", found, truth={frame: {"boxes": ..., "names": ..., "difficulty": ...}})

    Args:
        benchmark: nuscenes, kitti or waymo.
        results: a file (KITTI: a folder); or detections by frame; for Waymo also the arrays of its file by name.
        out: a file to write the metrics to, too.
        **options: as above. `truth` has for each frame `boxes` in its ego frame and `names` (or `labels`); nuScenes:
            optionally `attributes` (names, "" for none) and `num_points` (boxes without any do not count); Waymo:
            `difficulty`, 1 or 2. KITTI's frames are the names of files; its labels, calibrations and image sizes are
            read from the folder `root`; `frames` lists those to evaluate, with results or without. `max_range` cuts
            the class ranges of nuScenes (m); `let` asks for the longitudinal error tolerant metrics of Waymo.

    Returns:
        the content of `metrics.json`.

    Raises:
        ConfigError: an option is missing, unknown or no good.
        DataError: bad files, or frames that do not belong together.
    """
    if benchmark not in _OF_FILES:
        known = ", ".join(_OF_FILES)
        raise ConfigError(f"unknown benchmark {benchmark!r}{nearest(benchmark, _OF_FILES)}; known: {known}")
    if not isinstance(results, str | Path | Mapping):
        raise ConfigError(
            f"results: wants a path, or a mapping of frames to their detections, not {type(results).__name__}"
        )
    arrays = isinstance(results, Mapping)
    bare = benchmark == "waymo" and isinstance(results, Mapping) and "pred_box" in results
    wanted = () if bare else (_OF_ARRAYS if arrays else _OF_FILES)[benchmark]
    allowed = (*wanted, *_OPTIONAL[benchmark])
    for name in options:
        if name not in allowed:
            what, has = "arrays" if arrays else "files", ", ".join(allowed)
            raise ConfigError(f"{benchmark} from {what} has no option {name!r}{nearest(name, allowed)}; it has: {has}")
    if missing := [option for option in wanted if options.get(option) is None]:
        raise ConfigError(f"{benchmark} wants {' and '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="bevkd-") as name:
        folder = Path(name)
        file = Path(out) if out is not None else folder / "metrics.json"
        if isinstance(results, Mapping):
            _ARRAYS[benchmark](results, folder, file, options)
        else:
            _FILES[benchmark](Path(results), file, options)
        metrics: dict[str, Any] = read_json(file)
    return metrics


def _nuscenes_config(options: Mapping[str, Any]) -> Any:
    import numpy as np

    from bevkd.eval.nuscenes import DetectionConfig

    config, most = DetectionConfig.cvpr_2019(), options.get("max_range")
    if most is None:
        return config
    if isinstance(most, bool) or not isinstance(most, int | float | np.number) or not most > 0:
        raise ConfigError(f"max_range: wants a positive number of metres, not {most!r}")
    return config.with_range(float(most))


def _nuscenes_files(results: Path, out: Path, options: Mapping[str, Any]) -> None:
    from bevkd.eval.nuscenes import evaluate_files

    place = (options["root"], options["version"], options["split"])
    evaluate_files(*place, results, out, _nuscenes_config(options))


def _names(options: Mapping[str, Any]) -> list[str] | None:
    frames = options.get("frames")
    if isinstance(frames, str):  # which is a sequence, too
        raise ConfigError(f"frames: wants a list of names, not {frames!r}")
    return None if frames is None else list(frames)


def _kitti_files(results: Path, out: Path, options: Mapping[str, Any]) -> None:
    from bevkd.eval.kitti import evaluate_files

    evaluate_files(options["labels"], results, out, _names(options))


def _waymo_files(results: Path, out: Path, options: Mapping[str, Any]) -> None:
    from bevkd.eval.waymo import LetConfig, evaluate_files

    evaluate_files(results, out, LetConfig() if options.get("let") else None)


def _nuscenes_arrays(results: Frames, _folder: Path, out: Path, options: Mapping[str, Any]) -> None:
    write_json(out, nuscenes_metrics(results, options["truth"], _nuscenes_config(options)), indent=2)


def _kitti_arrays(results: Frames, folder: Path, out: Path, options: Mapping[str, Any]) -> None:
    root = Path(options["root"])
    kitti_results(results, root, folder / "results")
    frames = _names(options)
    names = None if frames is None else [frame_name(frame, root) for frame in frames]
    _kitti_files(folder / "results", out, {"labels": root / "label_2", "frames": names})


def _waymo_arrays(results: Any, folder: Path, out: Path, options: Mapping[str, Any]) -> None:
    import numpy as np

    arrays = results if "pred_box" in results else waymo_sets(results, options["truth"])
    sets: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    with open(folder / "sets.npz", "wb") as stream:
        np.savez(stream, **sets)
    _waymo_files(folder / "sets.npz", out, options)


_FILES = {"nuscenes": _nuscenes_files, "kitti": _kitti_files, "waymo": _waymo_files}
_ARRAYS = {"nuscenes": _nuscenes_arrays, "kitti": _kitti_arrays, "waymo": _waymo_arrays}
