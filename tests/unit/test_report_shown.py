"""Metrics as text tables, in the units of the field."""

from __future__ import annotations

import math
from typing import Any

from bevkd.eval.kitti import CLASSES, DIFFICULTIES
from bevkd.eval.waymo import TYPES
from bevkd.report.shown import shown

ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")


def lines(metrics: dict[str, Any]) -> dict[str, list[str]]:
    """Cells of each row, by its first word."""
    rows = [line.split() for line in shown(metrics).splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def test_nuscenes() -> None:
    metrics = {
        "mean_dist_aps": {"car": 0.5, "traffic_cone": 0.25},
        "mean_ap": 0.375,
        "nd_score": 0.4,
        "tp_errors": dict.fromkeys(ERRORS, 0.125),
        "label_tp_errors": {
            "car": dict.fromkeys(ERRORS, 0.1),
            "traffic_cone": dict.fromkeys(ERRORS, 0.2) | {"orient_err": None, "vel_err": math.nan},
        },
        "frames": 81,
    }
    found = lines(metrics)
    assert found["nuScenes:"] == ["mAP", "37.5", "%,", "NDS", "40.0", "%"]
    assert found["car"] == ["50.0", *["0.100"] * 5]
    assert found["traffic_cone"] == ["25.0", "0.200", "0.200", "-", "-", "0.200"]
    assert found["mean"][0] == "37.5"
    assert found["81"] == ["frames"]
    assert {"m", "rad", "m/s", "%"} <= set(shown(metrics).split())


def test_kitti() -> None:
    levels = {level: {"R11": 10.0 * i, "R40": 20.0 * i} for i, level in enumerate(DIFFICULTIES, 1)}
    nothing = {level: {"R11": None, "R40": None} for level in DIFFICULTIES}
    metrics = {name: {"2d": levels, "bev": levels, "3d": levels, "aos": nothing} for name in (*CLASSES, "mean")}
    text = shown(metrics).splitlines()
    (row,) = [line.split() for line in text if line.split()[:2] == ["Cyclist", "3D"]]
    assert row[2:] == ["20.0", "40.0", "60.0", "10.0", "20.0", "30.0"]
    (row,) = [line.split() for line in text if line.split()[:2] == ["mean", "AOS"]]
    assert row[2:] == ["-"] * 6


def test_waymo() -> None:
    cells = {
        f"OBJECT_TYPE_TYPE_{name}_LEVEL_{level}": {"ap": level / 4, "aph": 0.1} for name in TYPES for level in (1, 2)
    }
    assert lines(cells)["pedestrian"] == ["25.0", "10.0", "50.0", "10.0"]
    let = {key: cell | {"apl": 0.05} for key, cell in cells.items()}
    both = shown(cells | {"LET": let, "frames": 3})
    assert both.count("cyclist") == 2
    assert "L2 APL" in both
    assert shown({"border_ratio": 0.1}) == ""
