"""KITTI object detection in its on-disk format: labels, calibration, frames, and the Parquet index of them."""

from bevkd.data.kitti.calibration import Calibration, read_calibration
from bevkd.data.kitti.convert import convert_kitti
from bevkd.data.kitti.objects import Objects, read_folder

__all__ = ["Calibration", "Objects", "convert_kitti", "read_calibration", "read_folder"]
