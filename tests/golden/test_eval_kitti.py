"""KITTI metrics: the official evaluator's answers, a loop over random sets, and what bad files get."""

from __future__ import annotations

import json
from pathlib import Path

import kitti_reference as reference
import numpy as np
import pytest
from shapely.geometry import Polygon

from bevkd.cli import main
from bevkd.data.kitti.objects import COLUMNS, Objects
from bevkd.errors import DataError
from bevkd.eval.kitti import CLASSES, DIFFICULTIES, evaluate_files, read_folder
from bevkd.eval.kitti.overlap import bev, box

SHARED = Path(__file__).resolve().parents[3] / "shared" / "real" / "kitti_eval" / "set_a"
OFFICIAL = {"2d": "detection", "bev": "detection_ground", "3d": "detection_3d", "aos": "orientation"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the official evaluator's answers are not here")
def test_equals_the_official_evaluator(tmp_path: Path) -> None:
    expected = json.loads((SHARED / "expected.json").read_text())
    where = ["--labels", str(SHARED / "label_2"), "--results", str(SHARED / "results")]
    assert main(["evaluate", "kitti", *where, "--out", str(tmp_path / "metrics.json")]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics) == [*CLASSES, "mean", "frames"]
    assert metrics["frames"] == 60
    for name in CLASSES:
        for metric, official in OFFICIAL.items():
            for difficulty in DIFFICULTIES:
                want = expected[f"{name.lower()}_{official}"][difficulty]
                assert metrics[name][metric][difficulty] == pytest.approx(want, abs=1e-3), (name, metric, difficulty)
    of_classes = [metrics[name]["3d"]["moderate"]["R40"] for name in CLASSES]
    assert metrics["mean"]["3d"]["moderate"]["R40"] == pytest.approx(np.mean(of_classes))


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_loop_on_random_sets(tmp_path: Path, seed: int) -> None:
    reference.random_set(tmp_path, seed)
    frames = []
    for path in sorted((tmp_path / "results").iterdir()):
        labels = (tmp_path / "labels" / path.name).read_text()
        frames.append((reference.parse(labels, False), reference.parse(path.read_text(), True)))
    expected = reference.evaluate(frames)
    metrics = evaluate_files(tmp_path / "labels", tmp_path / "results", tmp_path / "metrics.json")
    some = []
    for name in CLASSES:
        for metric in OFFICIAL:
            for difficulty in DIFFICULTIES:
                want = expected[name][metric][difficulty]
                assert metrics[name][metric][difficulty] == pytest.approx(want, abs=1e-8), (name, metric, difficulty)
                some.append(want["R11"])
    assert 0 < max(some) < 100


def test_overlaps_equal_those_of_polygons() -> None:
    rng = np.random.default_rng(0)
    rows = np.zeros((2, 400, len(COLUMNS) - 1))
    rows[..., 7:10] = rng.uniform(0.3, 4.0, (2, 400, 3))
    rows[..., 10:13] = rng.uniform(-2, 2, (2, 400, 3))
    rows[..., 13] = rng.uniform(-4, 4, (2, 400))
    rows[1, :40] = rows[0, :40]
    rows[1, 20:40, 13] += np.pi / 2
    frame = np.zeros(400, dtype=np.int64)
    a, b = (Objects(frame, frame, part) for part in rows)
    flat, area, _ = bev(a, b)
    solid, volume, _ = box(a, b)
    for i in range(400):
        one, two = (reference.Thing("", list(part[i])) for part in rows)
        inter = one.polygon().intersection(two.polygon()).area
        assert flat[i] == pytest.approx(inter, abs=1e-9)
        assert isinstance(one.polygon(), Polygon)
        if inter > 0:
            assert solid[i] / (2 * volume[i]) <= 1
            size = two.v[7] * two.v[8] * two.v[9]
            assert solid[i] / (volume[i] + size - solid[i]) == pytest.approx(reference.solid(one, two, False), abs=1e-9)
    assert area[0] == pytest.approx(rows[0, 0, 8] * rows[0, 0, 9])


CAR = "Car 0.00 0 0.1 100 100 160 150 1.5 1.6 4.0 1.0 1.6 10.0 0.2"


def folders(tmp_path: Path, label: str, result: str) -> tuple[Path, Path, Path]:
    for name, text in (("labels", label), ("results", result)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "000007.txt").write_text(text)
    return tmp_path / "labels", tmp_path / "results", tmp_path / "metrics.json"


def test_a_perfect_detection_and_what_is_not_there(tmp_path: Path) -> None:
    metrics = evaluate_files(*folders(tmp_path, CAR, f"{CAR} 0.9"))
    # A single true positive reaches recall 1 but is one threshold: the first of 41 positions.
    assert metrics["Car"]["3d"]["easy"] == {"R11": pytest.approx(100 / 11), "R40": 0.0}
    assert metrics["Pedestrian"]["3d"]["easy"] == {"R11": 0.0, "R40": 0.0}
    flat = CAR.replace("1.5 1.6 4.0 1.0 1.6 10.0", "-1 -1 -1 -1000 -1000 -1000").replace(" 0.1 ", " -10 ")
    metrics = evaluate_files(*folders(tmp_path, CAR, f"{flat} 0.9"))
    assert metrics["Car"]["2d"]["easy"]["R11"] == pytest.approx(100 / 11)
    assert metrics["Car"]["3d"]["easy"] == metrics["Car"]["bev"]["hard"] == {"R11": None, "R40": None}
    assert metrics["Car"]["aos"]["easy"] == metrics["mean"]["aos"]["easy"] == {"R11": None, "R40": None}


def test_frames_without_objects(tmp_path: Path) -> None:
    metrics = evaluate_files(*folders(tmp_path, "", ""))
    assert metrics["mean"]["3d"]["moderate"] == {"R11": 0.0, "R40": 0.0}
    assert len(read_folder(tmp_path / "labels", ["000007"], scored=False)) == 0


@pytest.mark.parametrize(
    ("label", "result", "message"),
    [
        (CAR.rsplit(" ", 1)[0], f"{CAR} 0.9", "line 1 has 14 columns, not 15"),
        (CAR, CAR, "line 1 has 15 columns, not 16"),
        (f"{CAR}\n{CAR} 1", f"{CAR} 0.9", "line 2 has 16 columns, not 15"),
        (CAR, f"{CAR} high", "'high' is not a number"),
        (CAR, f"{CAR} nan", "nan is not finite"),
        (CAR, f"{CAR.replace('4.0', '-4.0')} 0.9", "negative size"),
        (CAR, f"{CAR.replace('160 150', '90 150')} 0.9", "negative size"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, label: str, result: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        evaluate_files(*folders(tmp_path, label, result))
    assert "000007.txt" in str(error.value)
    assert error.value.token == "000007"
    assert not (tmp_path / "metrics.json").exists()


def test_results_for_unknown_frames_and_missing_folders(tmp_path: Path) -> None:
    labels, results, out = folders(tmp_path, CAR, f"{CAR} 0.9")
    (results / "000008.txt").write_text("")
    with pytest.raises(DataError, match=r"frame without labels.*000008"):
        evaluate_files(labels, results, out)
    with pytest.raises(DataError, match="no such folder"):
        evaluate_files(labels, tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no result files"):
        evaluate_files(labels, tmp_path / "empty", out)
    assert main(["evaluate", "kitti", "--labels", str(labels), "--results", str(results), "--out", str(out)]) == 3
