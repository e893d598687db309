"""Simulated Waymo data read by the official package: the same columns and types, the same points.

The package needs an environment of its own: `pip install waymo-open-dataset-tf-2-12-0==1.6.7` there, and its Python in
$BEVKD_WAYMO_ORACLE.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bevkd.data.waymo import Segment
from bevkd.sim import WAYMO_SCALES, simulate_waymo
from bevkd.sim.config import LabelledConfig

pytestmark = pytest.mark.slow


def test_the_official_package_reads_the_same_points(tmp_path: Path) -> None:
    oracle = os.environ.get("BEVKD_WAYMO_ORACLE")
    if not oracle:
        pytest.skip("no environment with the official package: set BEVKD_WAYMO_ORACLE to its Python")
    smoke = WAYMO_SCALES["smoke"]
    config = replace(
        smoke,
        splits=replace(smoke.splits, train=2, tune=1, val=1, keyframes_per_scene=2),
        labelled=LabelledConfig(count=4, subsets=1),
    )
    root = tmp_path / "data"
    simulate_waymo(config, root, seed=0)
    script = Path(__file__).with_name("waymo_official.py")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([oracle, str(script), str(root), str(tmp_path / "out.npz")], check=True, env=env)
    with np.load(tmp_path / "out.npz") as official:
        assert len(official.files) == 4
        for name in official.files:
            segment, time = name.split("/")
            ours = Segment(root, f"training/{segment}").points(int(time))
            theirs = official[name]  # range, intensity, elongation, x, y, z
            assert len(ours) == len(theirs) > 1000
            np.testing.assert_allclose(ours[:, 3:5], theirs[:, 1:3], atol=1e-6)
            # The official code computes in single precision, also with world coordinates.
            np.testing.assert_allclose(ours[:, :3], theirs[:, 3:], atol=2e-4)
