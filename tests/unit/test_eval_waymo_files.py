"""What is said about arrays for the Waymo metrics: wrong ones are refused by name, odd ones are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevkd.cli import main
from bevkd.errors import DataError
from bevkd.eval.waymo import evaluate_files, read_sets
from bevkd.eval.waymo.objects import write_objects

N = 30


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    box = np.column_stack(
        [rng.uniform(-40, 40, (N, 2)), rng.normal(1, 0.2, N), np.tile([4.5, 2.0, 1.6], (N, 1)), rng.uniform(-3, 3, N)]
    )
    kind, frame = np.ones(N, np.uint8), np.arange(N) // 3
    return {
        **{"pred_box": box, "pred_type": kind, "pred_frame": frame, "pred_score": rng.uniform(0.1, 1, N)},
        **{"pred_nlz": np.zeros(N, bool), "gt_box": box.copy(), "gt_type": kind, "gt_frame": frame},
        "gt_difficulty": kind,
    }


def saved(path: Path, **changes: Any) -> Path:
    np.savez(path, **{name: value for name, value in (arrays() | changes).items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_nlz": np.zeros(N, np.uint8)}, r"pred_nlz must be a bool array of shape \(N,\), not uint8 \("),
        ({"gt_difficulty": np.zeros(N, int)}, r"row 0, the first of 30: 0 \(unknown\) must be resolved: 2 where a box"),
        ({"gt_box": np.zeros((N, 6))}, r"gt_box must be a float array of shape \(N, 7\), not of shape \(30, 6\)"),
        ({"gt_box": np.zeros((N, 6), int)}, r"gt_box must be .*, not int64 of shape \(30, 6\)"),
        (
            {"pred_type": np.ones(3, int)},
            r"an integer array of shape \(N,\), not of shape \(3,\), N = 30 as of pred_box",
        ),
        ({"pred_score": np.ones(N, int)}, r"pred_score must be a float array of shape \(N,\), not int64"),
        ({"pred_score": np.float64(1)}, r"pred_score must be .*, not of shape \(\)"),
        ({"gt_type": np.array(["car"] * N)}, r"gt_type must be an integer array of shape \(N,\), not <U3"),
        ({"gt_type": np.array([None] * N)}, r"gt_type must be .*, not one of Python objects"),
        ({"pred_nlz": None, "gt_type": None}, r"no such array: pred_nlz, gt_type; it holds pred_box, .*field=pred_nlz"),
        ({"pred_box": np.zeros((N, 7), np.float32)}, r"row 0 is a size of 0 .*field=pred_box"),
        ({"gt_type": np.full(N, 9)}, "row 0 is an unknown type: 9; known: 0 unknown, 1 vehicle, .*field=gt_type"),
    ],
)
def test_a_wrong_array_says_what_is_wanted(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sets(saved(tmp_path / "sets.npz", **changes))


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("boxes")
    (tmp_path / "empty.npz").write_bytes(b"")
    whole = saved(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("one.npy", "text.npz", "empty.npz", "cut.npz"):
        with pytest.raises(DataError, match=rf"cannot be read as \.npz.*{name}"):
            read_sets(tmp_path / name)
    np.savez_compressed(tmp_path / "broken.npz", **arrays())
    broken = bytearray((tmp_path / "broken.npz").read_bytes())
    broken[60:90] = b"\xff" * 30
    (tmp_path / "broken.npz").write_bytes(broken)
    for name, message in (("broken.npz", "cannot be read: "), ("nothing.npz", "file is missing")):
        with pytest.raises(DataError, match=rf"{message}.*{name}"):
            read_sets(tmp_path / name)


def box_with(column: int, values: Any) -> np.ndarray:
    out = arrays()["pred_box"]
    out[:, column] = values(out)
    return out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"pred_box": arrays()["pred_box"][:, [0, 1, 2, 4, 3, 5, 6]]}, ["length and width look exchanged"]),
        ({"pred_box": box_with(6, lambda b: b[:, 6] + np.pi / 2)}, ["heading looks off by 90 degrees"]),
        ({"pred_box": box_with(6, lambda b: b[:, 6] + np.pi)}, ["heading looks off by 180 degrees"]),
        ({"pred_box": box_with(6, lambda b: -b[:, 6])}, ["heading looks counted clockwise"]),
        ({"pred_box": box_with(2, lambda b: b[:, 2] - 0.8)}, ["z looks to be that of the bottom"]),
        ({"pred_type": np.arange(N) % 2}, ["15 of 30 predictions are of type 0 (unknown) and do not count"]),
        ({"pred_frame": np.arange(N) // 3 + 500}, ["no frame of pred_frame (500, ...) is in gt_frame (0, ...)"]),
        (
            {"pred_frame": np.arange(N) // 3 + 1},
            [
                "1 of 10 frames with predictions have no annotation",
                "1 of 10 frames with annotations have no prediction",
            ],
        ),
    ],
)
def test_odd_arrays_are_scored_and_counted(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    found = evaluate_files(saved(tmp_path / "sets.npz", **changes), tmp_path / "m.json")
    written = json.loads((tmp_path / "m.json").read_text())
    assert written == found
    frames = {*arrays()["gt_frame"].tolist(), *changes.get("pred_frame", arrays()["pred_frame"]).tolist()}
    assert written["frames"] == len(frames)
    warnings = written.get("warnings", [])
    assert len(warnings) == len(words)
    assert all(word in text for word, text in zip(words, warnings, strict=True))


def test_tables_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--sets", str(saved(tmp_path / "sets.npz")), "--out", str(tmp_path / "m.json")]
    assert main(["evaluate", "waymo", *where]) == 0
    text = capsys.readouterr().out
    assert "vehicle" in text
    assert "100.0" in text
    assert "10 frames" in text


def test_the_servers_file_is_what_the_protocol_says(tmp_path: Path) -> None:
    """Read back by the protocol's own library, from descriptions of the messages."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="objects.proto", package="t", syntax="proto2")
    kinds = {"double": 1, "float": 2, "int64": 3, "string": 9, "int32": 5}

    def message(name: str, **fields: tuple[int, str]) -> None:
        out = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            one = out.field.add(name=field, number=number, label=3 if field == "objects" else 1)
            one.type = kinds.get(kind, 11)
            if kind not in kinds:
                one.type_name = f".t.{kind}"

    names = ("center_x", "center_y", "center_z", "width", "length", "height", "heading")
    message("Box", **{name: (number, "double") for number, name in enumerate(names, 1)})
    message("Label", box=(1, "Box"), type=(3, "int32"))
    message(
        "Object", object=(1, "Label"), score=(2, "float"), context_name=(4, "string"),
        frame_timestamp_micros=(5, "int64"),
    )  # fmt: skip
    message("Objects", objects=(1, "Object"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    objects = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Objects"))()

    boxes = np.array([[1.0, -2.0, 3.0, 4.5, 2.0, 1.5, 3 * np.pi / 2], [-1.0, 0.0, 0.5, 0.7, 0.6, 1.7, 0.25]])
    frames = [
        ("segment_a", 1_550_083_467_346_370, boxes, np.array([1, 2]), np.array([0.75, 0.5], np.float32)),
        ("segment_b", 5, boxes[:0], np.array([], int), np.array([], np.float32)),
        ("segment_c", 300, boxes[1:], np.array([4]), np.array([0.25], np.float32)),
    ]
    write_objects(tmp_path / "p.bin", frames)
    objects.ParseFromString((tmp_path / "p.bin").read_bytes())
    found = [
        (o.context_name, o.frame_timestamp_micros, o.object.type, o.score, *(getattr(o.object.box, n) for n in names))
        for o in objects.objects
    ]
    assert found == [
        ("segment_a", 1_550_083_467_346_370, 1, 0.75, 1.0, -2.0, 3.0, 2.0, 4.5, 1.5, pytest.approx(-np.pi / 2)),
        ("segment_a", 1_550_083_467_346_370, 2, 0.5, -1.0, 0.0, 0.5, 0.6, 0.7, 1.7, 0.25),
        ("segment_c", 300, 4, 0.25, -1.0, 0.0, 0.5, 0.6, 0.7, 1.7, 0.25),
    ]


def test_boxes_in_the_frame_of_the_world_are_named(tmp_path: Path) -> None:
    held = arrays()
    far = held["pred_box"] + np.array([5000.0, 3000, 0, 0, 0, 0, 0], np.float32)
    found = evaluate_files(saved(tmp_path / "a.npz", pred_box=far), tmp_path / "m.json")
    assert any("lies within 300 m of its vehicle" in text for text in found["warnings"])
