"""Radar files of a real keyframe, where there are any: every state is one of the sensor's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bevkd.data.radar import STATES, RadarFilter, read_pcd, read_radar_states, state_features


@pytest.fixture(scope="module")
def files(shared_real: Path) -> list[Path]:
    found = sorted((shared_real / "nuscenes" / "samples").glob("RADAR_*/*.pcd"))
    if not found:
        pytest.skip("the real keyframe has no radar")
    return found


def test_states_are_those_that_are_known(files: list[Path]) -> None:
    for path in files:
        cloud, points = read_pcd(path), read_radar_states(path)
        for name, count in STATES:
            assert cloud[name].min() >= 0, (path, name)
            assert cloud[name].max() < count, (path, name)
        assert len(points) == np.isfinite(cloud["x"]).sum()
        assert len(read_radar_states(path, keep=RadarFilter())) <= len(points)
        rows = state_features(np.insert(points, 6, 0.0, axis=1))
        assert (rows[:, 7:38].sum(axis=1) == 3).all()
