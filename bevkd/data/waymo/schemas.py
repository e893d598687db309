"""Column names and Arrow types of the Waymo v2 components that this project reads and writes."""

from __future__ import annotations

import pyarrow as pa

from bevkd.data.waymo.components import CAMERA, COMPONENTS, LASER, TIME

SEGMENT, OBJECT = "key.segment_context_name", "key.laser_object_id"
_MATRIX = pa.list_(pa.float64(), 16)
_VALUES, _SHAPE = pa.list_(pa.float32()), pa.list_(pa.int32(), 3)
_DOUBLE = pa.float64()
_KEYS = {
    SEGMENT: pa.string(),
    TIME: pa.int64(),
    LASER: pa.int8(),
    CAMERA: pa.int8(),
    OBJECT: pa.string(),
}
_FIELDS: dict[str, dict[str, pa.DataType]] = {
    "vehicle_pose": {SEGMENT: None, TIME: None, "world_from_vehicle.transform": _MATRIX},
    "lidar": {
        SEGMENT: None,
        TIME: None,
        LASER: None,
        **{f"range_image_return{i}.{part}": t for i in (1, 2) for part, t in (("values", _VALUES), ("shape", _SHAPE))},
    },
    "lidar_pose": {
        SEGMENT: None,
        TIME: None,
        LASER: None,
        "range_image_return1.values": _VALUES,
        "range_image_return1.shape": _SHAPE,
    },
    "lidar_calibration": {
        SEGMENT: None,
        LASER: None,
        "extrinsic.transform": _MATRIX,
        "beam_inclination.min": _DOUBLE,
        "beam_inclination.max": _DOUBLE,
        "beam_inclination.values": pa.list_(_DOUBLE),
    },
    "lidar_box": {
        SEGMENT: None,
        TIME: None,
        OBJECT: None,
        **{f"box.center.{axis}": _DOUBLE for axis in "xyz"},
        **{f"box.size.{axis}": _DOUBLE for axis in "xyz"},
        "box.heading": _DOUBLE,
        "type": pa.int8(),
        "num_lidar_points_in_box": pa.int64(),
        "num_top_lidar_points_in_box": pa.int64(),
        **{f"speed.{axis}": _DOUBLE for axis in "xyz"},
        **{f"acceleration.{axis}": _DOUBLE for axis in "xyz"},
        "difficulty_level.detection": pa.int8(),
        "difficulty_level.tracking": pa.int8(),
    },
    "camera_image": {
        SEGMENT: None,
        TIME: None,
        CAMERA: None,
        "image": pa.binary(),
        "pose.transform": _MATRIX,
        **{f"velocity.linear_velocity.{axis}": pa.float32() for axis in "xyz"},
        **{f"velocity.angular_velocity.{axis}": _DOUBLE for axis in "xyz"},
        "pose_timestamp": _DOUBLE,
        "rolling_shutter_params.shutter": _DOUBLE,
        "rolling_shutter_params.camera_trigger_time": _DOUBLE,
        "rolling_shutter_params.camera_readout_done_time": _DOUBLE,
    },
    "camera_calibration": {
        SEGMENT: None,
        CAMERA: None,
        **{f"intrinsic.{name}": _DOUBLE for name in ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")},
        "extrinsic.transform": _MATRIX,
        "width": pa.int32(),
        "height": pa.int32(),
        "rolling_shutter_direction": pa.int8(),
    },
    "stats": {
        SEGMENT: None,
        TIME: None,
        "time_of_day": pa.string(),
        "location": pa.string(),
        "weather": pa.string(),
        "lidar_object_counts.types": pa.list_(pa.int8()),
        "lidar_object_counts.counts": pa.list_(pa.int32()),
        "camera_object_counts.types": pa.list_(pa.int8()),
        "camera_object_counts.counts": pa.list_(pa.int32()),
    },
}


def schema(component: str) -> pa.Schema:
    """The Arrow schema of a component's file."""
    prefix = COMPONENTS[component]
    fields = [
        (name, _KEYS[name]) if kind is None else (f"[{prefix}].{name}", kind)
        for name, kind in _FIELDS[component].items()
    ]
    return pa.schema(fields)
