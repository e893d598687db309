"""Which frames a KITTI evaluation is of, and what is said about result files that are odd."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevkd.cli import main
from bevkd.errors import ConfigError, DataError
from bevkd.eval.kitti import evaluate_files, read_split

N = 80


def write(folder: Path, rows: dict[str, list[list[Any]]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        (folder / f"{name}.txt").write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    return folder


def cars(scored: bool) -> dict[str, list[list[Any]]]:
    """One car in each of some frames, ahead and to the side, in all directions."""
    rng = np.random.default_rng(0)
    out = {}
    for i in range(N):
        x, z, angle = rng.uniform(-8, 8), rng.uniform(8, 30), rng.uniform(-3, 3)
        alpha = (angle - math.atan2(x, z) + math.pi) % (2 * math.pi) - math.pi
        image, size, place = [100 + i, 100.0, 200 + i, 180.0], [1.5, 1.6, 4.0], [x, 1.6, z]
        row = ["Car", 0.0, 0, alpha, *image, *size, *place, angle] + [0.5 + i / 100] * scored
        out[f"{i:06d}"] = [row]
    return out


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write(tmp_path / "training/label_2", cars(False))


def run(labels: Path, results: Path, *more: str) -> tuple[int, dict[str, Any]]:
    out = results.parent / "metrics.json"
    out.unlink(missing_ok=True)
    code = main(["evaluate", "kitti", "--labels", str(labels), "--results", str(results), "--out", str(out), *more])
    return code, json.loads(out.read_text()) if out.exists() else {}


def test_label_files_without_a_result_file_are_counted(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    half = write(tmp_path / "some", {name: rows for name, rows in cars(True).items() if int(name) % 2})
    whole = write(tmp_path / "all", {name: rows if int(name) % 2 else [] for name, rows in cars(True).items()})
    code, found = run(labels, half)
    said = f"{N // 2} of {N} label files have no result file and are left out"
    assert code == 0
    assert found["frames"] == N // 2
    assert said in caplog.text
    assert said in found["warnings"][0]
    table, said = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    assert "Car 3D" in table
    assert said.startswith("metrics: ")
    caplog.clear()
    (tmp_path / "val.txt").write_text("\ufeff" + "".join(f"{name}\r\n" for name in cars(True)))
    _, listed = run(labels, half, "--split", str(tmp_path / "val.txt"))
    _, padded = run(labels, whole)
    assert listed["frames"] == padded["frames"] == N
    assert listed["Car"] == padded["Car"] != found["Car"]
    assert f"{N // 2} of {N} frames have no result file: they count as without detections" in caplog.text
    assert "warnings" not in padded
    main(["-q", "evaluate", "kitti", "--labels", str(labels), "--results", str(whole), "--out", str(tmp_path / "m")])
    assert capsys.readouterr().out.count("Car 3D") == 2  # of the two before


def test_a_split_is_looked_up_beside_the_labels(labels: Path, tmp_path: Path) -> None:
    sets = tmp_path / "ImageSets"
    sets.mkdir()
    (sets / "val.txt").write_text("000001\n000003\n")
    assert read_split("val", labels) == read_split(str(sets / "val.txt"), labels) == ["000001", "000003"]
    code, found = run(labels, write(tmp_path / "all", cars(True)), "--split", "val")
    assert (code, found["frames"]) == (0, 2)
    assert f"{N - 2} of {N} result files are of other frames" in found["warnings"][0]
    with pytest.raises(ConfigError, match=r"did you mean 'val'.*known: val"):
        read_split("vall", labels)
    with pytest.raises(DataError, match="list is missing"):
        read_split(str(tmp_path / "nothing.txt"), labels)
    for text, message in (("", "names no frame"), ("000001\n000001\n", "entry 2 names a frame twice")):
        (sets / "val.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            read_split("val", labels)


def test_frames_that_do_not_fit_together(labels: Path, tmp_path: Path) -> None:
    results = write(tmp_path / "all", cars(True) | {"000777": [], "000778": []})
    out = tmp_path / "m.json"
    with pytest.raises(DataError, match=r"frame without labels, 2 of 82.*000777"):
        evaluate_files(labels, results, out)
    with pytest.raises(DataError, match=r"1 of 2 frames have no label file.*000777"):
        evaluate_files(labels, results, out, ["000001", "000777"])
    with pytest.raises(DataError, match="no result file is of the 1 frames"):
        evaluate_files(labels, write(tmp_path / "one", {"000002": []}), out, ["000001"])
    with pytest.raises(DataError, match="did you mean 000007"):
        evaluate_files(labels, write(tmp_path / "short", {"7": []}), out)
    assert not out.exists()


def exchange(i: int, j: int) -> Callable[[list[Any]], None]:
    def change(row: list[Any]) -> None:
        row[i], row[j] = row[j], row[i]

    return change


def put(column: int | slice, value: Callable[[list[Any]], Any]) -> Callable[[list[Any]], None]:
    def change(row: list[Any]) -> None:
        row[column] = value(row)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (exchange(9, 10), "width and length look exchanged"),
        (exchange(8, 10), "height and length look exchanged"),
        (put(14, lambda row: row[14] + math.pi / 2), "rotation_y looks off by 90 degrees"),
        (put(14, lambda row: -row[14] - math.pi / 2), "as in the LiDAR frame"),
        (put(14, lambda row: row[3]), "rotation_y looks to hold alpha"),
        (put(3, lambda row: row[14]), "alpha looks to hold rotation_y"),
        (put(12, lambda row: row[12] - row[8] / 2), "y looks to be that of the middle"),
        (put(0, lambda row: "Vehicle"), f"{N} of {N} detections are of types that KITTI has not (Vehicle)"),
        (put(slice(11, 14), lambda row: [row[13], -row[11], -row[12]]), "x, y, z look to be those of the LiDAR frame"),
        (put(0, lambda row: "car"), ""),
    ],
)
def test_other_conventions_are_named(
    labels: Path, tmp_path: Path, change: Callable[[list[Any]], None], words: str
) -> None:
    rows = cars(True)
    for lines in rows.values():
        for line in lines:
            change(line)
    found = evaluate_files(labels, write(tmp_path / "results", rows), tmp_path / "m.json")
    warnings = found.get("warnings", [])
    assert len(warnings) == bool(words)
    assert all(words in text for text in warnings)


def test_every_file_may_come_from_any_editor(labels: Path, tmp_path: Path) -> None:
    rows = cars(True)
    for lines in rows.values():
        lines[0][0] = "Vehicle"
    results, split = write(tmp_path / "results", rows), tmp_path / "val.txt"
    split.write_text("".join(f"{name}\n" for name in rows))
    plain = evaluate_files(labels, results, tmp_path / "m.json", read_split(str(split), labels))
    for path in (split, *results.glob("*.txt"), *labels.glob("*.txt")):
        path.write_bytes(path.read_text().replace("\n", "\r\n").encode("utf-16"))
    assert evaluate_files(labels, results, tmp_path / "m.json", read_split(str(split), labels)) == plain
    assert "types that KITTI has not (Vehicle)" in plain["warnings"][0]
