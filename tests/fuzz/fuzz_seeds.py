"""The smallest good files of every format, written by hand: two frames, one camera, a LiDAR, a radar, two boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bevkd.data.radar import FIELDS
from bevkd.data.waymo.components import COMPONENTS
from bevkd.data.waymo.schemas import schema
from bevkd.geometry.rle import encode_mask

SIZE = (32, 24)
K = [[30.0, 0.0, 16.0], [0.0, 30.0, 12.0], [0.0, 0.0, 1.0]]
FORWARD = [0.5, -0.5, 0.5, -0.5]  # a camera that looks along x
VERSION = "v1.0-sim"


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def points(path: Path, columns: int, most: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cloud = np.random.default_rng(1).uniform(-20, 20, (50, columns)).astype(np.float32)
    cloud[:, 3:] = np.random.default_rng(2).uniform(0, most, (50, columns - 3))
    cloud.tofile(path)
    return path


def radar(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = ["F" if name[0] in "xyvr" else "I" for name in FIELDS]
    sizes = ["4" if kind == "F" else "1" for kind in kinds]
    dtype = np.dtype([(n, "<f4" if k == "F" else "<i1") for n, k in zip(FIELDS, kinds, strict=True)])
    cloud = np.zeros(4, dtype=dtype)
    cloud["x"], cloud["ambig_state"] = np.arange(4), 3
    lines = ["# .PCD v0.7", "VERSION 0.7", f"FIELDS {' '.join(FIELDS)}", f"SIZE {' '.join(sizes)}"]
    lines += [f"TYPE {' '.join(kinds)}", f"COUNT {' '.join('1' * len(FIELDS))}", "WIDTH 4", "HEIGHT 1"]
    lines += ["VIEWPOINT 0 0 0 1 0 0 0", "POINTS 4", "DATA binary"]
    path.write_bytes("\n".join(lines).encode() + b"\n" + cloud.tobytes())
    return path


def _write(folder: Path, tables: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def nuscenes(root: Path) -> Path:
    sensors = {"LIDAR_TOP": "lidar", "CAM_FRONT": "camera", "RADAR_FRONT": "radar"}
    data, poses, marks = [], [], []
    for k in range(2):
        for channel, kind in sensors.items():
            token, end = f"{channel}{k}", {"lidar": "pcd.bin", "camera": "png", "radar": "pcd"}[kind]
            name = f"samples/{channel}/{k}.{end}"
            {"lidar": lambda p: points(p, 5, 200.0), "camera": image, "radar": radar}[kind](root / name)
            poses.append({"token": token, "rotation": [1, 0, 0, 0], "translation": [float(k), 0.0, 0.0]})
            data.append(
                {
                    **{"token": token, "sample_token": f"s{k}", "ego_pose_token": token, "filename": name},
                    **{"calibrated_sensor_token": channel, "timestamp": 10**15 + 500_000 * k, "is_key_frame": True},
                    **{"height": SIZE[1] * (kind == "camera"), "width": SIZE[0] * (kind == "camera")},
                }
            )
        marks.append(
            {
                **{"token": f"a{k}", "sample_token": f"s{k}", "instance_token": "i", "visibility_token": "4"},
                **{"attribute_tokens": ["at"], "translation": [5.0 + k, 0.5, 0.0], "size": [2.0, 4.0, 1.5]},
                **{"rotation": [1, 0, 0, 0], "num_lidar_pts": 5, "num_radar_pts": 1},
                **{"prev": "a0" if k else "", "next": "" if k else "a1"},
            }
        )
    mount = {"LIDAR_TOP": [1, 0, 0, 0], "CAM_FRONT": FORWARD, "RADAR_FRONT": [1, 0, 0, 0]}
    _write(
        root / VERSION,
        {
            "sample_data": data,
            "ego_pose": poses,
            "sample_annotation": marks,
            "sample": [{"token": f"s{k}", "timestamp": 10**15 + 500_000 * k, "scene_token": "sc"} for k in range(2)],
            "scene": [{"token": "sc", "name": "scene-a", "description": "rain", "log_token": "l"}],
            "log": [{"token": "l", "location": "here"}],
            "sensor": [{"token": c, "channel": c, "modality": m} for c, m in sensors.items()],
            "calibrated_sensor": [
                {
                    **{"token": c, "sensor_token": c, "translation": [0.5, 0.0, 1.5], "rotation": mount[c]},
                    "camera_intrinsic": K if m == "camera" else [],
                }
                for c, m in sensors.items()
            ],
            "instance": [{"token": "i", "category_token": "c"}],
            "category": [{"token": "c", "name": "vehicle.car"}],
            "attribute": [{"token": "at", "name": "vehicle.moving"}],
            "visibility": [{"token": "4"}],
            "splits": {"train": ["scene-a"]},
            "labelled": {"0": ["s0"], "1": ["s0", "s1"]},
        },
    )
    return root


def nuscenes_submission(root: Path) -> Path:
    box = {
        **{"translation": [5.0, 0.5, 0.0], "size": [2.0, 4.0, 1.5], "rotation": [1, 0, 0, 0], "velocity": [1.0, 0.0]},
        **{"detection_name": "car", "detection_score": 0.5, "attribute_name": "vehicle.moving"},
    }
    results = {f"s{k}": [{"sample_token": f"s{k}", **box}] for k in range(2)}
    (root / "results.json").write_text(json.dumps({"meta": {"use_lidar": True}, "results": results}))
    return root / "results.json"


def kitti(root: Path) -> Path:
    base = root / "training"
    for name in ("000000", "000001"):
        image(base / "image_2" / f"{name}.png")
        points(base / "velodyne" / f"{name}.bin", 4, 1.0)
        for folder in ("calib", "label_2", "results"):
            (base / folder).mkdir(exist_ok=True)
        camera = " ".join(str(v) for row in K for v in (*row, 0.0))
        (base / "calib" / f"{name}.txt").write_text(
            f"P2: {camera}\nR0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 -0.1\n"
        )
        line = "Car 0.00 0 1.55 5.0 5.0 20.0 18.0 1.50 1.60 3.90 0.10 1.60 12.00 1.57"
        nothing = "DontCare -1 -1 -10 1 1 9 9 -1 -1 -1 -1000 -1000 -1000 -10"
        (base / "label_2" / f"{name}.txt").write_text(f"{line}\n{nothing}\n")
        (base / "results" / f"{name}.txt").write_text(f"{line} 0.9\n")
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "train.txt").write_text("000000\n000001\n")
    return root


def nuimages(root: Path) -> Path:
    folder = root / "v1.0-mini"
    mask = encode_mask(np.pad(np.ones((4, 6), bool), ((2, SIZE[1] - 6), (3, SIZE[0] - 9))))
    image(root / "samples" / "CAM_FRONT" / "0.png")
    pose = {"translation": [0.0, 0.0, 0.0], "rotation": [1, 0, 0, 0]}
    _write(
        folder,
        {
            "sensor": [{"token": "s", "channel": "CAM_FRONT", "modality": "camera"}],
            "category": [{"token": "c", "name": "vehicle.car"}],
            "log": [{"token": "l", "logfile": "log", "location": "here"}],
            "calibrated_sensor": [{"token": "m", "sensor_token": "s", **pose, "camera_intrinsic": K}],
            "ego_pose": [{"token": "p", **pose}],
            "sample": [{"token": "f", "log_token": "l"}],
            "sample_data": [
                {
                    **{"token": "d", "sample_token": "f", "ego_pose_token": "p", "calibrated_sensor_token": "m"},
                    **{"timestamp": 10**15, "filename": "samples/CAM_FRONT/0.png", "is_key_frame": True},
                    **{"width": SIZE[0], "height": SIZE[1]},
                }
            ],
            "object_ann": [
                {"token": f"o{k}", "sample_data_token": "d", "category_token": "c", "bbox": [3, 2, 9, 6], "mask": m}
                for k, m in enumerate((mask, None))
            ],
        },
    )
    (root / "found.json").write_text(
        json.dumps([{"image": "d", "category": "car", "bbox": [3.0, 2.0, 6.0, 4.0], "score": 0.5}])
    )
    return root


def waymo(root: Path) -> Path:
    rng = np.random.default_rng(0)
    eye, times = np.eye(4).reshape(-1).tolist(), (1_000_000, 1_100_000)
    values: dict[str, Any] = {
        "key.segment_context_name": "seg", "key.laser_name": 1, "key.camera_name": 1, "key.laser_object_id": "o",
        "world_from_vehicle.transform": eye, "extrinsic.transform": eye, "pose.transform": eye,
        "beam_inclination.min": -0.3, "beam_inclination.max": 0.1, "beam_inclination.values": [-0.3, -0.1, 0.1],
        "image": image(root / "image.png").read_bytes(), "pose_timestamp": 1.0, "width": SIZE[0], "height": SIZE[1],
        "intrinsic.f_u": 30.0, "intrinsic.f_v": 30.0, "intrinsic.c_u": 16.0, "intrinsic.c_v": 12.0,
        "box.center.x": 5.0, "box.size.x": 4.0, "box.size.y": 2.0, "box.size.z": 1.5, "type": 1,
        "num_lidar_points_in_box": 7, "time_of_day": "Day", "location": "here", "weather": "sunny",
    }  # fmt: skip
    for component in COMPONENTS:
        rows = []
        for time in times if "calibration" not in component else times[:1]:
            row: dict[str, Any] = {}
            for field in schema(component):
                name = field.name.partition("].")[2] or field.name
                usual: Any = 0
                if pa.types.is_list(field.type):
                    usual = []
                if "range_image" in name:
                    shape = [3, 8, 6 if component == "lidar_pose" else 4]
                    usual = shape if name.endswith("shape") else rng.uniform(0.1, 1, int(np.prod(shape))).tolist()
                row[field.name] = time if name == "key.frame_timestamp_micros" else values.get(name, usual)
            rows.append(row)
        path = root / "training" / component / "seg.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema(component)), path)
    return root


def waymo_sets(path: Path) -> Path:
    box = np.array([[5.0, 0, 0, 4, 2, 1.5, 0.1], [8.0, 1, 0, 4, 2, 1.5, 0.2]])
    kind, frame = np.array([1, 2]), np.array([0, 1])
    found = {"pred_score": np.array([0.9, 0.4]), "pred_nlz": np.zeros(2, bool)}
    for part in ("pred", "gt"):
        found |= {f"{part}_box": box, f"{part}_type": kind, f"{part}_frame": frame}
    np.savez(path, gt_difficulty=np.array([1, 2]), **found)
    return path
