"""Tables and a submission of nuScenes validation size, generated from a seed, for `nuscenes_eval.py`.

The tables carry the 150 official validation scenes with 40 keyframes each, tracks that last several keyframes, class
frequencies and sizes close to nuScenes, and bicycle racks. The submission holds 200 boxes per frame: some near the
annotations, the rest clutter, in the layout that `json.dump` gives (about 410 MB).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.constants import CATEGORY_OF_CLASS
from bevkd.eval.nuscenes.splits import official_splits

# class -> (share of the annotations, (width, length, height) in metres, attribute of the generated objects)
POPULATION: dict[str, tuple[float, tuple[float, float, float], str]] = {
    "car": (0.43, (1.95, 4.6, 1.73), "vehicle.parked"),
    "truck": (0.08, (2.5, 6.9, 2.8), "vehicle.moving"),
    "bus": (0.02, (2.9, 11.0, 3.5), "vehicle.stopped"),
    "trailer": (0.02, (2.9, 12.3, 3.9), "vehicle.parked"),
    "construction_vehicle": (0.02, (2.8, 6.4, 3.2), "vehicle.parked"),
    "pedestrian": (0.19, (0.67, 0.73, 1.77), "pedestrian.moving"),
    "motorcycle": (0.01, (0.77, 2.1, 1.47), "cycle.without_rider"),
    "bicycle": (0.01, (0.6, 1.7, 1.28), "cycle.with_rider"),
    "traffic_cone": (0.09, (0.41, 0.41, 1.07), ""),
    "barrier": (0.13, (2.5, 0.5, 0.98), ""),
}
NAMES = tuple(POPULATION)
SHARES = np.array([p[0] for p in POPULATION.values()])
SIZES = np.array([p[1] for p in POPULATION.values()])
ATTRIBUTES = [p[2] for p in POPULATION.values()]
REACH = np.array([DetectionConfig().class_range[name] for name in NAMES], dtype=float)
KEYFRAMES = 40
TRACK_LENGTH = 17  # mean number of keyframes of an object, as in nuScenes
MICROSECONDS = 500_000


def token(kind: int, index: int) -> str:
    """A token of 32 hexadecimal characters, as long as nuScenes' own."""
    return f"{kind:04x}{index:028x}"


def write_tables(root: Path, frames: int, boxes_per_frame: int, seed: int) -> dict[str, Any]:
    """Write `v1.0-trainval` tables and return the arrays that the submission is built from."""
    rng = np.random.default_rng(seed)
    scenes = official_splits()["val"][: frames // KEYFRAMES]
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "sample_annotation", "instance")
    }
    categories = [*(CATEGORY_OF_CLASS[name] for name in NAMES), "static_object.bicycle_rack", "animal"]
    attributes = sorted(set(ATTRIBUTES) - {""})
    tables["category"] = [{"token": token(1, i), "name": n, "description": ""} for i, n in enumerate(categories)]
    tables["attribute"] = [{"token": token(2, i), "name": n, "description": ""} for i, n in enumerate(attributes)]
    tables["visibility"] = [{"token": "4", "level": "v80-100", "description": ""}]
    tables["log"] = [
        {"token": token(3, 0), "logfile": "log", "vehicle": "v", "date_captured": "2020-01-01", "location": "x"}
    ]
    tables["map"] = [{"token": token(12, 0), "category": "", "filename": "", "log_tokens": [token(3, 0)]}]
    channels = ["LIDAR_TOP"] + [f"CAM_{i}" for i in range(6)]
    tables["sensor"] = [{"token": token(4, i), "channel": c, "modality": "x"} for i, c in enumerate(channels)]
    tables["calibrated_sensor"] = [
        {"token": token(5, i), "sensor_token": token(4, i), "translation": [0, 0, 0], "rotation": [1, 0, 0, 0]}
        for i in range(len(channels))
    ]
    rows: list[tuple[int, int, float, float]] = []  # frame, class, x, y of each annotation: what detections are near to
    ego = np.zeros((len(scenes) * KEYFRAMES, 2))
    for s, name in enumerate(scenes):
        first = s * KEYFRAMES
        tables["scene"].append({"token": token(6, s), "name": name, "log_token": token(3, 0), "description": ""})
        ego[first : first + KEYFRAMES] = rng.uniform(0, 2000, 2) + np.arange(KEYFRAMES)[:, None] * rng.normal(0, 2, 2)
        for f in range(first, first + KEYFRAMES):
            _frame_rows(tables, f, s, ego[f], len(channels))
        tracks = round(boxes_per_frame * (KEYFRAMES + TRACK_LENGTH - 1) / TRACK_LENGTH)  # some begin or end outside
        for label in [*rng.choice(len(NAMES), tracks, p=SHARES), len(NAMES), len(NAMES), len(NAMES) + 1]:
            begin = int(rng.integers(-TRACK_LENGTH + 1, KEYFRAMES))
            stop = min(begin + TRACK_LENGTH, KEYFRAMES)
            begin = max(begin, 0)
            centre = ego[first + (begin + stop) // 2] + rng.normal(0, 18, 2)
            velocity = rng.normal(0, 2, 2) * (label < 8)
            _track(tables, rng, int(label), np.arange(first + begin, first + stop), centre, velocity, rows)
    folder = root / "v1.0-trainval"
    folder.mkdir(parents=True)
    for table, records in tables.items():
        (folder / f"{table}.json").write_text(json.dumps(records, indent=0))
    return {"ego": ego, "objects": np.array([r for r in rows if r[1] < len(NAMES)])}


def _frame_rows(tables: dict[str, Any], f: int, scene: int, ego_xy: np.ndarray, n_channels: int) -> None:
    time_us = 1_500_000_000_000_000 + f * MICROSECONDS
    tables["sample"].append(
        {"token": token(7, f), "timestamp": time_us, "prev": "", "next": "", "scene_token": token(6, scene)}
    )
    for c in range(n_channels):
        index = f * n_channels + c
        tables["ego_pose"].append(
            {"token": token(8, index), "timestamp": time_us, "rotation": [1, 0, 0, 0], "translation": [*ego_xy, 0.0]}
        )
        tables["sample_data"].append(
            {
                "token": token(9, index),
                "sample_token": token(7, f),
                "ego_pose_token": token(8, index),
                "calibrated_sensor_token": token(5, c),
                "timestamp": time_us,
                "fileformat": "x",
                "is_key_frame": True,
                "height": 0,
                "width": 0,
                "filename": f"samples/{c}/{f}",
                "prev": "",
                "next": "",
            }
        )


def _track(
    tables: dict[str, Any],
    rng: np.random.Generator,
    label: int,
    frames: np.ndarray,
    centre: np.ndarray,
    velocity: np.ndarray,
    rows: list[tuple[int, int, float, float]],
) -> None:
    """Append one object moving straight through `frames`."""
    instance = token(10, len(tables["instance"]))
    tables["instance"].append({"token": instance, "category_token": token(1, label)})
    known = label < len(NAMES)
    size = (SIZES[label] * rng.normal(1, 0.08, 3).clip(0.7, 1.3)) if known else np.array([2.0, 4.0, 1.5])
    attribute = ATTRIBUTES[label] if known else ""
    attributes = sorted(set(ATTRIBUTES) - {""})
    yaw = rng.uniform(-np.pi, np.pi)
    base = len(tables["sample_annotation"])
    for k, f in enumerate(frames):
        x, y = centre + velocity * 0.5 * (k - len(frames) / 2)
        rows.append((int(f), label, x, y))
        tables["sample_annotation"].append(
            {
                "token": token(11, base + k),
                "sample_token": token(7, int(f)),
                "instance_token": instance,
                "visibility_token": "4",
                "attribute_tokens": [token(2, attributes.index(attribute))] if attribute else [],
                "translation": [x, y, 1.0],
                "size": size.tolist(),
                "rotation": [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))],
                "prev": token(11, base + k - 1) if k else "",
                "next": token(11, base + k + 1) if k + 1 < len(frames) else "",
                "num_lidar_pts": int(rng.geometric(0.1) - 1),
                "num_radar_pts": 0,
            }
        )


def write_submission(path: Path, world: dict[str, Any], boxes_per_frame: int, seed: int) -> int:
    """Write the submission frame by frame; returns the number of boxes."""
    rng = np.random.default_rng([seed, 1])
    ego, objects = world["ego"], world["objects"]
    first = np.searchsorted(np.sort(objects[:, 0]), np.arange(len(ego) + 1))
    objects = objects[np.argsort(objects[:, 0], kind="stable")]
    with open(path, "w") as stream:
        stream.write('{"meta": {"use_camera": false, "use_lidar": true, "use_radar": false, "use_map": false, ')
        stream.write('"use_external": false}, "results": {')
        for f in range(len(ego)):
            here = objects[first[f] : first[f + 1]]
            stream.write(f'{", " if f else ""}"{token(7, f)}": ')
            json.dump(_frame_detections(rng, token(7, f), ego[f], here, boxes_per_frame), stream)
        stream.write("}}")
    return len(ego) * boxes_per_frame


def _frame_detections(
    rng: np.random.Generator, sample: str, ego_xy: np.ndarray, objects: np.ndarray, n: int
) -> list[dict[str, Any]]:
    near = objects[rng.integers(0, len(objects), n // 4)] if len(objects) else np.zeros((0, 4))
    # A detector that keeps its best boxes per task head fills up with clutter of all classes alike.
    label = np.concatenate([near[:, 1].astype(int), rng.integers(0, len(NAMES), n - len(near))])
    distance = rng.uniform(0, REACH[label[len(near) :]])
    bearing = rng.uniform(-np.pi, np.pi, n - len(near))
    clutter = ego_xy + distance[:, None] * np.stack([np.cos(bearing), np.sin(bearing)], axis=1)
    xy = np.concatenate([near[:, 2:] + rng.normal(0, 0.8, (len(near), 2)), clutter])
    score = np.concatenate([rng.beta(2, 2, len(near)), rng.beta(1, 6, n - len(near))])
    size = SIZES[label] * rng.normal(1, 0.1, (n, 3)).clip(0.6, 1.4)
    size = size.round(6)
    yaw = rng.uniform(-np.pi, np.pi, n) / 2
    velocity = rng.normal(0, 1.5, (n, 2)).round(6)
    return [
        {
            "sample_token": sample,
            "translation": [*xy[i].tolist(), 1.0],
            "size": size[i].tolist(),
            "rotation": [float(np.cos(yaw[i])), 0.0, 0.0, float(np.sin(yaw[i]))],
            "velocity": velocity[i].tolist(),
            "detection_name": NAMES[label[i]],
            "detection_score": float(score[i]),
            "attribute_name": ATTRIBUTES[label[i]],
        }
        for i in range(n)
    ]
