"""The Waymo Open Dataset v2 in its on-disk format: components, range images, and the Parquet index of them."""

from bevkd.data.waymo.convert import convert_waymo
from bevkd.data.waymo.segment import Segment

__all__ = ["Segment", "convert_waymo"]
