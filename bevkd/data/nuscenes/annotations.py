"""Annotations in the ego frame of their keyframe, with velocities the way the nuScenes devkit defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASS_INDEX
from bevkd.data.nuscenes.names import CLASS_OF_CATEGORY
from bevkd.data.nuscenes.tables import Table
from bevkd.geometry import rotation_from_quaternion, yaw_from_rotation

_MAX_SECONDS = 1.5  # between the two annotations of a difference; twice that for a central one


def box_columns(tables: dict[str, Table], frames: dict[str, Any], sample_scene: NDArray[np.int64]) -> dict[str, Any]:
    """Columns of `boxes`, sorted by frame.

    Raises:
        DataError: an annotation refers to nothing.
    """
    annotation, sample, instance = tables["sample_annotation"], tables["sample"], tables["instance"]
    category, attribute, visibility = tables["category"], tables["attribute"], tables["visibility"]
    sample_row = sample.rows_of(annotation, "sample_token")
    instance_row = instance.rows_of(annotation, "instance_token")
    category_row = category.rows_of(instance, "category_token")[instance_row]
    attribute_row = attribute.rows_of(annotation, "attribute_tokens", optional=True)
    visibility_row = visibility.rows_of(annotation, "visibility_token", optional=True)
    velocity = global_velocity(annotation, sample["timestamp"][sample_row])

    frame_of_sample = np.full(len(sample), -1)
    frame_of_sample[frames["sample"]] = np.arange(len(frames["sample"]))
    frame = frame_of_sample[sample_row]
    order = np.argsort(frame, kind="stable")
    order = order[frame[order] >= 0]  # without those of frames of which no sensor file is there
    global_from_ego = frames["global_from_ego"][frame]
    ego_from_global = np.swapaxes(global_from_ego[:, :3, :3], 1, 2)
    centre = np.einsum("nij,nj->ni", ego_from_global, annotation["translation"] - global_from_ego[:, :3, 3])
    rotation = ego_from_global @ rotation_from_quaternion(annotation["rotation"])
    ego_velocity = np.einsum("nij,nj->ni", ego_from_global, velocity)[:, :2]
    box = np.concatenate(
        [centre, annotation["size"][:, [1, 0, 2]], yaw_from_rotation(rotation)[:, None], ego_velocity], axis=1
    )
    label_of = np.array([CLASS_INDEX.get(CLASS_OF_CATEGORY.get(n, ""), -1) for n in category["name"]], dtype=np.int8)
    attribute_names = np.append(attribute["name"], "")  # row -1: no attribute
    visibility_numbers = np.array([int(t) if t.isdigit() else 0 for t in visibility["token"]] + [0], dtype=np.int8)
    columns = {
        "token": annotation["token"],
        "frame": frame,
        "scene": sample_scene[sample_row],
        "instance": annotation["instance_token"],
        "category": category["name"][category_row],
        "label": label_of[category_row],
        "attribute": attribute_names[attribute_row],
        "visibility": visibility_numbers[visibility_row],
        "difficulty": np.full(len(annotation), None, dtype=object),
        "box": box,
        "rotation": _quaternions(rotation),
        "num_lidar_pts": annotation["num_lidar_pts"],
        "num_radar_pts": annotation["num_radar_pts"],
    }
    return {name: values[order] for name, values in columns.items()}


def global_velocity(annotation: Table, timestamp: NDArray[np.int64]) -> NDArray[np.float64]:
    """Velocity (N, 3) in the global frame: central difference over the neighbours of the same instance.

    One-sided at the ends of a track; NaN for single annotations and for neighbours more than 1.5 s away.

    Args:
        annotation: the table `sample_annotation`.
        timestamp: (N,) microseconds of the annotations' samples.
    """
    own = np.arange(len(annotation))
    before, after = (annotation.rows_of(annotation, field, optional=True) for field in ("prev", "next"))
    has_both = (before >= 0) & (after >= 0)
    first, last = np.where(before >= 0, before, own), np.where(after >= 0, after, own)
    seconds = 1e-6 * timestamp[last] - 1e-6 * timestamp[first]
    valid = (first != last) & (seconds <= np.where(has_both, 2 * _MAX_SECONDS, _MAX_SECONDS)) & (seconds > 0)
    moved = annotation["translation"][last] - annotation["translation"][first]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(valid[:, None], moved / seconds[:, None], np.nan)


def _quaternions(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    if len(rotation) == 0:
        return np.zeros((0, 4))
    return Rotation.from_matrix(rotation).as_quat(canonical=True)[:, [3, 0, 1, 2]]
