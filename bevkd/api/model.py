"""A trained detector that works on plain arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike

from bevkd.api.checks import Arrays
from bevkd.api.detections import Detections
from bevkd.api.frame import PlainFrame
from bevkd.config import RunConfig, load_rows, load_scale, run_dir
from bevkd.config.chain import find_row
from bevkd.data import collate
from bevkd.data.reads import Camera, Lidar, Projected, reads_of
from bevkd.errors import CheckpointError, ConfigError
from bevkd.hints import how_to_train
from bevkd.models.detector import Detector
from bevkd.registry import lookup
from bevkd.train.checkpoint import MODEL, load_detector
from bevkd.train.optim import mixed, thread_count


class Model:
    """A trained detector.

    Args:
        detector: with its weights, in eval mode.
        run: what it was trained by.
        device: where it computes.

    Attributes:
        run: its settings; `run.run`, `run.scale` and `run.seed` say which one it is.
        sensors: what it reads: "lidar", "camera".
        classes: names of what it detects.
        sweeps: how many earlier LiDAR sweeps it was trained with; 0: the key sweep alone.
        sweep_stride: it takes every so many-th one of them.

    Raises:
        ConfigError: it reads a sensor that cannot be given as arrays.
    """

    def __init__(self, detector: Detector, run: RunConfig, device: torch.device | str) -> None:
        self.run, self.device = run, torch.device(device)
        self._detector = detector.to(self.device)
        self._reads = reads_of(run.model, run.data).without_targets()
        for one in self._reads.inputs:
            if not isinstance(one, Lidar | Camera | Projected):
                raise ConfigError(f"run {run.run!r} reads {one.name!r}, which has no form as plain arrays")
        self._most_intensity = float(getattr(lookup("reader", run.data.kind), "most_intensity", math.inf))
        lidar = self._reads.get(Lidar)
        self.sensors: tuple[str, ...] = self._reads.sensors
        self.classes: tuple[str, ...] = tuple(name for task in run.model.head.tasks for name in task)
        self.sweeps, self.sweep_stride = (0, 1) if lidar is None else (lidar.sweeps, lidar.stride)

    def __repr__(self) -> str:
        return f"Model({self.run.run!r}, scale={self.run.scale!r}, seed={self.run.seed}, sensors={self.sensors})"

    def predict(
        self,
        points: Arrays | None = None,
        images: Arrays | None = None,
        calibration: Mapping[str, Any] | None = None,
        *,
        ages: ArrayLike | None = None,
    ) -> Detections:
        """Detect in one frame. Sensors that the model does not read may be left out, and are not looked at.

        Args:
            points: the key sweep, an array (N, 4): x, y, z (m), intensity as in the data set that the model was trained
                on; or a list (or stack) of sweeps, the key sweep first, then earlier ones, newest first; or sweeps that
                are merged already, one array (N, 5) with the age of each point (s) as its fifth column. Lists and
                tensors will do for arrays, here and below.
            images: RGB, uint8, (n, H, W, 3), or a list of n images of any sizes.
            calibration: `intrinsics` (n, 3, 3), of the images as they are given; `ego_from_camera` (n, 4, 4);
                `ego_from_lidar` (4, 4), or (S, 4, 4) for a list of sweeps, through which each moves to the ego frame of
                the frame's own time; left out: one array of points is in the ego frame. `image_size` (n, 2), width and
                height, where a model reads points in view of its cameras and no images.
            ages: (S,) seconds by which the sweeps of a list are older than the frame.

        Returns:
            boxes in the ego frame.

        Raises:
            ConfigError: something is missing, or an array cannot be what it is given for.
        """
        frame = PlainFrame(self._reads, points, images, calibration, ages, self._most_intensity)
        batch = collate([frame.sample(self.run.model.grid.area)]).to(self.device)
        train = self.run.train
        with thread_count(train.threads), torch.inference_mode():
            with mixed(train.precision, self.device.type):
                outputs = self._detector(batch)
            boxes = self._detector.decode(outputs)
        return Detections(
            boxes.boxes.float().cpu().numpy(),
            boxes.scores.float().cpu().numpy(),
            boxes.labels.cpu().numpy(),
        )


def load(
    run_or_path: str | Path,
    *,
    scale: str = "sim",
    seed: int = 0,
    runs: str | Path = "results/runs",
    device: str | None = None,
) -> Model:
    """A trained detector by the id of its run, or by where its `model.pt` is.

    Args:
        run_or_path: a run id such as "camera_base"; or a `model.pt`, or the folder that holds it.
        scale, seed: of the run.
        runs: folder of all runs.
        device: such as "cpu" or "cuda:1"; by default a GPU where there is one.

    Raises:
        ConfigError: no such run, scale or device.
        CheckpointError: the run is not trained, or its model cannot be read.
    """
    if not isinstance(run_or_path, str | Path):
        raise ConfigError(f"load: wants the id of a run, or a path, not {type(run_or_path).__name__}")
    where = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    path = _model_file(run_or_path, scale, seed, runs)
    detector, run = load_detector(path)
    return Model(detector, run, where)


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # a device may have a name and not be there
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device {str(name)!r}: {str(error).splitlines()[0]}") from None
    return device


def _model_file(run_or_path: str | Path, scale: str, seed: int, runs: str | Path) -> Path:
    path = Path(run_or_path)
    if path.is_file():
        return path
    if (path / MODEL).is_file():
        return path / MODEL
    name = str(run_or_path)
    if isinstance(run_or_path, Path) or len(path.parts) != 1 or path.suffix == Path(MODEL).suffix:
        inside = sorted(str(one.parent) for one in path.glob(f"*/{MODEL}")) if name else []
        hint = f"; there is one in {' and '.join(inside)}" if inside else ""
        raise CheckpointError(f"no trained model at {name!r}: wants a {MODEL}, or the folder of one{hint}")
    load_scale(scale)  # a typo is said as such
    folder = run_dir(name, scale, seed, runs)
    if (folder / MODEL).is_file():
        return folder / MODEL
    find_row(name, load_rows(), f"no folder {name} holds a {MODEL}")
    done = sorted(path.parent.name for path in folder.parent.glob(f"seed*/{MODEL}"))
    others = f"; trained are: {', '.join(done)}" if done else ""
    how = how_to_train(name, scale, seed, Path(runs))
    raise CheckpointError(f"run {name!r} is not trained: there is no {folder / MODEL}{others}{how}")
