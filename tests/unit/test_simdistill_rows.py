"""SimDistill's rows: two protocols, a teacher with LiDAR, and what differs between the arms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bevkd.config import RunConfig, load_run, rows_at
from bevkd.config.identity import identity

FURTHER = ("simdistill_further_kd", "simdistill_own")


def starts(run: RunConfig) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(one.run, run.row.init_seed_for(one, run.seed), one.parts) for one in run.row.inits]


@pytest.mark.parametrize("scale", ["smoke", "sim"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_arms_differ_in_what_teaches_alone(scale: str, seed: int) -> None:
    """From scratch, and from the trained student of the seed."""
    for arms, plain, start in (
        (("simdistill",), "simdistill_student", ("image_weights", 0, ("camera.backbone", "camera.neck"))),
        (FURTHER, "simdistill_further", ("simdistill_student", seed, ("all",))),
    ):
        baseline = load_run(plain, scale, seed)
        for name in arms:
            run = load_run(name, scale, seed)
            assert starts(run) == starts(baseline) == [start]
            assert identity(replace(run, run=baseline.run, row=replace(baseline.row, id=name))) == identity(baseline)
    assert load_run("simdistill_own", scale, seed).teacher_seed != seed, "a student is not its own teacher"


@pytest.mark.parametrize("scale", ["smoke", "sim"])
def test_the_baseline_is_the_camera_detector_trained_alike(scale: str) -> None:
    rows = rows_at(scale)
    assert rows["simdistill"].teacher == "fusion_base"
    student, baseline = load_run("simdistill_student", scale, 0), load_run("camera_base", scale, 0)
    assert student.train == baseline.train
    assert student.data == baseline.data
    assert student.model.sensors == baseline.model.sensors == ("camera",)
    assert student.model.grid == baseline.model.grid
    assert starts(student) == starts(baseline)


def test_at_the_published_size_teacher_and_student_share_their_grid() -> None:
    student, teacher = load_run("simdistill", "paper", 0), load_run("simdistill_teacher", "paper", 0)
    assert student.row.teacher == "simdistill_teacher"
    assert student.model.grid.build() == teacher.model.grid.build()
    train = student.train
    assert (train.epochs, train.batch_size, train.lr, train.grad_clip) == (20, 48, 2e-4, 35.0)
    assert student.model.camera.backbone.kind == teacher.model.camera.backbone.kind == "swin"
    assert load_run("simdistill_c", "paper", 0).model.grid.cell == 0.8
    assert load_run("simdistill_c_grid", "paper", 0).model.grid.build() == student.model.grid.build()
