"""Waymo metrics: the official op's answers, a loop over random sets, and what bad files get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import waymo_reference as reference

from bevkd.cli import main
from bevkd.errors import DataError
from bevkd.eval.waymo import LetConfig, evaluate_files, metrics, read_sets
from bevkd.eval.waymo.metrics import average_precision

SHARED = Path(__file__).resolve().parents[3] / "shared" / "real" / "waymo"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the official op's answers are not here")
@pytest.mark.parametrize("name", ["official_fake", "noisy_a"])
def test_equals_the_official_op(tmp_path: Path, name: str) -> None:
    out = tmp_path / "metrics.json"
    assert main(["evaluate", "waymo", "--sets", str(SHARED / f"{name}.npz"), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    expected = json.loads((SHARED / f"{name}_expected.json").read_text())
    assert found.pop("frames") == 20
    assert list(found) == list(expected)
    for key, want in expected.items():
        assert found[key] == pytest.approx(want, abs=1e-6), key


@pytest.mark.skipif(not SHARED.is_dir(), reason="the official op's answers are not here")
def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = evaluate_files(SHARED / "noisy_a.npz", tmp_path / "whole.json")
    monkeypatch.setattr(metrics, "_CHUNK", 50)
    parts = evaluate_files(SHARED / "noisy_a.npz", tmp_path / "parts.json")
    assert parts.pop("frames") == whole.pop("frames")
    for key, want in whole.items():
        assert parts[key] == pytest.approx(want, abs=1e-12), key


@pytest.mark.parametrize("let", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop_on_random_sets(tmp_path: Path, seed: int, let: bool) -> None:
    data = reference.random_sets(seed)
    np.savez(tmp_path / "sets.npz", **data)  # type: ignore[arg-type]
    found = evaluate_files(tmp_path / "sets.npz", tmp_path / "out.json", LetConfig() if let else None)
    expected = reference.evaluate(data, let)
    assert found.pop("frames") == len(np.union1d(data["pred_frame"], data["gt_frame"]))
    found.pop("warnings", None)
    assert set(found) == set(expected)
    for key, want in expected.items():
        assert found[key] == pytest.approx(want, abs=1e-6), key
    assert max(cell["ap"] for cell in found.values()) > 0
    if let:
        assert any(0 < cell["apl"] < cell["ap"] for cell in found.values())


def test_error_along_the_line_of_sight_is_tolerated(tmp_path: Path) -> None:
    data = reference.random_sets(0)
    gt = np.array([[31.43, 0.0, 2.184, 4.0, 2.0, 1.6, 0.0]], dtype=np.float32)  # 30 m ahead of the sensor
    found = {}
    for shift in (0.0, 1.5, 3.5):
        pred = gt + np.array([shift, 0, 0, 0, 0, 0, 0], dtype=np.float32)
        one = {name: values[:1].copy() for name, values in data.items()} | {"gt_box": gt, "pred_box": pred}
        one |= {name: np.ones(1, np.uint8) for name in ("pred_type", "gt_type", "gt_difficulty")}
        one |= {"pred_frame": np.zeros(1, np.int64), "gt_frame": np.zeros(1, np.int64)}
        one |= {"pred_score": np.ones(1, np.float32), "pred_nlz": np.zeros(1, bool)}
        np.savez(tmp_path / "one.npz", **one)  # type: ignore[arg-type]
        cell = evaluate_files(tmp_path / "one.npz", tmp_path / "out.json", LetConfig())
        found[shift] = cell["OBJECT_TYPE_TYPE_VEHICLE_LEVEL_1"]
    assert found[0.0] == pytest.approx({"ap": 1.0, "aph": 1.0, "apl": 1.0})
    assert found[1.5] == pytest.approx({"ap": 1.0, "aph": 1.0, "apl": 0.5}, abs=1e-5)  # half of 10 % of 30 m
    assert found[3.5] == pytest.approx({"ap": 0.0, "aph": 0.0, "apl": 0.0})


def test_average_precision_by_hand() -> None:
    assert average_precision(np.array([1.0]), np.array([0.0])) == 0.0
    # One true positive of two annotations: precision 1 up to recall 0.5, nothing beyond.
    assert average_precision(np.array([1.0, 1.0]), np.array([0.5, 0.0])) == pytest.approx(0.5)
    # From (0.5, 1) to (1, 0.5): within 0.05 of the left end, the gap is filled with the lower precision.
    area = average_precision(np.array([0.5, 1.0]), np.array([1.0, 0.5]))
    assert area == pytest.approx(0.5 + 0.45 * 0.5 + 0.05 * 0.75, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred_score": None}, "no such array.*pred_score"),
        ({"gt_box": np.zeros((3, 6), np.float32)}, "shape .*gt_box"),
        ({"pred_type": np.zeros(1, np.uint8)}, "shape .*pred_type"),
        ({"pred_box": "nan"}, "row 1 is not finite.*pred_box"),
        ({"gt_box": "negative"}, "row 1 is a negative size.*gt_box"),
        ({"gt_type": "unknown"}, "row 1 is an unknown type.*gt_type"),
        ({"gt_difficulty": "three"}, "row 1 is neither 1 nor 2.*gt_difficulty"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    data: dict[str, Any] = reference.random_sets(1)
    for name, value in change.items():
        if value is None:
            del data[name]
        elif isinstance(value, str):
            wrong = {"nan": np.nan, "negative": -1, "unknown": 9, "three": 3}[value]
            data[name][(1, 3) if data[name].ndim == 2 else 1] = wrong
        else:
            data[name] = value
    np.savez(tmp_path / "sets.npz", **data)
    with pytest.raises(DataError, match=message):
        read_sets(tmp_path / "sets.npz")
    assert main(["evaluate", "waymo", "--sets", str(tmp_path / "sets.npz"), "--out", str(tmp_path / "o.json")]) == 3
    assert not (tmp_path / "o.json").exists()


def test_broken_files_and_no_boxes(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    for name, message in (("text.npz", "cannot be read"), ("nothing.npz", "file is missing")):
        with pytest.raises(DataError, match=message):
            read_sets(tmp_path / name)
    data = {name: values[:0] for name, values in reference.random_sets(0).items()}
    np.savez(tmp_path / "empty.npz", **data)  # type: ignore[arg-type]
    found = evaluate_files(tmp_path / "empty.npz", tmp_path / "out.json")
    assert found.pop("frames") == 0
    assert len(found) == 32
    assert all(cell == {"ap": 0.0, "aph": 0.0} for cell in found.values())
