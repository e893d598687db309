"""Small random nuScenes worlds on disk, and the official devkit's answer for them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.classes import CLASSES
from bevkd.eval.nuscenes.constants import ATTRIBUTES, CATEGORY_OF_CLASS

RACK = "static_object.bicycle_rack"
CATEGORIES = [*(CATEGORY_OF_CLASS[name] for name in CLASSES), "vehicle.bus.bendy", RACK, "animal"]
CLASS_OF = {**{CATEGORY_OF_CLASS[name]: name for name in CLASSES}, "vehicle.bus.bendy": "bus"}
# Centres exactly 50, 40 and 30 m away, and just inside and outside.
EDGES = [(30.0, 40.0), (24.0, 32.0), (18.0, 24.0), (50.0, 0.0), (0.0, -40.0), (-30.0, 0.0), (29.999999, 0.0)]


@dataclass(frozen=True)
class Recipe:
    """What a random world is like; every field is a choice that the metrics could get wrong."""

    seed: int = 0
    frames: int = 3
    annotations: int = 8
    detections: int = 12
    near: float = 0.6  # share of detections near an annotation
    grid: float | None = None  # step of positions: makes equal distances and distances right at a threshold
    levels: int | None = None  # number of different scores: makes ties
    classes: tuple[str, ...] = CLASSES
    nan_velocity: float = 0.2
    no_attribute: float = 0.3
    racks: int = 1
    edge: float = 0.1  # share of boxes right at the border of a class range
    empty: float = 0.2  # share of frames without detections, and of those without annotations
    seconds: float = 0.5  # between keyframes
    custom: bool = False  # a split of `splits.json` instead of an official one


@dataclass
class World:
    root: Path
    version: str
    split: str
    tables: dict[str, list[dict[str, Any]]]
    submission: dict[str, Any]
    results: Path = field(init=False)

    def __post_init__(self) -> None:
        self.results = self.root / "results.json"

    def write(self) -> World:
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        for name, records in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(records))
        self.results.write_text(json.dumps(self.submission))
        return self


def make_world(root: Path, recipe: Recipe = Recipe()) -> World:
    rng = np.random.default_rng(recipe.seed)
    version, split = ("v1.0-sim", "tune") if recipe.custom else ("v1.0-mini", "mini_val")
    inside, outside = ("scene-a", "scene-b") if recipe.custom else ("scene-0103", "scene-0061")
    tables: dict[str, list[dict[str, Any]]] = {
        "category": [{"token": f"c{i}", "name": name, "description": ""} for i, name in enumerate(CATEGORIES)],
        "attribute": [{"token": f"a{i}", "name": name, "description": ""} for i, name in enumerate(ATTRIBUTES)],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "log": [{"token": "log", "logfile": "l", "vehicle": "v", "date_captured": "d", "location": "x"}],
        "map": [{"token": "map", "category": "", "filename": "", "log_tokens": ["log"]}],
        "sensor": [
            {"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
            {"token": "front", "channel": "CAM_FRONT", "modality": "camera"},
        ],
        "calibrated_sensor": [
            {"token": f"cs-{s}", "sensor_token": s, "translation": [0, 0, 0], "rotation": [1, 0, 0, 0]}
            for s in ("lidar", "front")
        ],
        "scene": [{"token": name, "name": name, "log_token": "log", "description": ""} for name in (outside, inside)],
        **{name: [] for name in ("sample", "sample_data", "ego_pose", "instance", "sample_annotation")},
    }
    submission: dict[str, Any] = {"meta": {"use_lidar": True}, "results": {}}
    for scene in (outside, inside):
        _scene(rng, recipe, scene, tables)
    _link(tables)
    positions = {s["token"]: (s["token"].split("/")[0] == inside) for s in tables["sample"]}
    tokens = [token for token, wanted in positions.items() if wanted or recipe.custom]
    for token in rng.permutation(tokens):  # the order of frames in the file decides ties, so shuffle it
        submission["results"][str(token)] = _detections(rng, recipe, str(token), tables)
    if recipe.custom:
        (root / version).mkdir(parents=True, exist_ok=True)
        (root / version / "splits.json").write_text(json.dumps({"train": [outside], "tune": [inside]}))
    return World(root, version, split, tables, submission).write()


def _scene(rng: np.random.Generator, recipe: Recipe, scene: str, tables: dict[str, Any]) -> None:
    origin = np.array([100.0, 200.0]) if recipe.grid else rng.uniform(-1000, 1000, 2)
    for f in range(recipe.frames):
        token, time_us = f"{scene}/{f}", 1_532_402_927_000_000 + round(f * recipe.seconds * 1e6)
        tables["sample"].append({"token": token, "timestamp": time_us, "prev": "", "next": "", "scene_token": scene})
        for sensor, key in (("lidar", True), ("front", True), ("lidar", False)):
            data = f"{token}/{sensor}/{key}"
            ego = origin + (0 if key else 99)
            tables["ego_pose"].append(
                {"token": data, "timestamp": time_us, "rotation": [1, 0, 0, 0], "translation": [*ego.tolist(), 0.0]}
            )
            tables["sample_data"].append(
                {
                    "token": data,
                    "sample_token": token,
                    "ego_pose_token": data,
                    "calibrated_sensor_token": f"cs-{sensor}",
                    "timestamp": time_us,
                    "fileformat": "x",
                    "is_key_frame": key,
                    "height": 0,
                    "width": 0,
                    "filename": data,
                    "prev": "",
                    "next": "",
                }
            )
        if rng.random() < recipe.empty:
            continue
        wanted = [name for name in CATEGORIES if CLASS_OF.get(name, "") in recipe.classes] + ["animal"]
        names = [str(rng.choice(wanted)) for _ in range(recipe.annotations)] + [RACK] * recipe.racks
        for i, name in enumerate(names):
            instance = f"{scene}/object{i}/{name}"
            if all(known["token"] != instance for known in tables["instance"]):
                tables["instance"].append({"token": instance, "category_token": f"c{CATEGORIES.index(name)}"})
            attribute = [] if rng.random() < recipe.no_attribute else [f"a{rng.integers(len(ATTRIBUTES))}"]
            tables["sample_annotation"].append(
                {
                    "token": f"{token}/{i}",
                    "sample_token": token,
                    "instance_token": instance,
                    "visibility_token": "4",
                    "attribute_tokens": attribute,
                    "translation": [*_place(rng, recipe, origin), float(rng.integers(0, 2))],
                    "size": [6.0, 9.0, 4.0] if name == RACK else rng.uniform(0.5, 5, 3).tolist(),
                    "rotation": _rotation(rng, recipe),
                    "prev": "",
                    "next": "",
                    "num_lidar_pts": int(rng.integers(0, 4)),
                    "num_radar_pts": int(rng.integers(0, 2)),
                }
            )


def _place(rng: np.random.Generator, recipe: Recipe, origin: np.ndarray) -> list[float]:
    if rng.random() < recipe.edge:
        return (origin + EDGES[rng.integers(len(EDGES))]).tolist()
    xy = rng.uniform(-12, 12, 2)
    if recipe.grid:
        xy = np.round(xy / recipe.grid) * recipe.grid
    return (origin + xy).tolist()


def _rotation(rng: np.random.Generator, recipe: Recipe) -> list[float]:
    if recipe.grid and rng.random() < 0.5:
        quarter = rng.integers(4) * math.pi / 4
        return [math.cos(quarter), 0.0, 0.0, math.sin(quarter)]
    quaternion = rng.normal(0, 1, 4) * [1, 0.05, 0.05, 1]
    return (quaternion / np.linalg.norm(quaternion) * rng.choice([1.0, 1.0, 1.001])).tolist()


def _link(tables: dict[str, Any]) -> None:
    """Chain the annotations of each object in time."""
    last: dict[str, dict[str, Any]] = {}
    for record in tables["sample_annotation"]:
        before = last.get(record["instance_token"])
        if before is not None:
            before["next"], record["prev"] = record["token"], before["token"]
        last[record["instance_token"]] = record


def _detections(rng: np.random.Generator, recipe: Recipe, token: str, tables: dict[str, Any]) -> list[dict[str, Any]]:
    if rng.random() < recipe.empty:
        return []
    here = [a for a in tables["sample_annotation"] if a["sample_token"] == token]
    pose = next(p for p in tables["ego_pose"] if p["token"] == f"{token}/lidar/True")
    origin = np.array(pose["translation"][:2])
    out = []
    for _ in range(recipe.detections):
        name, place, z = str(rng.choice(recipe.classes)), _place(rng, recipe, origin), 1.0
        size, rotation = rng.uniform(0.5, 5, 3).tolist(), _rotation(rng, recipe)
        attribute = str(rng.choice([*ATTRIBUTES, ""]))
        if here and rng.random() < recipe.near:
            model = here[rng.integers(len(here))]
            shift = rng.normal(0, 1.2, 2)
            if recipe.grid:
                shift = np.round(shift / recipe.grid) * recipe.grid
            place = (np.array(model["translation"][:2]) + shift).tolist()
            z = model["translation"][2]
            name = CLASS_OF.get(model["instance_token"].split("/")[-1], name)
            if rng.random() < 0.5:
                size, rotation = model["size"], model["rotation"]
        velocity = rng.normal(0, 2, 2).tolist()
        if rng.random() < recipe.nan_velocity:
            velocity[rng.integers(2)] = float("nan")
        score = rng.random() if recipe.levels is None else rng.integers(recipe.levels) / recipe.levels
        out.append(
            {
                "sample_token": token,
                "translation": [*place, z],
                "size": size,
                "rotation": rotation,
                "velocity": velocity,
                "detection_name": name,
                "detection_score": float(score),
                "attribute_name": attribute,
            }
        )
    return out


def devkit_metrics(
    root: Path, version: str, split: str, results: Path, config: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary and details of the official evaluator, as JSON writes them."""
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.data_classes import DetectionConfig
    from nuscenes.eval.detection.evaluate import DetectionEval

    nusc = NuScenes(version, str(root), verbose=False)
    settings = DetectionConfig.deserialize(config) if config else config_factory("detection_cvpr_2019")
    evaluation = DetectionEval(nusc, settings, str(results), split, str(root / "devkit"), verbose=False)
    metrics, details = evaluation.evaluate()
    return json.loads(json.dumps(metrics.serialize())), json.loads(json.dumps(details.serialize()))


def assert_same(ours: Any, theirs: Any, where: str = "", tolerance: float = 1e-12) -> None:
    """Equal structure, and numbers equal to `tolerance`; NaN equals NaN, or null, which our files have instead."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        assert set(ours) == set(theirs), where
        for key in theirs:
            if key != "eval_time":
                assert_same(ours[key], theirs[key], f"{where}/{key}", tolerance)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(a, b, f"{where}/{i}", tolerance)
    elif isinstance(theirs, float) and math.isnan(theirs):
        assert ours is None or math.isnan(ours), f"{where}: {ours} is not NaN"
    elif isinstance(theirs, (int, float)):
        assert abs(ours - theirs) <= tolerance, f"{where}: ours {ours!r}, devkit {theirs!r}"
    else:
        assert ours == theirs, where
