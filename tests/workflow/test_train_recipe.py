"""What is switched off before a training ends, and a batch in parts, in whole trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_train_loop import assert_same_bits, losses, weights
from train_case import folder, tiny_model, tiny_run
from train_process import train_on_two

from bevkd.config import AugmentConfig, RunConfig
from bevkd.config.schema import BEVAugmentConfig, ImageAugmentConfig
from bevkd.config.training import SwitchOff, Timeline
from bevkd.data import FrameDataset
from bevkd.data.batch import Batch
from bevkd.distill.methods.imitation_settings import ImitationConfig
from bevkd.errors import ConfigError, Interrupted
from bevkd.train import train
from bevkd.train.resolve import resolve
from bevkd.train.stream import StepDataset, batch_plan, phases, timed_batches, training_frames


def stretches(run: RunConfig) -> tuple[list[Any], Any]:
    frames = training_frames(run)
    plan = batch_plan(run, frames)
    return phases(run, frames, plan, Timeline(run.train.steps, plan.steps_per_epoch)), plan


def batches(samples: StepDataset) -> list[Batch]:
    return [batch for batch, _ in timed_batches(samples, 0)]


def test_class_balance_ends_and_the_rest_goes_on(smoke_dataset: Any) -> None:
    off = (SwitchOff(fraction=0.5, what=("cbgs",)),)
    run = tiny_run(smoke_dataset, steps=8, data={"cbgs": True}, switch_off=off)
    found, balanced = stretches(run)
    assert [phase.first for phase in found] == [0, 4]
    assert found[0].plan is balanced
    even = batch_plan(tiny_run(smoke_dataset, steps=8), found[0].frames)
    assert [found[1].plan.batch(k) for k in range(4, 8)] == [even.batch(k) for k in range(4, 8)]
    steps = batches(StepDataset(found, 0, 8, 0, 1))
    tokens = found[0].frames.tokens
    for k, plan in ((3, balanced), (4, even), (7, even)):
        assert steps[k].tokens == [tokens[index] for index, _ in plan.batch(k)]
    late = batches(StepDataset(found, 5, 8, 0, 1))  # as after a resume
    assert late[1].tokens == steps[6].tokens


def test_pasting_and_augmentation_end(smoke_dataset: Any) -> None:
    bev = BEVAugmentConfig(rotate_deg=45.0, scale=(0.9, 1.1), translate_std=0.5, flip=True)
    augment = AugmentConfig(gt_paste={"car": 12, "pedestrian": 12}, bev=bev)
    off = (SwitchOff(step=2, what=("gt_paste",)), SwitchOff(step=4, what=("augment.bev",)))
    run = tiny_run(smoke_dataset, steps=6, data={"augment": augment}, switch_off=off)
    found, _ = stretches(run)
    assert [phase.first for phase in found] == [0, 2, 4]
    first, second, third = (phase.frames for phase in found)
    assert first.data == run.data
    pasted = [len(first.get(i, 0).boxes) - len(second.get(i, 0).boxes) for i in range(len(first))]
    assert max(pasted) > 0
    assert not np.allclose(second.get(0, 0).bev_aug, np.eye(4))
    for i in range(3):
        sample = third.get(i, 0)
        np.testing.assert_array_equal(sample.bev_aug, np.eye(4))
        assert len(sample.boxes) <= len(third.boxes(i)[0])


@pytest.mark.parametrize("cached", [False, True])
def test_images_as_they_are_in_the_last_epochs(smoke_dataset: Any, cached: bool) -> None:
    augment = AugmentConfig(
        image=ImageAugmentConfig(enabled=True, scale=(0.9, 1.1), test_scale=1.0, rotate_deg=5.4, flip=0.5)
    )
    off = (SwitchOff(epoch=3, of=4, what=("augment.image",)),)
    options = {"augment": augment, "memory_cache": cached}
    run = tiny_run(smoke_dataset, model=tiny_model("camera"), steps=8, data=options, switch_off=off)
    found, _ = stretches(run)
    assert [phase.first for phase in found] == [0, 6]
    before = [found[0].frames.get(0, epoch).cameras for epoch in (0, 1)]
    plain = FrameDataset(run.data, run.model, "train", train=False, seed=0)
    expected = plain.get(plain.tokens.index(found[0].frames.tokens[0]), 0).cameras
    after = [found[1].frames.get(0, epoch).cameras for epoch in (0, 1)]
    again = found[0].frames.get(0, 0).cameras  # the first stretch is as it was
    assert expected is not None
    assert before[0] is not None
    assert before[1] is not None
    assert again is not None
    assert not np.array_equal(before[0].images, before[1].images)
    np.testing.assert_array_equal(again.images, before[0].images)
    for cameras in after:
        assert cameras is not None
        np.testing.assert_array_equal(cameras.images, expected.images)


def test_cached_targets_know_one_augmentation(
    smoke_dataset: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"model": tiny_model("camera"), "teacher": "teacher", "method": "imitation", "steps": 2}
    run = tiny_run(smoke_dataset, "still", switch_off=(SwitchOff(step=1, what=("augment.bev",)),), **options)
    with pytest.raises(ConfigError, match=r"switch_off: augment.bev wants a live teacher"):
        train(run, folder(trained, run))
    # A method that takes nothing from the teacher reads no cache.
    monkeypatch.setattr(ImitationConfig, "uses_teacher", False)
    lesson = resolve(run, folder(trained, run))
    assert [phase.first for phase in lesson.stretches] == [0, 1]
    assert (lesson.cached, lesson.live) == (False, False)
    monkeypatch.undo()
    fair = tiny_run(smoke_dataset, "fair", switch_off=(SwitchOff(step=1, what=("cbgs",)),), **options)
    train(fair, folder(trained, fair))


def test_a_training_in_parts_resumes_and_is_close_to_the_whole(smoke_dataset: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 4, "steps": 3, "log_every": 1}
    run = tiny_run(smoke_dataset, "parts", accumulate=2, **options)
    expected = weights(train(run, folder(tmp_path, run)))
    out = folder(tmp_path / "resumed", run)
    with pytest.raises(Interrupted):
        train(run, out, stop_after=2)
    assert_same_bits(weights(train(run, out)), expected)
    assert losses(out) == losses(folder(tmp_path, run))
    whole = tiny_run(smoke_dataset, "whole", **options)
    train(whole, folder(tmp_path, whole))
    # The same frames and normalisers; batch norms see two frames at a time instead of four.
    (_, ours), (_, theirs) = losses(folder(tmp_path, run))[0], losses(folder(tmp_path, whole))[0]
    assert ours["total"] == pytest.approx(theirs["total"], rel=0.1)
    frames, plan = (s := stretches(run))[0][0].frames, s[1]
    parts = batches(StepDataset(s[0], 0, 3, 0, 1, parts=2))
    assert len(parts) == 6
    tokens = [frames.tokens[index] for index, _ in plan.batch(1)]
    assert (parts[2].tokens, parts[3].tokens) == (tokens[0::2], tokens[1::2])
    odd = tiny_run(smoke_dataset, "odd", accumulate=3, batch_size=4)
    with pytest.raises(ConfigError, match="cannot be divided among 3 processes or parts"):
        train(odd, folder(tmp_path, odd))


def test_parts_on_two_processes(smoke_dataset: Any, tmp_path: Path) -> None:
    """Four parts of a batch, two on each process, in step with a process that has all four."""
    run = tiny_run(smoke_dataset, "parts", accumulate=2, batch_size=4, steps=2, lr=1e-3)
    one, two = folder(tmp_path / "one", run), folder(tmp_path / "two", run)
    train(run, one)
    train_on_two(run, two)
    ours, reference = losses(two), losses(one)
    assert [step for step, _ in ours] == [1, 2]
    for (_, split), (_, whole) in zip(ours, reference, strict=True):
        assert split["total"] == pytest.approx(whole["total"], rel=0.1)  # batch norms see other pairs of frames
