"""The teacher of a run: where it lies, its cache, and the engine that compares student and teacher."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch
from filelock import FileLock

from bevkd.config import ModelConfig, RunConfig, run_dir
from bevkd.data import FrameDataset
from bevkd.distill import (
    DistillEngine,
    DistillMethod,
    TeacherCache,
    build_cache,
    build_cache_method,
    build_method,
    cache_name,
)
from bevkd.errors import BevkdError, ConfigError
from bevkd.io import file_digest
from bevkd.models.detector import Detector
from bevkd.train.checkpoint import MODEL, load_detector
from bevkd.train.optim import resolve_precision
from bevkd.train.stream import derive_seed, training_frames

logger = logging.getLogger(__name__)

CACHE_BATCH = 8


def runs_root(out: Path) -> Path:
    """`<runs>` of a folder `<runs>/<scale>/<run>/seed<N>`."""
    return (out if len(out.parts) > 3 else out.resolve()).parents[2]


def teacher_path(run: RunConfig, out: Path) -> Path:
    """The teacher's weights.

    Raises:
        ConfigError: the run has no teacher.
    """
    row = run.row
    if row.teacher is None:
        raise ConfigError(f"run {run.run!r} has no teacher")
    return run_dir(row.teacher, run.scale, row.teacher_seed, runs_root(out)) / MODEL


def teacher_digest(run: RunConfig, out: Path) -> str:
    """Digest of the teacher's file, "" without a teacher.

    Raises:
        ConfigError: the teacher is not trained yet.
    """
    if run.row.teacher is None:
        return ""
    path = teacher_path(run, out)
    if not path.exists():
        raise ConfigError(f"the teacher of run {run.run!r} is not trained yet: no {path}")
    return file_digest(path)


def cache_dir(run: RunConfig, out: Path) -> Path:
    """Folder of the teacher cache that a run reads, `<runs>/../cache/<scale>/<name>`."""
    return runs_root(out).parent / "cache" / run.scale / cache_name(run)


def merged_model(student: ModelConfig, teacher: ModelConfig) -> ModelConfig:
    """The sensors of both networks, for data that a student and its live teacher share.

    Raises:
        ConfigError: they want different images or grids.
    """
    if student.grid != teacher.grid:
        raise ConfigError(f"student and teacher need one BEV grid, not {student.grid} and {teacher.grid}")
    changes: dict[str, object] = {"sensors": tuple(dict.fromkeys((*student.sensors, *teacher.sensors)))}
    if "camera" in student.sensors and "camera" in teacher.sensors:
        if student.camera.image_size != teacher.camera.image_size:
            sizes = f"{student.camera.image_size} and {teacher.camera.image_size}"
            raise ConfigError(f"student and live teacher need one image size, not {sizes}")
    elif "camera" in teacher.sensors:
        changes["camera"] = teacher.camera
    return dataclasses.replace(student, **changes)  # type: ignore[arg-type]


def student_frames(run: RunConfig, out: Path) -> FrameDataset:
    """Training frames of a run: with the student's sensors, and the teacher's as well when it runs live."""
    if run.row.teacher is None or run.row.teacher_mode == "cached":
        return training_frames(run)
    _, teacher_run = load_detector(teacher_path(run, out))
    either = run.model.reads_lidar_images or teacher_run.model.reads_lidar_images
    return training_frames(run, merged_model(run.model, teacher_run.model), lidar_images=either)


def build_engine(run: RunConfig, out: Path, student: Detector) -> DistillEngine | None:
    """The distillation part of a run; None for plain training.

    The adapters' initial weights depend on the seed alone. A cache is built first where it is missing.

    Raises:
        ConfigError: no trained teacher, or networks that the method cannot connect.
        CheckpointError: the teacher is unreadable or of another architecture.
    """
    row = run.row
    if row.method is None:
        return None
    torch.manual_seed(derive_seed(run.seed, "adapters"))
    if row.teacher is None:
        return DistillEngine(build_method(row.method, student.spec, student.spec), student.grid)
    teacher, _ = load_detector(teacher_path(run, out))
    if teacher.grid != student.grid:
        raise ConfigError(f"student and teacher need one BEV grid, not {student.grid} and {teacher.grid}")
    torch.manual_seed(derive_seed(run.seed, "adapters"))  # building the teacher drew numbers too
    method = build_method(row.method, student.spec, teacher.spec)
    if not method.uses_teacher:
        return DistillEngine(method, student.grid)
    if row.teacher_mode == "live":
        return DistillEngine(method, student.grid, teacher=teacher)
    folder = ensure_cache(run, out)
    return DistillEngine(method, student.grid, cache=TeacherCache.open(folder, teacher_digest(run, out)))


def ensure_cache(run: RunConfig, out: Path) -> Path:
    """The teacher cache of a run, built if missing, damaged or of an older teacher; one process builds, others wait.

    Args:
        run: a run with a cached teacher.
        out: its folder, from which teacher and cache are found.

    Returns:
        The folder of the cache.

    Raises:
        ConfigError, CheckpointError: the teacher is missing or cannot be used.
        DataError: bad data.
    """
    out = Path(out)
    folder, digest = cache_dir(run, out), teacher_digest(run, out)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        try:
            TeacherCache.open(folder, digest)
            return folder
        except BevkdError as error:
            logger.info("building teacher cache %s (%s)", folder, error)
        teacher, teacher_run = load_detector(teacher_path(run, out))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        assert run.row.method is not None
        method: DistillMethod = build_cache_method(run.row.method, teacher.spec)
        # The data and augmentations of the student, the sensors and image size of the teacher.
        frames = training_frames(run, dataclasses.replace(teacher_run.model, grid=run.model.grid))
        threads = torch.get_num_threads()
        torch.set_num_threads(run.train.threads)
        try:
            # In the precision of training, so that cached and live targets agree.
            precision = resolve_precision(run.train.precision, device.type)
            dtype = torch.float16 if precision.startswith("16") else torch.bfloat16
            with torch.autocast(device.type, dtype=dtype, enabled=precision != "32-true"):
                variants = [frames.variant_count(i) for i in range(len(frames))]
                build_cache(
                    method, teacher, frames, folder, variants, CACHE_BATCH, teacher_digest=digest, device=device
                )
        finally:
            torch.set_num_threads(threads)
    return folder
