"""The Python API: the same detections from plain arrays as from the files of a data set, and the same metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_case import folder, tiny_model, tiny_run

import bevkd
from bevkd.api.frame import PlainFrame
from bevkd.classes import LABELS
from bevkd.config import ModelConfig, RunConfig
from bevkd.data import FrameDataset
from bevkd.data.kitti import convert_kitti
from bevkd.data.load import FrameLoader
from bevkd.data.reads import Lidar, reads_of
from bevkd.data.waymo import convert_waymo
from bevkd.errors import CheckpointError, ConfigError, DataError
from bevkd.eval.nuscenes import DetectionConfig, evaluate_files
from bevkd.io import read_json
from bevkd.sim import WRITERS
from bevkd.train import evaluate_run, train
from bevkd.train.predict import detect
from bevkd.train.predict import test_frames as frames_of
from bevkd.train.submissions.waymo import arrays as waymo_arrays


def lidar_image_model() -> ModelConfig:
    """A camera network that sees LiDAR depths in place of colours."""
    model = tiny_model("camera")
    return replace(model, camera=replace(model.camera, input="lidar"))


MODELS = {
    "lidar": lambda: tiny_model("lidar"),
    "camera": lambda: tiny_model("camera"),
    "fusion": lambda: tiny_model("lidar", "camera"),
}


@pytest.fixture(scope="module", params=MODELS)
def trained(request: Any, smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A run of two earlier sweeps, every second one, and its folder."""
    data = {"lidar_sweeps": 2, "lidar_sweep_stride": 2}
    run = tiny_run(smoke_dataset, request.param, model=MODELS[request.param](), data=data)
    out = folder(tmp_path_factory.mktemp("api"), run)
    train(run, out)
    return run, out


def frame_arrays(frames: FrameDataset, i: int) -> dict[str, Any]:
    """What a user would read of frame `i`, straight from files and tables: sweeps in their sensor's frame, images."""
    loader: FrameLoader = frames._loader
    sensors, frame = loader.index.sensors, int(frames._frames[i])
    calibration: dict[str, Any] = {}
    out: dict[str, Any] = {"calibration": calibration}
    lidar = frames.reads.get(Lidar)
    if lidar is not None:
        at = loader.records(frame, "lidar")[:1]
        earlier = loader.index.lidar_sweeps[frame][lidar.stride - 1 :: lidar.stride]
        at += [sensors.position[row] for row in earlier[: lidar.sweeps]]
        out["points"] = [loader.files.lidar(sensors.filename[k], "") for k in at]
        out["ages"] = loader.ages(frame, at)
        calibration["ego_from_lidar"] = loader.ego_from_sensor(frame, at)
    at = loader.records(frame, "camera")
    if at:
        if "camera" in frames.reads.names:
            out["images"] = np.stack([np.asarray(loader.files.image(sensors.filename[k], "")) for k in at])
        calibration["intrinsics"] = sensors.intrinsics[at]
        calibration["ego_from_camera"] = loader.ego_from_sensor(frame, at)
        calibration["image_size"] = sensors.size[at]
    return out


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The last bits of sums depend on how work is shared among threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_model_finds_in_arrays_what_it_finds_in_files(trained: tuple[RunConfig, Path]) -> None:
    run, out = trained
    model = bevkd.load(out, device="cpu")
    assert (model.run.run, model.sensors[-1]) == (run.run, "camera" if run.run == "fusion" else run.run)
    assert (model.sweeps, model.sweep_stride) == ((0, 1) if run.run == "camera" else (2, 2))
    assert model.classes == tuple(name for task in run.model.head.tasks for name in task)
    frames = frames_of(run, "val")
    expected = detect(model._detector, frames, batch_size=1)
    evaluate_run(out, "val")
    submission = read_json(out / "predictions_val.json")["results"]
    total = 0
    for i, token in enumerate(frames.tokens):
        found = model.predict(**frame_arrays(frames, i))
        np.testing.assert_array_equal(found.boxes, expected[token].boxes.numpy())
        np.testing.assert_array_equal(found.scores, expected[token].scores.numpy())
        np.testing.assert_array_equal(found.labels, expected[token].labels.numpy())
        _equals_submission(found, submission[token], frames.global_from_ego[i])
        total += len(found)
    assert total > 20


def _equals_submission(found: bevkd.Detections, boxes: list[dict[str, Any]], global_from_ego: Any) -> None:
    """In the batches of `bevkd predict` last bits differ, and with them the order of equals."""
    assert sorted(found.names) == sorted(box["detection_name"] for box in boxes)
    np.testing.assert_allclose(
        sorted(found.scores), sorted(box["detection_score"] for box in boxes), rtol=1e-4, atol=1e-6
    )
    place = found.boxes[:, :3].astype(np.float64) @ global_from_ego[:3, :3].T + global_from_ego[:3, 3]
    others = np.array([box["translation"] for box in boxes]).reshape(-1, 3)
    for name, point in zip(found.names, place, strict=True):
        same = np.array([box["detection_name"] == name for box in boxes])
        assert np.linalg.norm(others[same] - point, axis=1).min() < 1e-3


@pytest.mark.parametrize("trained", ["lidar"], indirect=True)
def test_merged_points_and_the_ego_frame(trained: tuple[RunConfig, Path]) -> None:
    """Sweeps may come merged, with ages in a fifth column; and a missing one is the last one again."""
    run, out = trained
    model, frames = bevkd.load(out / "model.pt", device="cpu"), frames_of(run, "val")
    whole = frame_arrays(frames, 2)
    merged = frames._load(2).points
    assert merged is not None
    assert {0.0} < set(merged[:, 4].tolist())
    first = model.predict(**whole)
    np.testing.assert_array_equal(first.boxes, model.predict(merged).boxes)
    pose, alone = whole["calibration"]["ego_from_lidar"][0], whole["points"][0][:, :4]
    one = model.predict(alone, calibration={"ego_from_lidar": pose})
    repeated = np.tile(alone, (3, 1)), [0.0, 0.0, 0.0]
    again = model.predict(list(np.split(repeated[0], 3)), ages=repeated[1], calibration={"ego_from_lidar": [pose] * 3})
    np.testing.assert_array_equal(one.boxes, again.boxes)
    assert model.predict(np.zeros((0, 4))).boxes.shape[1] == 9
    assert len(first.above(float(np.median(first.scores)))) < len(first)


@pytest.mark.parametrize("trained", ["fusion"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": None}, "reads points, and none are given"),
        ({"images": None}, "reads images, and none are given"),
        ({"points": np.zeros((5, 3))}, r"points: wants shape \(N, 4\)"),
        ({"points": np.full((5, 4), np.nan)}, "not finite"),
        ({"points": np.tile(np.arange(32.0)[:, None], (1, 5)), "ages": None}, "if it is a ring number"),
        ({"points": np.zeros((5, 5))}, "ages belong to a list of sweeps"),
        ({"points": [np.zeros((5, 4))] * 4, "ages": [0, 0.1, 0.2, 0.3]}, "4 sweeps, this model reads .* 2 earlier"),
        ({"points": []}, "an empty list of sweeps"),
        ({"ages": None}, "3 sweeps want as many ages"),
        ({"ages": [0.1, 0.0, 0.2]}, "newest first"),
        ({"ages": [0.0, 0.1]}, r"ages: wants shape \(3,\)"),
        ({"images": np.zeros((6, 9, 16, 3))}, r"images\[0\]: wants RGB bytes, uint8"),
        ({"images": 7}, "images: wants an array"),
        ({"images": []}, "images: none are given"),
        ({"images": np.zeros((6, 0, 16, 3), np.uint8)}, r"images\[0\]: wants RGB bytes"),
        ({"points": [[1.0, 2.0, 3.0, 4.0]]}, r"ages: wants shape \(1,\), got \(3,\)"),
        ({"points": [1.0, 2.0, 3.0, 4.0]}, r"points: wants shape \(N, 4\)"),
        ({"points": "x.bin"}, "points: wants numbers"),
        ({"points": np.ones((5, 4), complex)}, "points: wants numbers"),
        ({"points": np.ones((4, 50))}, r"got \(4, 50\): transpose it"),
        ({"points": np.ones((5, 6)), "ages": None}, r"wants \(N, 4\), or \(N, 5\) with the age"),
        ({"points": np.full((5, 4), 1e5), "ages": None}, "farther than any LiDAR sees"),
        ({"points": np.full((5, 4), 256.0), "ages": None}, "the format holds 0 to 255"),
        ({"calibration": [np.eye(4)]}, "calibration: wants a mapping .*, got list"),
        ({"images": np.zeros((90, 160, 3), np.uint8)}, r"one image: \[image\]"),
        ({"images": [np.zeros((3, 90, 160), np.uint8)] * 6}, "the channels come last"),
        ({"images": np.zeros((6, 256, 704, 3), np.uint8)}, "lies far from the middle of the image of 704 x 256"),
        ({"calibration.intrinsics": np.tile(np.diag([0.0, 0.0, 1.0]), (6, 1, 1))}, "focal lengths"),
        ({"calibration.ego_from_camera": np.tile(np.eye(4), (6, 1, 1))}, "y axes of the cameras do not point down"),
        ({"images": np.zeros((6, 3, 90, 160), np.uint8)}, r"images\[0\]: wants RGB bytes, uint8 \(H, W, 3\)"),
        ({"images": np.zeros((5, 90, 160, 3), np.uint8)}, r"intrinsics'\]: wants shape \(5, 3, 3\), got \(6, 3, 3\)"),
        ({"images": np.zeros((6, 20, 40, 3), np.uint8)}, "principal point .* lies outside of the image of 40 x 20"),
        ({"calibration": {"intrinsic": 1}}, "unknown key 'intrinsic' .*'intrinsics'"),
        ({"calibration": {}}, "calibration lacks 'intrinsics'"),
        ({"calibration.ego_from_camera": np.zeros((6, 4, 4))}, "of a rotation and a translation"),
        ({"calibration.ego_from_lidar": np.eye(4)}, r"wants shape \(3, 4, 4\)"),
        ({"calibration.intrinsics": np.full((6, 3, 3), "x")}, r"wants numbers of shape \(6, 3, 3\)"),
    ],
)
def test_arrays_that_cannot_be_say_why(trained: tuple[RunConfig, Path], change: dict[str, Any], message: str) -> None:
    run, out = trained
    frames = frames_of(run, "val")
    arrays = max((frame_arrays(frames, i) for i in range(len(frames))), key=lambda one: len(one["points"]))
    assert len(arrays["points"]) == 3
    for key, value in change.items():
        name, _, inner = key.partition(".")
        if inner:
            arrays[name] = arrays[name] | {inner: value}
        else:
            arrays[name] = value
    with pytest.raises(ConfigError, match=message):
        bevkd.load(out, device="cpu").predict(**arrays)


@pytest.mark.parametrize("trained", ["fusion"], indirect=True)
def test_numbers_come_in_any_form(trained: tuple[RunConfig, Path]) -> None:
    """Double precision, nested lists, tensors, also those that want a gradient; images as tensors or as pictures."""
    import torch
    from PIL import Image

    run, out = trained
    model, frames = bevkd.load(out, device="cpu"), frames_of(run, "val")
    arrays = max((frame_arrays(frames, i) for i in range(len(frames))), key=lambda one: len(one["points"]))
    pose, points = arrays["calibration"]["ego_from_lidar"][0], np.array(arrays["points"][0][:, :4])
    calibration = arrays["calibration"] | {"ego_from_lidar": pose}
    expected = model.predict(points, arrays["images"], calibration)
    for given in (
        points.astype(np.float64), points.tolist(), [points], points[None], torch.from_numpy(points).requires_grad_()
    ):  # fmt: skip
        np.testing.assert_array_equal(model.predict(given, arrays["images"], calibration).boxes, expected.boxes)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in calibration.items() if name != "image_size"}
    pictures = [Image.fromarray(one) for one in arrays["images"]]
    for images in (torch.from_numpy(arrays["images"]), list(torch.from_numpy(arrays["images"])), pictures):
        np.testing.assert_array_equal(model.predict(points, images, tensors).boxes, expected.boxes)


@pytest.mark.parametrize("trained", ["camera"], indirect=True)
def test_runs_are_found_by_name_and_by_path(trained: tuple[RunConfig, Path], tmp_path: Path) -> None:
    run, out = trained
    runs = out.parents[2]
    assert bevkd.load(run.run, scale="smoke", runs=runs).run.run == run.run
    with pytest.raises(CheckpointError, match="trained are: seed0"):
        (runs / "smoke" / "lidar_base").mkdir(exist_ok=True)
        (runs / "smoke" / "lidar_base" / "seed0").symlink_to(out)
        bevkd.load("lidar_base", scale="smoke", seed=1, runs=runs)
    with pytest.raises(CheckpointError, match=r"train it with `bevkd train --run camera_base --scale smoke --runs "):
        bevkd.load("camera_base", scale="smoke", runs=runs)
    with pytest.raises(ConfigError, match="did you mean 'camera_base'"):
        bevkd.load("camera_bose", runs=runs)
    for path in (tmp_path, "some/where", "model.pt", tmp_path / "model.pt"):
        with pytest.raises(CheckpointError, match="no trained model at"):
            bevkd.load(path)
    for content in ("nothing", "abc", ""):
        (tmp_path / "model.pt").write_text(content)
        with pytest.raises(CheckpointError, match=r"cannot be read as a model: (?!.*weights_only)"):
            bevkd.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is one in .*seed0"):
        bevkd.load(out.parent)
    with pytest.raises(ConfigError, match="did you mean 'smoke'"):
        bevkd.load(run.run, scale="smoek", runs=runs)
    with pytest.raises(ConfigError, match="device 'gpu'"):
        bevkd.load(out, device="gpu")
    with pytest.raises(ConfigError, match="wants the id of a run, or a path, not int"):
        bevkd.load(7)  # type: ignore[arg-type]
    (runs / "smoke" / "lidar_base" / "seed0").unlink()


def test_points_that_depths_are_made_of(smoke_dataset: Any) -> None:
    """A network that sees LiDAR as images, and one that reads what cameras see: as the readers of files give it."""
    run = tiny_run(smoke_dataset, model=lidar_image_model(), data={"lidar_in_view": True})
    both = reads_of(tiny_model("lidar"), run.data) | reads_of(run.model, run.data).without_targets()
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0, reads=both)
    expected, arrays = frames.get(3, 0), frame_arrays(frames, 3)
    arrays["calibration"].pop("image_size")
    sample = PlainFrame(both, **{"ages": None} | arrays).sample(run.model.grid.area)
    np.testing.assert_array_equal(sample.points, expected.points)
    assert sample.cameras is not None
    assert expected.cameras is not None
    for name in ("images", "image_aug", "intrinsics", "ego_from_camera", "lidar"):
        np.testing.assert_array_equal(getattr(sample.cameras, name), getattr(expected.cameras, name))
    only = reads_of(tiny_model("lidar"), run.data)
    frames = FrameDataset(run.data, tiny_model("lidar"), "val", train=False, seed=0)
    arrays = frame_arrays(frames, 3)
    sample = PlainFrame(only, images=None, **arrays).sample(run.model.grid.area)
    np.testing.assert_array_equal(sample.points, frames.get(3, 0).points)
    del arrays["calibration"]["image_size"]
    with pytest.raises(ConfigError, match="wants 'image_size'"):
        PlainFrame(only, images=None, **arrays)


def truth_of(frames: FrameDataset, i: int) -> dict[str, Any]:
    table, rows = frames.index.boxes, frames._all_rows(i)
    rows = rows[table.labels[rows] >= 0]
    names = [LABELS[label] for label in table.labels[rows]]
    return {"boxes": table.boxes[rows], "names": names, "num_points": table.points[rows]}


@pytest.mark.parametrize("trained", ["lidar"], indirect=True)
def test_nuscenes_from_files_and_from_arrays(trained: tuple[RunConfig, Path], tmp_path: Path) -> None:
    run, out = trained
    evaluate_run(out, "val")
    submission, data = out / "predictions_val.json", run.data
    expected = evaluate_files(data.root, data.version, "val", submission, tmp_path / "m.json", DetectionConfig())
    place = {"root": data.root, "version": data.version, "split": "val"}
    files = bevkd.evaluate("nuscenes", submission, out=tmp_path / "again.json", **place)
    assert files["mean_ap"] == expected.mean_ap > 0
    assert read_json(tmp_path / "again.json")["nd_score"] == files["nd_score"]
    assert bevkd.evaluate("nuscenes", str(submission), max_range=10.0, **place)["cfg"]["class_range"]["car"] == 10.0

    model, frames = bevkd.load(out, device="cpu"), frames_of(run, "val")
    found = {token: model.predict(**frame_arrays(frames, i)) for i, token in enumerate(frames.tokens)}
    truth = {token: truth_of(frames, i) for i, token in enumerate(frames.tokens)}
    arrays = bevkd.evaluate("nuscenes", found, truth=truth)
    assert arrays["mean_ap"] == pytest.approx(files["mean_ap"], abs=1e-4)
    assert arrays["frames"] == files["frames"] == len(frames)
    for name in ("trans_err", "scale_err", "orient_err"):
        assert arrays["tp_errors"][name] == pytest.approx(files["tp_errors"][name], abs=1e-3)
    perfect = {
        token: {"boxes": np.nan_to_num(one["boxes"]), "names": one["names"], "scores": np.ones(len(one["names"]))}
        for token, one in truth.items()
    }
    assert bevkd.evaluate("nuscenes", perfect, truth=truth)["tp_errors"]["orient_err"] < 1e-6

    token = frames.tokens[0]
    with pytest.raises(DataError, match=token):
        bevkd.evaluate("nuscenes", {t: one for t, one in found.items() if t != token}, truth=truth)
    with pytest.raises(DataError, match="has no truth"):
        bevkd.evaluate("nuscenes", found | {"other": found[token]}, truth=truth)
    with pytest.raises(ConfigError, match=r"truth\['.*'\]: 'cyclist' is no class of nuScenes"):
        bevkd.evaluate("nuscenes", found, truth=truth | {token: {"boxes": np.ones((1, 7)), "names": ["cyclist"]}})


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("nuscene", "x.json"), {}, "unknown benchmark 'nuscene' .*'nuscenes'"),
        (("nuscenes", "x.json"), {"root": "data", "spilt": "val"}, "no option 'spilt' .*'split'"),
        (("nuscenes", "x.json"), {"root": "data"}, "wants version and split"),
        (("kitti", "results"), {}, "kitti wants labels"),
        (("waymo", {"f": {"boxes": []}}), {}, "waymo wants truth"),
        (("waymo", {"f": {"scores": []}}), {"truth": {"f": {"boxes": [], "names": []}}}, r"results\['f'\]: wants"),
        (("nuscenes", {"f": {"boxes": [[1] * 8], "names": ["car"]}}), {"truth": {"f": {}}}, r"shape \(M, 9\)"),
        (("nuscenes", {"f": {"boxes": [[0] * 7], "names": ["car"]}}), {"truth": {"f": {}}}, "positive"),
        (("nuscenes", {"f": {"boxes": [[1] * 7], "names": ["cra"]}}), {"truth": {"f": {}}}, "did you mean 'car'"),
        (("nuscenes", {"f": {"boxes": [[1] * 7], "labels": [16]}}), {"truth": {"f": {}}}, "labels are places"),
        (("nuscenes", {"f": {"boxes": [[1] * 7], "labels": [0, 1]}}), {"truth": {"f": {}}}, "wants 1 labels"),
        (("nuscenes", {"f": {"boxes": [], "names": []}}), {"truth": {}}, "truth: wants a mapping"),
        (
            ("nuscenes", {"f": {"boxes": [[1] * 7], "names": ["car"], "scores": [np.nan]}}),
            {"truth": {"f": {}}},
            "finite",
        ),
        (("nuscenes", {"f": {"boxes": [[1] * 7]}}), {"truth": {"f": {}}}, "want labels or names"),
        (("nuscenes", [{"boxes": []}]), {"truth": {}}, "not list"),
        (("nuscenes", {"f": {"boxes": [[1] * 7, [1]], "names": []}}), {"truth": {"f": {}}}, "wants boxes of shape"),
        (("nuscenes", {"f": {"boxes": [[1] * 7], "names": "car"}}), {"truth": {"f": {}}}, "wants a list of names"),
        (("nuscenes", {"f": {"boxes": [[1] * 7], "names": ["car", "car"]}}), {"truth": {"f": {}}}, "1 names, .* got 2"),
        (("nuscenes", {"f": {"boxes": [[1] * 7], "labels": [0.5]}}), {"truth": {"f": {}}}, "one integer for each"),
        (("nuscenes", {"f": {"boxes": [], "score": [], "names": []}}), {"truth": {"f": {}}}, "'score' .*'scores'"),
        (("nuscenes", "x.json"), {"root": "d", "version": "v", "split": "val", "max_range": "9"}, "number of metres"),
        (("kitti", {}), {"root": "."}, "it is empty"),
        (("kitti", "results"), {"labels": ".", "frames": "000001"}, "wants a list of names"),
        (
            ("waymo", {"f": {"boxes": [[1] * 7], "names": ["vehicle"]}}),
            {"truth": {"f": {"boxes": [[1] * 7], "names": ["vehicle"], "difficulty": [0]}}},
            "a difficulty is 1 or 2",
        ),
    ],
)
def test_what_cannot_be_evaluated_says_why(arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bevkd.evaluate(*arguments, **options)


def test_a_truth_without_boxes_has_no_metrics() -> None:
    nothing: dict[str, Any] = {"f": {"boxes": [], "names": []}}
    with pytest.raises(DataError, match="no frame of the truth has a box"):
        bevkd.evaluate("nuscenes", nothing, truth=nothing)
    full = {"f": {"boxes": np.ones((501, 7)), "labels": [0] * 501}}
    with pytest.raises(DataError, match="501 boxes, at most 500"):
        bevkd.evaluate("nuscenes", full, truth=full)
    one = {"f": {"boxes": [[1.0] * 7], "names": ["car"], "attributes": ["vehicle.moved"]}}
    with pytest.raises(ConfigError, match=r"did you mean 'vehicle\.moving'"):
        bevkd.evaluate("nuscenes", one, truth=one)
    with pytest.raises(ConfigError, match="1 boxes want as many num_points, got 2"):
        bevkd.evaluate("nuscenes", one, truth={"f": one["f"] | {"num_points": [1, 2]}})


def simulated(name: str, tmp_path: Path) -> tuple[Path, FrameDataset]:
    write, scales = WRITERS[name]
    write(scales["smoke"], tmp_path / "data", 0)
    index = {"kitti": convert_kitti, "waymo": convert_waymo}[name](tmp_path / "data", tmp_path / "index")
    run = tiny_run(type("Where", (), {"root": tmp_path / "data", "version": "", "index": index}))
    classes = ("car", "pedestrian", "cyclist") if name == "kitti" else ("vehicle", "pedestrian", "cyclist")
    data = replace(run.data, kind=name, classes=classes, lidar_sweeps=0)
    return tmp_path / "data", FrameDataset(data, run.model, "val", train=False, seed=0)


def test_kitti_from_arrays(tmp_path: Path) -> None:
    """The labels themselves, turned to the ego frame and back, are found again."""
    root, frames = simulated("kitti", tmp_path)
    found = {token.rpartition("/")[2]: truth_of(frames, i) for i, token in enumerate(frames.tokens)}
    metrics = bevkd.evaluate("kitti", found, root=root / "training")
    by_token = {f"training/{frame}": one for frame, one in found.items()}
    assert bevkd.evaluate("kitti", by_token, root=root / "training") == metrics
    assert metrics["frames"] == len(found)
    _, *rest = by_token
    fewer = bevkd.evaluate(
        "kitti", {frame: by_token[frame] for frame in rest}, root=root / "training", frames=[*by_token]
    )
    assert fewer["frames"] == len(found)
    (tmp_path / "results").mkdir()
    for frame in found:
        labels = (root / "training" / "label_2" / f"{frame}.txt").read_text().splitlines()
        lines = [f"{line} 1.0\n" for line in labels if not line.startswith(("DontCare", "Misc"))]
        (tmp_path / "results" / f"{frame}.txt").write_text("".join(lines))
    expected = bevkd.evaluate("kitti", tmp_path / "results", labels=root / "training" / "label_2")
    for name in ("Car", "Pedestrian", "Cyclist"):
        assert metrics[name]["3d"] == expected[name]["3d"]
    assert metrics["Car"]["3d"]["hard"]["R11"] > 0
    with pytest.raises(DataError, match=r"give .*training"):
        bevkd.evaluate("kitti", found, root=root)
    with pytest.raises(DataError, match="999999"):
        bevkd.evaluate("kitti", found | {"999999": {"boxes": [], "names": []}}, root=root / "training")


def test_waymo_from_arrays(tmp_path: Path) -> None:
    _, frames = simulated("waymo", tmp_path)
    truth, found = {}, {}
    for i, token in enumerate(frames.tokens):
        boxes, labels, difficulty = frames.annotations(i)
        truth[token] = {"boxes": boxes, "labels": labels, "difficulty": difficulty}
        found[token] = {"boxes": boxes, "labels": labels, "scores": np.full(len(labels), 0.5)}
    metrics = bevkd.evaluate("waymo", found, truth=truth)
    assert metrics["OBJECT_TYPE_TYPE_VEHICLE_LEVEL_2"]["ap"] == pytest.approx(1.0)
    assert "apl" in bevkd.evaluate("waymo", found, truth=truth, let=True)["OBJECT_TYPE_TYPE_VEHICLE_LEVEL_2"]
    boxes = {token: bevkd.Detections.of(one, "here") for token, one in found.items()}
    sets = waymo_arrays(frames, {token: _as_batch(one) for token, one in boxes.items()})
    assert bevkd.evaluate("waymo", sets) == metrics
    np.savez(tmp_path / "sets.npz", **sets)
    assert bevkd.evaluate("waymo", tmp_path / "sets.npz") == metrics
    with pytest.raises(DataError, match="gt_box"):
        bevkd.evaluate("waymo", {name: array for name, array in sets.items() if name != "gt_box"})
    with pytest.raises(ConfigError, match="difficulty of every box"):
        bevkd.evaluate("waymo", found, truth=found)


def _as_batch(one: bevkd.Detections) -> Any:
    import torch

    from bevkd.data.batch import Boxes

    labels = torch.from_numpy(one.labels)
    return Boxes(torch.from_numpy(one.boxes), labels, torch.zeros_like(labels), torch.from_numpy(one.scores))
