"""Samples on disk: batches and trainings are the same with and without, whoever fills it, whatever befalls it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train_loop import assert_same_bits, weights
from train_case import folder, tiny_model, tiny_run

from bevkd.config import AugmentConfig, RunConfig
from bevkd.config.schema import BEVAugmentConfig, ImageAugmentConfig
from bevkd.data import FrameDataset, Sample, collate, store
from bevkd.train import train
from bevkd.train.predict import test_frames as frames_to_test
from bevkd.train.resolve import resolve

AUGMENT = AugmentConfig(
    variants=3,
    unlabelled_variants=2,
    image=ImageAugmentConfig(enabled=True, scale=(0.9, 1.1), test_scale=1.0, rotate_deg=3.0),
    bev=BEVAugmentConfig(rotate_deg=20.0, scale=(0.95, 1.05), flip=True),
)


@pytest.fixture
def dataset(smoke_dataset: Any, tmp_path: Path) -> Any:
    """The simulated data set with an index of this test's own, and so a store of its own."""
    shutil.copytree(smoke_dataset.index, tmp_path / "index")
    return replace(smoke_dataset, index=tmp_path / "index")


def case(dataset: Any, *sensors: str, gb: float = 1.0, paste: bool = False, **options: Any) -> RunConfig:
    augment = replace(AUGMENT, gt_paste={"car": 6}) if paste else AUGMENT
    data = {"augment": augment, "store_gb": gb, "lidar_sweeps": 2} | options.pop("data", {})
    model = tiny_model(*sensors, depth_weight=1.0 if "camera" in sensors and "lidar" in sensors else 0.0)
    return tiny_run(dataset, options.pop("name", "stored"), model=model, data=data, **options)


def without_store(run: RunConfig) -> RunConfig:
    return replace(run, data=replace(run.data, store_gb=0.0))


def frames_of(run: RunConfig, frames: Any = "all") -> FrameDataset:
    return FrameDataset(run.data, run.model, "train", train=True, seed=0, frames=frames)


def tensors(value: Any, at: str = "batch") -> dict[str, torch.Tensor]:
    """Every tensor of a batch by its place."""
    if isinstance(value, torch.Tensor):
        return {at: value}
    if is_dataclass(value):
        return {k: v for f in fields(value) for k, v in tensors(getattr(value, f.name), f"{at}.{f.name}").items()}
    if isinstance(value, dict):
        return {k: v for name, part in value.items() for k, v in tensors(part, f"{at}.{name}").items()}
    return {}


def assert_same_batch(one: Any, other: Any) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert tensor.stride() == theirs[name].stride(), name
        assert torch.equal(tensor, theirs[name]), name
    assert (one.tokens, one.variants) == (other.tokens, other.variants)


def files(dataset: Any) -> list[Path]:
    root = Path(dataset.index).with_name("index_samples")
    return sorted(path for path in root.glob("*/*") if path.name != store.MANIFEST)


@pytest.mark.parametrize("sensors", [("camera",), ("camera", "lidar")])
def test_batches_are_the_same_to_the_bit(dataset: Any, sensors: tuple[str, ...]) -> None:
    run = case(dataset, *sensors)
    made, filled, read = frames_of(without_store(run)), frames_of(run), frames_of(run)
    wanted = [[made.get(i, epoch) for i in range(len(made))] for epoch in range(4)]
    assert not files(dataset)
    for epoch, samples in enumerate(wanted):
        assert_same_batch(collate([filled.get(i, epoch) for i in range(len(filled))]), collate(samples))
    assert files(dataset)
    read._loader = None  # type: ignore[assignment]  # whatever is not in the store cannot be made
    for epoch, samples in enumerate(wanted):
        assert_same_batch(collate([read.get(i, epoch) for i in range(len(read))]), collate(samples))
    variants = {sample.variant for samples in wanted for sample in samples}
    assert variants == {0, 1, 2}


def test_points_alone_are_not_stored(dataset: Any) -> None:
    run = case(dataset, "lidar")
    frames, made = frames_of(run), frames_of(without_store(run))
    assert_same_batch(collate([frames.get(i, 0) for i in range(4)]), collate([made.get(i, 0) for i in range(4)]))
    assert not files(dataset)


def test_pasted_objects_are_stored(dataset: Any) -> None:
    """To find room for them costs more than all else; the store is that of their database."""
    run = case(dataset, "lidar", paste=True)
    filled, read, made = frames_of(run), frames_of(run), frames_of(without_store(run))
    wanted = collate([made.get(i, 0) for i in range(4)])
    assert_same_batch(collate([filled.get(i, 0) for i in range(4)]), wanted)
    assert len(files(dataset)) == 4
    read._loader = read._paste = None  # type: ignore[assignment]
    assert_same_batch(collate([read.get(i, 0) for i in range(4)]), wanted)


def test_frames_at_test_time_are_stored_apart(dataset: Any) -> None:
    run = case(dataset, "camera", "lidar")
    train_frames, made = frames_of(run), frames_to_test(without_store(run), "val")
    train_frames.get_variant(0, 0)
    filled, read = frames_to_test(run, "val"), frames_to_test(run, "val")
    wanted = collate([made.get(i, 0) for i in range(3)])
    assert_same_batch(collate([filled.get(i, 0) for i in range(3)]), wanted)
    read._loader = None  # type: ignore[assignment]
    assert_same_batch(collate([read.get(i, 0) for i in range(3)]), wanted)
    assert len({path.parent for path in files(dataset)}) == 2


@pytest.mark.parametrize("mode", ["cached", "live"])
def test_distillation_is_the_same(dataset: Any, tmp_path: Path, mode: str) -> None:
    """With unlabelled frames; the second training with a store reads what the first has left."""
    found = {}
    for root, gb in (("plain", 0.0), ("first", 1.0), ("second", 1.0)):
        teacher = case(dataset, "camera", "lidar", gb=gb, name="teacher", steps=2)
        train(teacher, folder(tmp_path / root, teacher))
        run = case(
            dataset, "camera", gb=gb, name="student", teacher="teacher", method="dense", teacher_mode=mode,
            frames="all", unlabelled_per_batch=1, steps=3,
        )  # fmt: skip
        found[root] = weights(train(run, folder(tmp_path / root, run)))
    assert files(dataset)
    assert_same_bits(found["first"], found["plain"])
    assert_same_bits(found["second"], found["plain"])


def test_a_live_teacher_sees_the_same(dataset: Any, tmp_path: Path) -> None:
    teacher = case(dataset, "camera", "lidar", name="teacher", steps=2)
    train(teacher, folder(tmp_path, teacher))
    student = case(
        dataset, "camera", "lidar", teacher="teacher", method="dense", teacher_mode="live", data={"lidar_sweeps": 0}
    )
    batches = []
    for run in (without_store(student), student, student):
        lesson = resolve(run, folder(tmp_path, run))
        batches.append(
            [collate([lesson.frames.get(i, e) for i, e in lesson.stretches[0].plan.batch(s)]) for s in (0, 1)]
        )
    for plain, first, second in zip(*batches, strict=True):
        assert plain.teacher is not None
        assert_same_batch(first, plain)
        assert_same_batch(second, plain)


def test_fresh_augmentations_are_not_stored(dataset: Any) -> None:
    run = case(dataset, "camera", data={"augment": replace(AUGMENT, variants=0)})
    frames_of(run).get(0, 0)
    assert not files(dataset)


def test_switched_off_augmentation_is_stored_apart(dataset: Any) -> None:
    run = case(dataset, "camera")
    plain = frames_of(without_store(run)).without(frozenset({"augment.image"}))
    frames = frames_of(run)
    frames.get_variant(0, 1)
    assert_same_batch(
        collate([frames.without(frozenset({"augment.image"})).get_variant(0, 1)]), collate([plain.get_variant(0, 1)])
    )
    assert len({path.parent for path in files(dataset)}) == 2


def other_settings() -> dict[str, Callable[[RunConfig], RunConfig]]:
    def data(**changes: Any) -> Callable[[RunConfig], RunConfig]:
        return lambda run: replace(run, data=replace(run.data, **changes))

    return {
        "augment": data(augment=replace(AUGMENT, bev=replace(AUGMENT.bev, rotate_deg=21.0))),
        "images": data(augment=replace(AUGMENT, image=replace(AUGMENT.image, rotate_deg=2.0))),
        "sweeps": data(lidar_sweeps=1),
        "classes": data(classes=("car", "pedestrian")),
        "points": data(min_points=5),
        "grid": lambda run: replace(run, model=replace(run.model, grid=replace(run.model.grid, reach=12.8))),
        "mean": data(image_mean=(1.0, 2.0, 3.0)),
    }


@pytest.mark.parametrize("name", list(other_settings()))
def test_other_settings_have_other_samples(dataset: Any, name: str) -> None:
    run = case(dataset, "camera", "lidar")
    frames_of(run).get_variant(0, 0)
    other = other_settings()[name](run)
    found, wanted = frames_of(other).get_variant(0, 0), frames_of(without_store(other)).get_variant(0, 0)
    assert_same_batch(collate([found]), collate([wanted]))
    assert len({path.parent for path in files(dataset)}) == 2


def test_how_many_variants_there_are_makes_no_other_samples(dataset: Any) -> None:
    run = case(dataset, "camera")
    more = replace(run, data=replace(run.data, augment=replace(AUGMENT, variants=9), memory_cache=False, cbgs=True))
    for one in (run, more):
        frames_of(one).get_variant(0, 0)
    assert len(files(dataset)) == 1


@pytest.mark.parametrize("damage", ["cut", "zeros", "a bit", "empty", "header", "another frame"])
def test_what_is_damaged_is_made_anew(dataset: Any, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    run = case(dataset, "camera", "lidar")
    wanted = frames_of(run).get_variant(0, 0)
    (path,) = files(dataset)
    good = path.read_bytes()
    bad = bytearray(good)
    if damage == "cut":
        bad = bad[:-4096]
    elif damage == "zeros":
        bad[-8192:-4096] = bytes(4096)
    elif damage == "a bit":
        bad[len(bad) // 2] ^= 4
    elif damage == "empty":
        bad = bytearray()
    elif damage == "header":
        bad[0:4] = b"\xff\xfe{}"
    else:
        frames_of(run).get_variant(1, 0)
        bad = bytearray(next(other for other in files(dataset) if other != path).read_bytes())
    path.write_bytes(bad)
    with caplog.at_level(logging.WARNING):
        found = frames_of(run).get_variant(0, 0)
    assert str(path) in caplog.text
    assert_same_batch(collate([found]), collate([wanted]))
    assert path.read_bytes() == good
    caplog.clear()
    frames_of(run).get_variant(0, 0)
    assert not caplog.text


def test_a_full_store_is_left_as_it_is(dataset: Any) -> None:
    run = case(dataset, "camera")
    one = len(collate([frames_of(run).get_variant(0, 0)]).tokens)
    assert one == 1
    size = files(dataset)[0].stat().st_size
    small = replace(run, data=replace(run.data, store_gb=3.5 * size / 1e9))
    frames, made = frames_of(small), frames_of(without_store(run))
    for i in range(6):
        assert_same_batch(collate([frames.get_variant(i, 0)]), collate([made.get_variant(i, 0)]))
    assert 2 <= len(files(dataset)) <= 3
    assert store._size(Path(dataset.index).with_name("index_samples")) <= 3.5 * size


def test_samples_of_other_code_make_room(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = case(dataset, "camera")
    with monkeypatch.context() as patch:
        patch.setattr(store, "makers", lambda extra=frozenset(): "older code")
        frames_of(run).get_variant(0, 0)
    (old,) = files(dataset)
    other = replace(run, data=replace(run.data, min_points=3))
    frames_of(other).get_variant(0, 0)
    assert len(files(dataset)) == 2  # there is room for both
    small = replace(run, data=replace(run.data, store_gb=2.5 * old.stat().st_size / 1e9))
    frames_of(small).get_variant(0, 0)
    assert len(files(dataset)) == 2
    assert not old.exists()


def test_begun_by_another_process_just_now(dataset: Any) -> None:
    run = case(dataset, "camera")
    frames_of(run).get_variant(0, 0)
    (first,) = files(dataset)
    begun = first.parent.with_name("begun")
    begun.mkdir()
    small = replace(run, data=replace(run.data, store_gb=1e-9))
    frames_of(small).get_variant(1, 0)
    assert begun.exists()
    os.utime(begun, (time.time() - 7200, time.time() - 7200))
    frames_of(small).get_variant(1, 0)
    assert not begun.exists()
    assert first.exists()


def test_a_folder_that_cannot_be_written(dataset: Any) -> None:
    Path(dataset.index).with_name("index_samples").write_text("a file")
    run = case(dataset, "camera")
    found = frames_of(run).get_variant(0, 0)
    assert_same_batch(collate([found]), collate([frames_of(without_store(run)).get_variant(0, 0)]))


def test_parts_of_new_kinds_of_input(tmp_path: Path) -> None:
    held = store.SampleStore(tmp_path / "s", "code", {"index": 1}, 10**9)
    plain: dict[str, Any] = {"bev_aug": np.eye(4), "boxes": np.zeros((0, 9)), "labels": np.zeros(0, np.int64)}
    sample = Sample("t", 0, True, inputs=("new",), extra={"new": np.arange(3, dtype=np.int16)}, **plain)
    held.write(sample)
    found = held.read("t", 0, True)
    assert found is not None
    assert found.extra["new"].dtype == np.int16
    assert found.extra["new"].tolist() == [0, 1, 2]
    assert found.boxes.shape == (0, 9)
    assert held.read("t", 0, False) is None
    held.write(Sample("u", 0, True, inputs=("new",), extra={"new": {"deeper": np.ones(1)}}, **plain))
    assert held.read("u", 0, True) is None


def fill(run: RunConfig, order: int) -> None:
    frames = frames_of(run)
    for i in list(range(len(frames)))[::order]:
        for variant in range(frames.variant_count(i)):
            frames.get_variant(i, variant)


def test_two_processes_fill_it_at_once(dataset: Any) -> None:
    run = case(dataset, "camera", "lidar")
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=fill, args=(run, order)) for order in (1, -1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    frames, made = frames_of(run), frames_of(without_store(run))
    count = sum(frames.variant_count(i) for i in range(len(frames)))
    assert len(files(dataset)) == count
    frames._loader = None  # type: ignore[assignment]
    for i in range(len(frames)):
        assert_same_batch(collate([frames.get_variant(i, 0)]), collate([made.get_variant(i, 0)]))


def test_a_changed_index_has_samples_of_its_own(dataset: Any) -> None:
    run = case(dataset, "camera")
    frames = frames_of(run)
    assert frames._store is not None
    made_of = json.loads(json.dumps(frames._store.made_of))
    assert made_of["index"][0] == frames.index.facts
    other = store.SampleStore(frames._store.root, "code", made_of | {"index": "another"}, 1)
    assert other.folder != frames._store.folder
