"""Figures of a detector with two branches: top view, maps of the branches, where its compensation looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from train_case import folder, tiny_model, tiny_run

from bevkd.config import ModelConfig
from bevkd.errors import ConfigError
from bevkd.models.camera.compensation.attention_settings import AttentionSettings
from bevkd.models.camera.lss_simulated_settings import SimulatedLSSSettings
from bevkd.report import lifted
from bevkd.report.figure_kinds import BranchMaps, CurveSpec, MapSpec, SamplingOffsets, TopView
from bevkd.report.figures import draw, write
from bevkd.report.runs import Runs
from bevkd.report.scenes import SceneReader, look_at_frames
from bevkd.report.style import TRUTH
from bevkd.train import train

MAPS = (MapSpec("camera", "camera"), MapSpec("LiDAR", ("simulated", "lidar")), MapSpec("fused", "low"))


def two_branches() -> ModelConfig:
    """A tiny student with a compensation module in the BEV map."""
    model = tiny_model("camera")
    plain = {name: value for name, value in vars(model.camera).items() if name != "kind" and not name.startswith("__")}
    camera = SimulatedLSSSettings(**plain, gcm_bev=AttentionSettings(heads=4, points=5, table=(32, 32)))
    return replace(model, camera=camera)


@pytest.fixture(scope="module")
def trained(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A student of two branches, a fusion teacher and a camera detector."""
    root = tmp_path_factory.mktemp("branches")
    runs = [
        tiny_run(smoke_dataset, "camera_base", model=two_branches(), steps=40),
        tiny_run(smoke_dataset, "fusion_base", model=tiny_model("lidar", "camera"), steps=40),
        tiny_run(smoke_dataset, "camera_further", model=tiny_model("camera"), steps=3),
    ]
    for run in runs:
        train(run, folder(root, run))
    return Runs(root / "results/runs", runs[0].scale, {run.run: run.row for run in runs})


def named(name: str) -> dict[str, str]:
    return {"name": name, "title": "", "caption": ""}


def top(run: str = "fusion_base", **options: Any) -> TopView:
    return TopView(**named("top"), kind="top_view", detector=CurveSpec("SimDistill", run), **options)


def branches(*runs: str, maps: tuple[MapSpec, ...] = MAPS) -> BranchMaps:
    columns = tuple(CurveSpec(run.replace("_", " "), run) for run in runs)
    return BranchMaps(**named("maps"), kind="branch_maps", columns=columns, maps=maps)


def sampling(run: str = "camera_base", **options: Any) -> SamplingOffsets:
    return SamplingOffsets(**named("sampling"), kind="sampling_offsets", detector=CurveSpec("x", run), **options)


def reader_of(runs: Runs, run: str) -> SceneReader:
    config = runs.config(run)
    return SceneReader(config.data, config.model.grid.area)


def test_top_view_shows_the_fullest_frames(trained: Runs) -> None:
    figure = draw(top(frames=2, min_score=None), trained)
    reader = reader_of(trained, "fusion_base")
    scenes = [reader.scene(token) for token in reader.fullest("val", 2)]
    assert len(figure.axes) == len(scenes) == 2
    assert to_hex(figure.get_facecolor()) == "#000000"
    for axes, scene in zip(figure.axes, scenes, strict=True):
        assert to_hex(axes.get_facecolor()) == "#000000"
        (points,) = (one for one in axes.collections if hasattr(one, "get_offsets") and len(one.get_offsets()) > 50)
        assert to_hex(points.get_facecolor()[0]) == "#ffffff"
        boxes = [one for one in axes.collections if hasattr(one, "get_segments")]
        truth = next(one for one in boxes if to_rgb(one.get_edgecolor()[0])[0] == 1.0)
        found = next(one for one in boxes if to_rgb(one.get_edgecolor()[0])[0] == 0.0)
        assert len(truth.get_segments()) == len(scene.boxes)
        assert len(found.get_segments()) <= len(scene.boxes)
        assert f"{scene.name}: {len(found.get_segments())} detection" in axes.get_title()
        # Forward, ego x, is up: the first corners of the outlines, from their own centres.
        centres = np.array([np.mean(one[:-1], axis=0) for one in truth.get_segments()])
        assert np.allclose(centres, np.stack([-scene.boxes[:, 1], scene.boxes[:, 0]], axis=-1), atol=1e-5)


def test_top_view_leaves_out_what_is_not_sure(trained: Runs) -> None:
    for axes in draw(top(frames=2, min_score=1.0), trained).axes:
        assert ": 0 detections" in axes.get_title()


def test_branch_maps_have_a_row_for_each_detector(trained: Runs) -> None:
    figure = draw(branches("camera_base", "fusion_base"), trained)
    shown = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    assert len(shown) == 6
    assert [axes.get_title() for axes in shown[:3]] == ["camera", "LiDAR", "fused"]
    assert [shown[0].get_ylabel(), shown[3].get_ylabel()] == ["camera base\nforward (m)", "fusion base\nforward (m)"]
    reader = reader_of(trained, "camera_base")
    (token,) = reader.fullest("val", 1)
    scene = reader.scene(token)
    for row, (run, names) in enumerate(
        {"camera_base": ("camera", "simulated", "low"), "fusion_base": ("camera", "lidar", "low")}.items()
    ):
        ((_, outputs),) = look_at_frames(trained, run, 0, [("val", token)])
        for axes, name in zip(shown[3 * row : 3 * row + 3], names, strict=True):
            values = outputs.feature(name)[0].double().abs().mean(0).numpy()
            assert np.allclose(axes.images[0].get_array(), values.T[:, ::-1])
            assert np.allclose(axes.images[0].get_clim(), np.percentile(values, [1, 99]))
            assert axes.images[0].get_cmap().name == "viridis"
            assert sum(to_hex(patch.get_edgecolor()) == TRUTH.lower() for patch in axes.patches) == len(scene.boxes)


def test_branch_maps_that_a_network_has_not_are_named(trained: Runs) -> None:
    with pytest.raises(ConfigError, match=r"'maps': run 'camera_further' has no map 'simulated' or 'lidar'"):
        draw(branches("camera_base", "camera_further"), trained)
    with pytest.raises(ConfigError, match=r"has no map 'depth'"):  # a feature, but no BEV map
        draw(branches("camera_base", maps=(MapSpec("d", "depth"),)), trained)


def test_the_object_is_the_one_most_outside_of_its_box(trained: Runs) -> None:
    spec = sampling(frames=2, half=8.0)
    reader = reader_of(trained, "camera_base")
    scenes = [reader.scene(token) for token in reader.fullest("val", 2)]
    chosen = lifted.choose(spec, trained, "camera_base", scenes)
    assert chosen is not None
    ratios = []
    for scene, (detector, outputs) in zip(
        scenes, look_at_frames(trained, "camera_base", 0, [(s.split, s.token) for s in scenes]), strict=True
    ):
        energy = outputs.feature("simulated.raw")[0].double().square().sum(0).numpy()
        ratios.append(lifted.outside_over_inside(energy, scene.boxes, detector.grid, 8.0, least_cells=4))
    assert chosen.ratio == max(one.max() for one in ratios)
    assert ratios[chosen.frame][chosen.box] == chosen.ratio
    # Where the module says that the cell looks, in metres.
    ((detector, outputs),) = look_at_frames(trained, "camera_base", 0, [("val", scenes[chosen.frame].token)])
    module = detector.encoders["camera"].gcm_bev  # type: ignore[union-attr]
    places, weights = module.sampling(outputs.feature("simulated.raw"))
    ix, iy = chosen.cell
    grid = detector.grid
    x, y = scenes[chosen.frame].boxes[chosen.box, :2]
    assert (ix, iy) == (int((x - grid.x_min) // grid.cell), int((y - grid.y_min) // grid.cell))
    own = places[0, iy * grid.W + ix].reshape(-1, 2).detach().numpy()
    assert np.allclose(chosen.places, [grid.x_min, grid.y_min] + (own + 0.5) * np.array(grid.cell), atol=1e-4)
    assert np.allclose(chosen.weights, weights[0, iy * grid.W + ix].flatten().detach().numpy())
    assert chosen.weights.sum() == pytest.approx(4)  # heads
    assert np.allclose(chosen.places.mean(0), [x, y], atol=3 * grid.cell)


def test_sampling_places_are_drawn(trained: Runs, tmp_path: Path) -> None:
    spec = sampling(frames=2, half=8.0)
    figure = draw(spec, trained)
    whole, before, after = (axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>")
    assert before.images[0].get_clim() == after.images[0].get_clim() != whole.images[0].get_clim()
    assert (*whole.get_xlim(), *whole.get_ylim()) == tuple(whole.images[0].get_extent())
    (dots,) = before.collections
    assert len(dots.get_offsets()) == 4 * 5
    assert not after.collections
    left, right = before.get_xlim()
    assert right - left == pytest.approx(16)
    extent = before.images[0].get_extent()
    assert extent[0] <= left < right <= extent[1]
    assert not np.array_equal(before.images[0].get_array(), after.images[0].get_array())
    first, again = write(spec, trained, tmp_path), write(spec, trained, tmp_path)
    assert [path.suffix for path in first] == [".png", ".pdf"]
    assert first[0].read_bytes() == again[0].read_bytes()


def test_networks_that_do_not_compensate_are_named(trained: Runs) -> None:
    with pytest.raises(ConfigError, match="run 'fusion_base': its network compensates no BEV map"):
        draw(sampling("fusion_base"), trained)
