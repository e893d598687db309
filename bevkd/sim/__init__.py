"""The embedded dataset: a procedural driving world, sensor models, and writers in the real on-disk formats."""

from bevkd.sim.config import KITTI_SCALES, SCALES, WAYMO_SCALES, SimConfig
from bevkd.sim.kitti import simulate_kitti
from bevkd.sim.nuscenes import simulate_nuscenes
from bevkd.sim.waymo import simulate_waymo

# Data set -> its writer and its scales.
WRITERS = {
    "nuscenes": (simulate_nuscenes, SCALES),
    "kitti": (simulate_kitti, KITTI_SCALES),
    "waymo": (simulate_waymo, WAYMO_SCALES),
}

__all__ = [
    "KITTI_SCALES",
    "SCALES",
    "WAYMO_SCALES",
    "WRITERS",
    "SimConfig",
    "simulate_kitti",
    "simulate_nuscenes",
    "simulate_waymo",
]
