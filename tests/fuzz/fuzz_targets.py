"""What is fuzzed: files of every format, the reader of each, and what any answer of it must be."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fuzz_seeds as seeds
import numpy as np
from fuzz_mutations import BYTES, JSON, TABLE, TEXT

from bevkd.config import config_dir
from bevkd.data.index import FrameIndex
from bevkd.data.load import FrameLoader, open_files
from bevkd.data.reads import Camera, CameraPast, Lidar, Radar, Reads
from bevkd.data.summary import describe
from bevkd.registry import lookup

sys.path += [str(Path(__file__).resolve().parents[1] / name) for name in ("unit", "workflow")]


@dataclass(frozen=True)
class Target:
    """Files of one format.

    Attributes:
        name: of the format.
        make: writes good files into a folder.
        files: patterns of those that are damaged, below the folder.
        kinds: of edits.
        read: reads the folder; what it returns is right, or it raises.
        most: examples in the usual tests, for readers that take long.
    """

    name: str
    make: Callable[[Path], Any]
    files: tuple[str, ...]
    kinds: tuple[str, ...]
    read: Callable[[Path], Any]
    most: int = 12


def _index_of(kind: str, folder: Path, version: str | None = None) -> Path:
    return Path(lookup("reader", kind).convert(folder, version, folder.parent / f"{folder.name}_index"))


def _open(kind: str, folder: Path, index: Path, split: str = "train") -> None:
    """All that a training reads of the frames of a split."""
    found = FrameIndex.open(index, split, camera_past=kind == "nuscenes")
    sensors = found.sensors
    for poses in (found.global_from_ego, sensors.global_from_ego, sensors.ego_from_sensor):
        assert np.isfinite(poses).all()
        turn = poses[:, :3, :3]
        assert np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max(initial=0) < 0.05
    boxes = found.boxes.boxes[:, :7]
    assert np.isfinite(boxes).all()
    assert (boxes[:, 3:6] > 0).all()
    assert not np.isinf(found.boxes.boxes).any()
    describe(index, folder)
    inputs: list[Any] = [Camera((24, 32))] if kind == "nuimages" else [
        Lidar(1), Camera((24, 32)), Radar(1), *([CameraPast()] if kind == "nuscenes" else [])
    ]  # fmt: skip
    loader = FrameLoader(found, folder, Reads.of(*inputs))
    wanted = {"camera"} if kind == "nuimages" else {"camera", "lidar"}
    for frame in range(len(found)):
        at = (sensors.position.get(row, -1) for row in found.key[frame])
        if not wanted <= {sensors.modality[one] for one in at if one >= 0}:
            continue  # as a training passes over it
        raw = loader.load(frame)
        for cloud in (raw.points, raw.radar):
            assert cloud is None or np.isfinite(cloud).all()
        history = raw.extra.get("camera_past")
        for number, seconds in enumerate(() if history is None else history.seconds):
            assert seconds > 0
            one = history.get(number)
            assert len(one.images) == len(raw.images or ())
            assert np.isfinite(one.geometry.now_from_past).all()


def _convert(kind: str, version: str | None = None, split: str = "train") -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        _open(kind, folder, _index_of(kind, folder, version), split)

    return read


def _doctor(folder: Path) -> None:
    """Going on after the first problem, as it does to list them all."""
    from bevkd.doctor import examine_dataset

    examine_dataset(folder, None)


def _with_index(kind: str, version: str | None = None) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        getattr(seeds, kind)(folder / "data")
        _index_of(kind, folder / "data", version)

    return make


def _sensor_files(folder: Path) -> None:
    files = open_files({"reader": "nuscenes"}, folder)
    from bevkd.data.radar import read_radar, read_radar_states

    cloud, picture = files.lidar("samples/LIDAR_TOP/0.pcd.bin", "t"), files.image("samples/CAM_FRONT/0.png", "t")
    assert np.isfinite(cloud[:, :4]).all()
    assert picture.mode == "RGB"
    assert np.isfinite(read_radar(folder / "samples/RADAR_FRONT/0.pcd", "t")).all()
    assert np.isfinite(read_radar_states(folder / "samples/RADAR_FRONT/0.pcd", "t")).all()
    files.image("samples/CAM_FRONT/0.jpg", "t")


def _make_sensor_files(folder: Path) -> None:
    seeds.nuscenes(folder)
    seeds.image(folder / "samples" / "CAM_FRONT" / "0.jpg")


def _scores(found: Any) -> None:
    """Whether every number of metrics is finite, or said not to be known."""
    if isinstance(found, dict | list | tuple):
        for value in found.values() if isinstance(found, dict) else found:
            _scores(value)
    elif isinstance(found, float):
        assert not math.isinf(found)


def _nuscenes_submission(folder: Path) -> None:
    from bevkd.eval.nuscenes import DetectionConfig, evaluate_files

    settings = DetectionConfig.from_json(folder / "settings.json")
    metrics = evaluate_files(
        folder, seeds.VERSION, "train", folder / "results.json", folder / "m.json", config=settings
    )
    assert 0 <= metrics.mean_ap <= 1
    _scores(metrics.summary())


def _make_nuscenes_submission(folder: Path) -> None:
    import json

    from bevkd.eval.nuscenes import DetectionConfig

    seeds.nuscenes(folder)
    seeds.nuscenes_submission(folder)
    (folder / "settings.json").write_text(json.dumps(DetectionConfig.cvpr_2019().to_dict()))


def _kitti_results(folder: Path) -> None:
    from bevkd.eval.kitti import evaluate_files

    base = folder / "training"
    _scores(evaluate_files(base / "label_2", base / "results", folder / "m.json"))


def _waymo_sets(folder: Path) -> None:
    from bevkd.eval.waymo import evaluate_files

    _scores(evaluate_files(folder / "sets.npz", folder / "m.json"))


def _nuimages_results(folder: Path) -> None:
    from bevkd.train.submissions.nuimages import read_results

    for boxes, labels, scores in read_results(folder / "found.json", {"d"}).values():
        assert np.isfinite(boxes).all()
        assert len(boxes) == len(labels)
        assert ((scores >= 0) & (scores <= 1)).all()


def _make_config(folder: Path) -> None:
    shutil.copytree(config_dir(), folder / "config")


@contextmanager
def _configured(folder: Path) -> Iterator[None]:
    before = os.environ.get("BEVKD_CONFIG")
    os.environ["BEVKD_CONFIG"] = str(folder)
    try:
        yield
    finally:
        del os.environ["BEVKD_CONFIG"]
        if before is not None:
            os.environ["BEVKD_CONFIG"] = before


def _config(folder: Path) -> None:
    from bevkd.config import load_run

    with _configured(folder / "config"):
        for run in ("lidar_base", "unidistill_p1", "kitti_lidar"):
            load_run(run, "smoke", 0)


def _tiny_run() -> Any:
    from types import SimpleNamespace

    from train_case import tiny_run

    return tiny_run(SimpleNamespace(root=Path("data"), version=seeds.VERSION, index=Path("index")))


def _make_model(folder: Path) -> None:
    from bevkd.models.detector import build_detector
    from bevkd.train.checkpoint import save_model

    run = _tiny_run()
    save_model(folder, build_detector(run.model).state_dict(), run, 1, "")


def _model(folder: Path) -> None:
    from bevkd.train.checkpoint import load_detector

    load_detector(folder / "model.pt")


def _make_cache(folder: Path) -> None:
    from test_distill_cache import SOME, build

    build(folder / "cache", SOME)


def _cache(folder: Path) -> None:
    from test_distill_cache import SOME, rows

    from bevkd.distill import TeacherCache

    held = TeacherCache.open(folder / "cache", "abc")
    for entry in SOME:
        rows(held, entry)


def _make_paste(folder: Path) -> None:
    from bevkd.data.paste import LabelledCloud, build_paste_database

    rng = np.random.default_rng(0)
    box = np.array([[0.0, 0, 0, 4, 2, 2, 0.3, 0, 0]])
    cloud = np.concatenate([rng.uniform(-0.5, 0.5, (30, 4)), np.zeros((30, 1))], axis=1).astype(np.float32)
    build_paste_database([LabelledCloud("t", cloud, box, np.array([0]))], folder / "paste")


def _paste(folder: Path) -> None:
    from bevkd.data.paste import GTPaste

    held = GTPaste(folder / "paste", {"car": 3})
    cloud, boxes, _ = held.paste(
        np.zeros((1, 5), np.float32), np.zeros((0, 9)), np.zeros(0, int), np.random.default_rng(0)
    )
    assert np.isfinite(cloud).all()
    assert np.isfinite(boxes[:, :7]).all()


SUBMISSIONS = ("results.json", "settings.json")
TABLES = f"{seeds.VERSION}/*.json"
TARGETS = (
    Target("nuscenes_tables", seeds.nuscenes, (TABLES,), JSON, _convert("nuscenes", seeds.VERSION)),
    Target("nuimages_tables", seeds.nuimages, ("v1.0-mini/*.json",), JSON, _convert("nuimages", split="mini")),
    Target(
        "kitti", seeds.kitti, ("training/label_2/*", "training/calib/*", "ImageSets/*"), TEXT, _convert("kitti")
    ),
    Target("waymo", seeds.waymo, ("training/*/*.parquet",), TABLE, _convert("waymo")),
    Target("doctor_nuscenes", seeds.nuscenes, (TABLES, "samples/*/*"), JSON, _doctor),
    Target("doctor_nuimages", seeds.nuimages, ("v1.0-mini/*.json",), JSON, _doctor),
    Target("doctor_kitti", seeds.kitti, ("training/label_2/*", "training/*/*.bin"), TEXT, _doctor),
    Target("doctor_waymo", seeds.waymo, ("training/*/*.parquet",), TABLE, _doctor),
    Target("sensor_files", _make_sensor_files, ("samples/*/0.*",), BYTES, _sensor_files, 40),
    *(
        Target(
            f"index_{kind}",
            _with_index(kind, version),
            ("data_index/*.parquet",),
            TABLE,
            lambda folder, kind=kind, split=split: _open(kind, folder / "data", folder / "data_index", split),
        )
        for kind, version, split in (("nuscenes", seeds.VERSION, "train"), ("nuimages", None, "mini"))
    ),
    Target("nuscenes_submission", _make_nuscenes_submission, SUBMISSIONS, JSON, _nuscenes_submission),
    Target("nuscenes_truth", _make_nuscenes_submission, (TABLES,), JSON, _nuscenes_submission),
    Target("kitti_results", seeds.kitti, ("training/results/*", "training/label_2/*"), TEXT, _kitti_results),
    Target("waymo_sets", lambda folder: seeds.waymo_sets(folder / "sets.npz"), ("sets.npz",), TABLE, _waymo_sets),
    Target("nuimages_results", seeds.nuimages, ("found.json",), JSON, _nuimages_results, 30),
    Target("paste", _make_paste, ("paste/*",), TABLE, _paste),
    Target("config", _make_config, ("config/**/*.yaml",), TEXT, _config, 6),
    Target("model", _make_model, ("model.pt",), BYTES, _model, 6),
    Target("cache", _make_cache, ("cache/**/*",), BYTES, _cache, 6),
)  # fmt: skip


@cache
def seed(target: Target) -> Path:
    """The good files of a target, made once in a process; they are read right."""
    folder = Path(tempfile.mkdtemp(prefix=f"bevkd-fuzz-{target.name}-"))
    (folder / "good").mkdir()
    target.make(folder / "good")
    return folder / "good"
