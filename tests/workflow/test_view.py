"""`bevkd view`, for one run of every kind: networks as they are drawn, on small data in all three formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bevkd.cli import main
from bevkd.config import load_rows, load_run, run_dir, to_plain
from bevkd.registry import lookup
from bevkd.sim import WRITERS

pytestmark = pytest.mark.slow
SCALE = "smoke"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three simulated data sets where the configuration looks for them."""
    folder = tmp_path_factory.mktemp("view")
    for kind in ("nuscenes", "kitti", "waymo"):
        write, scales = WRITERS[kind]
        root, index = folder / f"data/{kind}_sim/{SCALE}", folder / f"data/index/{kind}_sim/{SCALE}"
        write(scales[SCALE], root, 0)
        lookup("reader", kind).convert(root, "v1.0-sim", index)
    return folder


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from bevkd.config import config_dir

    monkeypatch.setenv("BEVKD_CONFIG", str(config_dir().resolve()))
    monkeypatch.chdir(project)
    return project


def leave(run: str, seed: int = 0, overrides: list[str] | None = None) -> None:
    """What a training leaves, without the training."""
    import torch

    from bevkd.models.detector import build_detector
    from bevkd.train.checkpoint import save_model

    config = load_run(run, SCALE, seed, overrides)
    folder = run_dir(run, SCALE, seed)
    if (folder / "model.pt").exists():
        return
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    save_model(folder, build_detector(config.model).state_dict(), config, 1, "")
    (folder / "config.yaml").write_text(yaml.safe_dump(to_plain(config)))


def picture(out: Path) -> Image.Image:
    (path,) = out.glob("*.png")
    with Image.open(path) as image:
        image.load()
        return image.convert("RGB")


@pytest.mark.parametrize(
    "run",
    [
        "lidar_base", "camera_base", "fusion_base", "unidistill_p4", "le_l_to_c", "unidistill_c_to_c", "monodistill",
        "s4_p1", "s5_p2", "kitti_lidar", "waymo_lidar", "s3_p2",
    ],
)  # fmt: skip
def test_a_run_of_every_kind(run: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bevkd.report.companions import companions

    shown = companions(load_rows(), load_rows()[run], SCALE, 0)
    for one in shown:
        leave(one.run, one.seed)
    arguments = ["view", "--run", run, "--scale", SCALE, "--out", str(tmp_path), "--size", "8", "--dpi", "60"]
    assert main([*arguments, "--min-score", "0"]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(next(tmp_path.glob(f"{run}_*.png")))
    assert told.err == "", "nothing is left out"
    image = picture(tmp_path)
    assert image.width == 480
    assert image.height > 100 * len(shown), "a row for each"
    assert np.asarray(image).std() > 10


def test_companions_that_are_not_trained_are_left_out_with_a_note(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave("unidistill_p2", 1)
    arguments = ["view", "--run", "unidistill_p2", "--scale", SCALE, "--seed", "1", "--out", str(tmp_path)]
    for folder in ("fusion_base/seed1", "camera_further/seed1"):
        shutil.rmtree(f"results/runs/{SCALE}/{folder}", ignore_errors=True)
    assert main(arguments) == 0
    error = capsys.readouterr().err
    assert "left out teacher: run 'fusion_base' has not been trained at scale 'smoke' with seed 1" in error
    assert "bevkd train --run fusion_base --scale smoke --seed 1`" in error
    assert "left out baseline: run 'camera_further' has not been trained at scale 'smoke' with seed 1" in error
    assert main(["-q", *arguments]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_picture_says_what_it_leaves_out_and_that_nothing_was_found(here: Path, tmp_path: Path) -> None:
    from bevkd.report.overlay import Layer
    from bevkd.report.runs import Runs
    from bevkd.report.scenes import predict_frames
    from bevkd.report.viewer import Look, Viewed, draw

    leave("lidar_base")
    viewed = Viewed.open(Runs(Path("results/runs"), SCALE, load_rows()), "lidar_base", 0)
    reader = viewed.reader()
    scene = reader.scene(reader.fullest("val", 1)[0])
    (found,) = predict_frames(viewed.runs, "lidar_base", 0, [(scene.split, scene.token)])
    area = viewed.config.model.grid.area

    def texts(min_score: float, notes: list[str]) -> list[str]:
        figure = draw(scene, [Layer("lidar_base", "b", found)], area, Look(min_score, 10, 60), notes)
        parts = [figure, *figure.subfigs]
        inside = [axes for part in parts for axes in part.axes]
        return [t.get_text() for place in (*parts, *inside) for t in place.texts] + [a.get_title() for a in inside]

    nothing = texts(1.0, ["baseline camera_base (not trained)"])
    assert "left out: baseline camera_base (not trained)" in nothing
    assert any(text.startswith("no detection with a score of at least 1;\nthe best score is 0.") for text in nothing)
    assert "lidar_base: no detections" in nothing
    some = texts(0.0, [])
    assert not any("left out" in text or "no detection" in text for text in some)
    assert any(text.split(" ")[-1].startswith(".") for text in some), "class and score at a box"


def test_frames_are_listed_and_chosen(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave("lidar_base")
    base = ["view", "--run", "lidar_base", "--scale", SCALE]
    assert main([*base, "--list"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 6
    assert all(scene.startswith("scene-") and boxes.endswith(" boxes") for _, scene, boxes in lines)
    assert main([*base, "--list", "--split", "tune"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main([*base, "--list", "--split", "tun"]) == 2
    assert "no split 'tun' (did you mean 'tune'?)" in capsys.readouterr().err
    token = min(lines, key=lambda line: int(line[2].split()[0]))[0]
    assert main([*base, "--frame", token, "--out", str(tmp_path), "--size", "6", "--dpi", "50"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"lidar_base_{token}.png"]
    assert main([*base, "--frame", token[:-1], "--out", str(tmp_path)]) == 3
    assert f"did you mean '{token}'" in capsys.readouterr().err
    assert main(base) == 2
    assert "--out FOLDER" in capsys.readouterr().err


def test_a_run_may_look_at_another_place(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data that moved after the training; and a run that was trained on data of its own."""
    leave("kitti_lidar")
    moved = shutil.copytree(f"data/kitti_sim/{SCALE}", tmp_path / "moved")
    index = lookup("reader", "kitti").convert(moved, None, tmp_path / "index")
    shutil.rmtree(f"data/kitti_sim/{SCALE}")
    base = [
        "view",
        "--run",
        "kitti_lidar",
        "--scale",
        SCALE,
        "--out",
        str(tmp_path / "out"),
        "--size",
        "6",
        "--dpi",
        "50",
    ]
    try:
        assert main(base) == 3
        error = capsys.readouterr().err
        assert f"bevkd simulate --dataset kitti --scale smoke --out data/kitti_sim/{SCALE}" in error
        assert main([*base, "--root", str(moved), "--index", str(index)]) == 0
        leave("kitti_lidar", 5, [f"data.root={moved}", f"data.index={index}"])
        assert main([*base, "--seed", "5"]) == 0
    finally:
        shutil.copytree(moved, f"data/kitti_sim/{SCALE}")


def test_a_run_that_is_not_trained_names_the_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "--run", "s7_crucial", "--scale", SCALE, "--frame", "x", "--out", "o"]) == 2
    assert "train it with `bevkd train --run s7_crucial --scale smoke`" in capsys.readouterr().err
    assert main(["view", "--run", "s7_crucal", "--scale", SCALE, "--frame", "x", "--out", "o"]) == 2
    assert "did you mean 's7_crucial'" in capsys.readouterr().err
    assert not Path("o").exists()
