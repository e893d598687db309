"""The embedded dataset: a procedural driving world, sensor models, and writers in the real on-disk formats."""

from bevkd.sim.config import KITTI_SCALES, NUIMAGES_SCALES, SCALES, WAYMO_SCALES, SimConfig
from bevkd.sim.kitti import simulate_kitti
from bevkd.sim.nuimages import simulate_nuimages
from bevkd.sim.nuscenes import simulate_nuscenes
from bevkd.sim.waymo import simulate_waymo

# Data set -> its writer and its scales.
WRITERS = {
    "nuscenes": (simulate_nuscenes, SCALES),
    "kitti": (simulate_kitti, KITTI_SCALES),
    "waymo": (simulate_waymo, WAYMO_SCALES),
    "nuimages": (simulate_nuimages, NUIMAGES_SCALES),
}

__all__ = [
    "KITTI_SCALES",
    "NUIMAGES_SCALES",
    "SCALES",
    "WAYMO_SCALES",
    "WRITERS",
    "SimConfig",
    "simulate_kitti",
    "simulate_nuimages",
    "simulate_nuscenes",
    "simulate_waymo",
]
