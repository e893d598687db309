from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bevkd.config import DataConfig
from bevkd.errors import DataError
from bevkd.geometry import Area, points_in_boxes
from bevkd.report import maps
from bevkd.report.figure_kinds import CurveSpec, ResponseMaps
from bevkd.report.scenes import CAMERA_ORDER, CameraView, Prediction, SceneReader

# Camera looking along ego x: camera x = -ego y, camera y = -ego z, camera z = ego x.
AHEAD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
VIEW = CameraView(
    "CAM_FRONT", np.zeros((60, 100, 3), np.uint8), AHEAD, np.array([[100.0, 0, 50], [0, 100, 30], [0, 0, 1]])
)


def box(x: float, y: float, z: float, length: float = 2.0) -> np.ndarray:
    return np.array([[x, y, z, length, 2.0, 2.0, 0.0, 0.0, 0.0]])


def test_projection_by_hand():
    lines = np.array(VIEW.lines(box(10, 0, 0)))
    assert lines.shape == (12, 2, 2)
    # The near face lies 9 m ahead: half a size of 1 m is 100 / 9 pixels around (50, 30).
    assert lines[..., 0].max() == pytest.approx(50 + 100 / 9)
    assert lines[..., 1].min() == pytest.approx(30 - 100 / 9)
    left = np.array(VIEW.lines(box(10, 4, 0)))
    assert left[..., 0].max() < 50, "left of the vehicle is left in the image"
    up = np.array(VIEW.lines(box(10, 0, 3)))
    assert up[..., 1].max() < 30, "above the camera is above in the image"


def test_boxes_behind_and_through_the_camera():
    assert VIEW.lines(box(-10, 0, 0)) == []
    assert VIEW.lines(np.zeros((0, 9))) == []
    cut = np.array(VIEW.lines(box(1, 0, 0, length=6)))  # from 2 m behind to 4 m ahead
    assert len(cut) == 8  # the rear face is gone, the four long edges are cut
    assert np.isfinite(cut).all()
    assert cut[..., 0].max() == pytest.approx(50 + 100 / 0.3)


@pytest.fixture(scope="module")
def reader(smoke_dataset) -> SceneReader:
    data = DataConfig(root=str(smoke_dataset.root), version=smoke_dataset.version, index=str(smoke_dataset.index))
    return SceneReader(data, Area(-25.6, 25.6, -25.6, 25.6))


def test_scenes_are_the_fullest_of_different_scenes(reader: SceneReader):
    tokens = reader.fullest("val", 3)
    scenes = [reader.scene(token) for token in tokens]
    assert len({s.name for s in scenes}) == len(tokens) >= 2
    assert {s.split for s in scenes} == {"val"}
    counts = [len(s.boxes) for s in scenes]
    assert counts == sorted(counts, reverse=True)
    every = [
        len(reader.scene(t).boxes)
        for t, s in zip(reader.index.columns["token"], reader.index.columns["split"], strict=True)
        if s == "val"
    ]
    assert counts[0] == max(every)
    assert tokens == reader.fullest("val", 3)


def test_points_fall_into_the_boxes_and_boxes_into_the_images(reader: SceneReader):
    scene = reader.scene(reader.fullest("val", 1)[0])
    assert scene.points is not None
    hit = points_in_boxes(scene.points, scene.boxes, margin=0.1).any(axis=1)
    assert hit.mean() > 0.7
    assert [view.channel for view in scene.cameras] == list(CAMERA_ORDER)
    assert all(view.image.shape == (64, 176, 3) for view in scene.cameras)
    # Six cameras look all around: nearly every box is inside some image.
    seen = 0
    for b in scene.boxes:
        for view in scene.cameras:
            centre = view.camera_from_ego[:3, :3] @ b[:3] + view.camera_from_ego[:3, 3]
            pixel = view.intrinsics @ centre
            inside = centre[2] > 0 and 0 <= pixel[0] / pixel[2] < 2 * view.intrinsics[0, 2]
            if inside:
                seen += 1
                break
    assert seen >= 0.9 * len(scene.boxes)


def test_unknown_frame_names_the_nearest(reader: SceneReader):
    token = reader.fullest("val", 1)[0]
    with pytest.raises(DataError, match=f"did you mean '{token}'"):
        reader.scene(token[:-1] + "x")


def test_a_process_may_end_right_after_reading_the_index(smoke_dataset):
    """Arrow threads that still held NumPy memory used to abort about every third such process."""
    code = f"from bevkd.data.index import FrameIndex; FrameIndex.open({str(smoke_dataset.index)!r}, 'train+val')"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(6)]
    ends = [(process.communicate()[1], process.returncode) for process in started]
    assert ends == [(b"", 0)] * 6


def test_the_maps_of_a_scene_share_one_colour_scale(monkeypatch: pytest.MonkeyPatch):
    """Detectors in a row can be compared by colour, however different their responses are; scenes have their own."""
    level = {"teacher": 1.0, "student": 10.0}
    place = (-2.0, 2.0, -2.0, 2.0)
    scenes = {token: SimpleNamespace(name=token, split="val", token=token, boxes=box(0, 0, 0)) for token in "ab"}

    class Reader:
        def __init__(self, data: object, area: object) -> None:
            self.scene = scenes.__getitem__

        def fullest(self, split: str, count: int) -> list[str]:
            return [*scenes][:count]

    def predicted(runs: object, run: str, seed: int, frames: list[tuple[str, str]]) -> list[Prediction]:
        rng, none = np.random.default_rng(0), np.zeros(0)
        maps = [level[run] * (1 + i) * rng.random((4, 4)) for i in range(len(frames))]
        return [Prediction(np.zeros((0, 9)), none.astype(int), none, response, place) for response in maps]

    monkeypatch.setattr(maps, "SceneReader", Reader)
    monkeypatch.setattr(maps, "predict_frames", predicted)
    grid = SimpleNamespace(area=None)
    config = SimpleNamespace(data=SimpleNamespace(report_split="val"), model=SimpleNamespace(grid=grid))
    runs: Any = SimpleNamespace(config=lambda run: config, row=lambda run: SimpleNamespace(seeds=(0,)))
    columns = tuple(CurveSpec(name, name) for name in level)
    figure = maps.response_maps(ResponseMaps("f", "", "", kind="response_maps", columns=columns, frames=2), runs)
    scales = [axes.images[0].get_clim() for axes in figure.axes if axes.images and not axes.get_label()]
    assert len(scales) == 4
    assert scales[0] == scales[1]
    assert scales[2] == scales[3]
    assert scales[0] != scales[2]
    assert scales[0][1] > 5, "the scale holds the strongest map of the row"
