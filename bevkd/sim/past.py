"""Images before each keyframe, also before the first of a scene: what cameras with a past look back at.

They are those of the first record of a camera after the previous keyframe: 5/12 s before theirs at 2 and 12 Hz. Half a
second before, where the previous keyframe is, two records of one camera would have one time. Where all records between
keyframes are written anyway (`CameraConfig.sweeps`), this one is among them.

Times and noise come from a stream of their own: nothing else of a data set depends on them, but that the records of a
camera are linked in the order of time (`prev`, `next`), these among them.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from bevkd.sim import camera
from bevkd.sim.config import SimConfig
from bevkd.sim.raycast import PinholeGrid
from bevkd.sim.rig import OFFSETS_US

if TYPE_CHECKING:
    from bevkd.sim.scene import Recorder

_STREAM = 0x9A57
_JITTER_US = 800  # as of all other records


def stream(seed: int, scene: int) -> np.random.Generator:
    """Random numbers of the earlier images of a scene."""
    return np.random.default_rng(np.random.SeedSequence([seed, _STREAM, scene]))


def periods_back(config: SimConfig) -> int:
    """How many periods of a camera the earlier images are older than those of their keyframe; 0: there are none."""
    between = config.camera.rate_hz / config.splits.keyframe_hz
    back = ceil(between - 1e-9) - 1
    return back if back > config.camera.sweeps else 0


def record(rec: Recorder, channel: str, frame: int, key_us: int, grid: PinholeGrid) -> None:
    """Write the earlier image of one camera for keyframe `frame` at `key_us`, if there is one.

    Args:
        rec: of the scene; the camera's records before this one are written.
        channel: the camera.
        frame, key_us: number and time of the keyframe (microseconds).
        grid: rays of the camera.
    """
    config, world = rec.job.config, rec.world
    back = periods_back(config)
    if back == 0:
        return
    jitter = int(rec.past.integers(-_JITTER_US, _JITTER_US + 1))
    timestamp = key_us + OFFSETS_US[channel] - round(back * 1e6 / config.camera.rate_hz) + jitter
    t_s = rec.seconds(timestamp)
    ego = world.ego.pose(t_s)
    image, _ = camera.render(world, world.boxes(t_s, ego), ego, grid, t_s, rec.past)
    data = camera.encode(image, config.camera.jpeg_quality)
    rec.add(channel, timestamp, frame, False, data, (config.camera.height, config.camera.width))
