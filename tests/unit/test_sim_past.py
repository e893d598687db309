"""Earlier images of the simulated data set: one set per keyframe, and nothing else that moves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_sim_files import TINY

from bevkd.sim import SCALES, simulate_nuscenes
from bevkd.sim import past as earlier
from bevkd.sim.config import SimConfig
from bevkd.sim.rig import CAMERAS

SMALL = replace(TINY, camera=replace(TINY.camera, sweeps=0))


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def table(files: dict[str, bytes], name: str) -> dict[str, dict[str, Any]]:
    rows = json.loads(files[f"v1.0-sim/{name}.json"])
    return {row["token"]: row for row in rows}


@pytest.fixture(scope="module", params=[0, 1], ids=["alone", "beside sweeps"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], ...]:
    """Files of a data set without earlier images, and of the same with them."""
    config = replace(SMALL, camera=replace(SMALL.camera, sweeps=request.param))
    folder = tmp_path_factory.mktemp("past")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earlier, "periods_back", lambda config: 0)
        simulate_nuscenes(config, folder / "without", seed=3)
    simulate_nuscenes(config, folder / "with", seed=3)
    return files_of(folder / "without"), files_of(folder / "with")


def test_no_other_byte_changes(pair: tuple[dict[str, bytes], ...]) -> None:
    without, given = pair
    changed = {name for name, content in without.items() if given.get(name) != content}
    assert changed == {"v1.0-sim/sample_data.json", "v1.0-sim/ego_pose.json"}
    new = given.keys() - without.keys()
    assert len(new) == 7 * 2 * 6
    assert {name.rsplit("/", 1)[0] for name in new} == {f"sweeps/{channel}" for channel in CAMERAS}
    poses, more = table(without, "ego_pose"), table(given, "ego_pose")
    assert poses.items() <= more.items()
    rows, more = table(without, "sample_data"), table(given, "sample_data")
    assert len(more) - len(rows) == len(new)
    for token, row in rows.items():
        camera = "/CAM_" in row["filename"]
        links = ("prev", "next") if camera else ()  # the one exception: the order of time holds the new records, too
        assert {k: v for k, v in row.items() if k not in links} == {
            k: v for k, v in more[token].items() if k not in links
        }
    order = [json.loads(files["v1.0-sim/sample_data.json"]) for files in pair]
    assert [row["token"] for row in order[0]] == [row["token"] for row in order[1] if row["token"] in rows]


def test_records_are_linked_in_the_order_of_time(pair: tuple[dict[str, bytes], ...]) -> None:
    records = table(pair[1], "sample_data")
    for channel in CAMERAS:
        mine = [row for row in records.values() if f"/{channel}/" in row["filename"]]
        walked = 0
        for first in (row for row in mine if not row["prev"]):
            while first["next"]:
                after = records[first["next"]]
                assert after["prev"] == first["token"]
                assert after["timestamp"] > first["timestamp"]
                first, walked = after, walked + 1
        assert walked == len(mine) - 7  # scenes
        key = [row for row in mine if row["is_key_frame"]]
        for row in key:
            times = [r["timestamp"] for r in mine if r["sample_token"] == row["sample_token"] and r is not row]
            assert abs(row["timestamp"] - min(times) - 5e6 / 12) <= 1_600


@pytest.mark.parametrize(
    ("config", "periods"),
    [
        (SCALES["smoke"], 5),
        (SCALES["sim"], 5),
        (SCALES["paper"], 0),  # its sweeps hold them
        (replace(SMALL, splits=replace(SMALL.splits, keyframe_hz=4.0)), 2),
        (replace(SMALL, splits=replace(SMALL.splits, keyframe_hz=12.0)), 0),
        (replace(SMALL, splits=replace(SMALL.splits, keyframe_hz=10.0)), 1),
    ],
)
def test_they_lie_between_two_keyframes(config: SimConfig, periods: int) -> None:
    assert earlier.periods_back(config) == periods
    assert periods / config.camera.rate_hz < 1 / config.splits.keyframe_hz
