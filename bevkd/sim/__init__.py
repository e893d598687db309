"""The embedded dataset: a procedural driving world, sensor models, and writers in the real on-disk formats."""

from bevkd.sim.config import SCALES, SimConfig
from bevkd.sim.nuscenes import simulate_nuscenes

__all__ = ["SCALES", "SimConfig", "simulate_nuscenes"]
