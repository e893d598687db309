"""Read simulated Waymo components with the official package, in its own environment (see test_data_waymo_official.py).

    python waymo_official.py ROOT OUT.npz

Writes, for every training segment and frame, the points of all lasers and both returns, and counts of everything else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from waymo_open_dataset import v2
from waymo_open_dataset.v2.perception.utils import lidar_utils

COMPONENTS = {
    "vehicle_pose": v2.VehiclePoseComponent,
    "lidar": v2.LiDARComponent,
    "lidar_pose": v2.LiDARPoseComponent,
    "lidar_calibration": v2.LiDARCalibrationComponent,
    "lidar_box": v2.LiDARBoxComponent,
    "camera_image": v2.CameraImageComponent,
    "camera_calibration": v2.CameraCalibrationComponent,
    "stats": v2.StatsComponent,
}


def read(folder: Path, component: str, segment: str) -> list:
    """The rows of a component's file as the official objects, after a check of the columns."""
    kind = COMPONENTS[component]
    table = pq.read_table(folder / component / f"{segment}.parquet")
    official = kind.schema()
    assert table.schema.names == official.names, (component, table.schema.names, official.names)
    for field in official:
        assert table.schema.field(field.name).type == field.type, (component, field)
    return [kind.from_dict(row) for row in table.to_pylist()]


def main(root: Path, out: Path) -> None:
    arrays = {}
    folder = root / "training"
    for path in sorted((folder / "vehicle_pose").glob("*.parquet")):
        rows = {name: read(folder, name, path.stem) for name in COMPONENTS}
        mounts = {row.key.laser_name: row for row in rows["lidar_calibration"]}
        poses = {row.key.frame_timestamp_micros: row for row in rows["vehicle_pose"]}
        pixels = {row.key.frame_timestamp_micros: row.range_image_return1 for row in rows["lidar_pose"]}
        clouds = {time: [] for time in poses}
        for row in rows["lidar"]:
            time, laser = row.key.frame_timestamp_micros, row.key.laser_name
            for image in row.range_image_returns:
                top = laser == v2.perception.lidar.LaserName.TOP.value
                points = lidar_utils.convert_range_image_to_point_cloud(
                    image,
                    mounts[laser],
                    pixels[time] if top else None,
                    poses[time] if top else None,
                    keep_polar_features=True,
                )
                clouds[time].append(points.numpy())
        for time, parts in clouds.items():
            arrays[f"{path.stem}/{time}"] = np.concatenate(parts)
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
