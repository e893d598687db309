"""Maps of nuScenes: which places are road."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bevkd.data.index import FrameIndex
from bevkd.data.nuscenes import maps
from bevkd.data.nuscenes.maps import METRES_PER_PIXEL, NoMapError, RoadMaps, RoadMask
from bevkd.errors import DataError
from bevkd.registry import lookup


def draw(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_rows_run_down_from_the_north_and_nothing_lies_beyond(tmp_path: Path) -> None:
    pixels = np.zeros((30, 50))  # 3 m to the north, 5 m to the east
    pixels[0:10, 0:7] = 255  # the north-west corner: y from 2 to 3 m, x from 0 to 0.7 m
    pixels[29, 49] = 225  # one pixel in the south-east, of the least value that counts
    pixels[15, 20] = 224
    mask = RoadMask(draw(tmp_path / "m.png", pixels))
    places = {(0.05, 2.95): 1, (0.69, 2.01): 1, (0.71, 2.5): 0, (0.35, 1.99): 0, (4.95, 0.05): 1, (2.05, 1.45): 0}
    places |= {(-0.01, 2.5): 0, (0.05, 3.01): 0, (5.01, 0.05): 0, (4.95, -0.01): 0, (1e12, -1e12): 0}
    found = mask.holds(np.array([*places]))
    assert dict(zip(places, found.tolist(), strict=True)) == {at: bool(road) for at, road in places.items()}
    assert mask.holds(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize("strip", [1, 7, 2_048])
def test_every_pixel_comes_back_whatever_is_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strip: int
) -> None:
    monkeypatch.setattr(maps, "_STRIP", strip)
    road = np.random.default_rng(0).random((23, 37)) < 0.5
    mask = RoadMask(draw(tmp_path / "m.png", 255 * road))
    column, row = np.meshgrid(np.arange(37), np.arange(23))
    xy = np.stack([column + 0.5, 23 - row - 0.5], axis=-1).reshape(-1, 2) * METRES_PER_PIXEL
    assert np.array_equal(mask.holds(xy).reshape(23, 37), road)


def test_maps_larger_than_any_image_are_read_up_to_a_limit_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = draw(tmp_path / "m.png", np.full((40, 40), 255))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses more than twice as many
    assert RoadMask(path).holds(np.array([[1.0, 1.0]])).all()
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(maps, "PIXELS", 1_599)
    with pytest.raises(DataError, match=r"40 x 40 pixels are more than 1599.*m\.png"):
        RoadMask(path)


def tables(root: Path, records: Any, locations: tuple[str, ...] = ("here", "there")) -> Path:
    (root / "v").mkdir(parents=True)
    logs = [{"token": f"log-{name}", "location": name} for name in locations]
    (root / "v" / "log.json").write_text(json.dumps(logs))
    (root / "v" / "map.json").write_text(json.dumps(records))
    return root


def record(**changes: Any) -> dict[str, Any]:
    logs = ["log-elsewhere", "log-here"]  # of a version that has a part of the logs
    return {"token": "a", "category": "semantic_prior", "filename": "maps/a.png", "log_tokens": logs} | changes


def test_a_location_finds_its_map_by_its_logs(tmp_path: Path) -> None:
    root = tables(tmp_path, [record(), record(token="b", category="other", log_tokens=["log-there"])])
    draw(root / "maps" / "a.png", np.full((10, 10), 255))
    found = RoadMaps(root, "v")
    assert found.at("here") is found.at("here")
    with pytest.raises(NoMapError, match="no map of location 'there'"):
        found.at("there")
    (root / "maps" / "a.png").unlink()
    with pytest.raises(NoMapError, match=r"map is missing.*a\.png.*token=a"):
        RoadMaps(root, "v").at("here")
    (root / "v" / "map.json").unlink()
    with pytest.raises(NoMapError, match="no table of maps"):
        RoadMaps(root, "v")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filename": None}, "field=filename"),
        ({"token": 5}, "field=token"),
        ({"category": ["semantic_prior"]}, "field=category"),
        ({"log_tokens": "log-here"}, "no list of tokens.*token=a, field=log_tokens"),
        ({"log_tokens": [["log-here"]]}, "no list of tokens"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        RoadMaps(tables(tmp_path, [record(**changes)]), "v")
    assert not isinstance(error.value, NoMapError)


def test_bad_pictures_are_errors_and_no_missing_maps(tmp_path: Path) -> None:
    root = tables(tmp_path / "data", [record(), record(token="b", filename="../b.png", log_tokens=["log-there"])])
    (root / "maps").mkdir()
    (root / "maps" / "a.png").write_bytes(b"no picture")
    draw(tmp_path / "b.png", np.full((10, 10), 255))
    for location in ("here", "there"):
        with pytest.raises(DataError) as error:
            RoadMaps(root, "v").at(location)
        assert not isinstance(error.value, NoMapError)


def test_simulated_vehicles_are_on_roads(smoke_dataset: Any) -> None:
    """A mask that is shifted, mirrored or transposed would not hold them."""
    index = FrameIndex.open(smoke_dataset.index, "train+tune+val")
    roads = lookup("reader", "nuscenes").roads(smoke_dataset.root, smoke_dataset.version)
    held, mirrored = [], []
    for i in range(len(index)):
        part = slice(index.boxes.start[i], index.boxes.start[i + 1])
        moves = np.hypot(*np.nan_to_num(index.boxes.boxes[part, 7:9]).T) > 2.0
        pose, mask = index.global_from_ego[i], roads.at(index.columns["location"][i])
        boxes = index.boxes.boxes[part][moves]
        for out, xy in ((held, boxes[:, :2]), (mirrored, boxes[:, :2] * [1, -1] + [0, 25.0])):
            out += mask.holds(xy @ pose[:2, :2].T + pose[:2, 3]).tolist()
    assert len(held) > 20
    assert np.mean(held) > 0.97
    assert np.mean(mirrored) < 0.8
