"""SimDistill with the teacher's fuser trained, as in the released code: what learns, what stays, and where it leads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models_batch import make_batch, model_config

from bevkd.config import MethodConfig
from bevkd.data.batch import Batch
from bevkd.distill import DistillEngine, build_method
from bevkd.distill.methods.simdistill import SimDistill
from bevkd.distill.trained_fuser import TrainedFuser
from bevkd.errors import ConfigError
from bevkd.models.detector import Detector, build_detector

ALONE = {"imd": {"enabled": False}, "cmd": {"enabled": False}}


def pair() -> tuple[Detector, Detector, Batch]:
    """A student, its teacher with statistics of its own, and a batch for both."""
    torch.manual_seed(0)
    of_teacher = model_config("fusion", "smoke")
    student, teacher = build_detector(model_config("simdistill", "smoke")), build_detector(of_teacher)
    batch = make_batch(of_teacher, 2)
    with torch.no_grad():
        teacher.train()(batch)
    return student, teacher.eval(), batch


def method(student: Detector, teacher: Detector, take: bool = True, **options: Any) -> SimDistill:
    torch.manual_seed(0)
    made = build_method(MethodConfig("simdistill", options), student.spec, teacher.spec)
    assert isinstance(made, SimDistill)
    if take:
        made.take(teacher)
    return made


def engine(student: Detector, teacher: Detector, **options: Any) -> DistillEngine:
    return DistillEngine(method(student, teacher, **options), student.grid, teacher)


def test_before_it_learns_losses_are_those_of_a_frozen_fuser() -> None:
    student, teacher, batch = pair()
    outputs = student.eval()(batch)
    frozen, trained = (engine(student, teacher, teacher_fuser=how).eval() for how in ("frozen", "trained"))
    wanted, found = frozen(outputs, batch), trained(outputs, batch)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)


def test_the_fuser_learns_and_nothing_else_of_the_teacher() -> None:
    student, teacher, batch = pair()
    made = engine(student, teacher, teacher_fuser="trained").train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    assert isinstance(made.method.fuser, TrainedFuser)
    learns = {name for name, value in made.named_parameters() if value.requires_grad}
    assert {name for name in learns if ".fuser." in name} == {
        f"method.fuser.fuser.{name}"
        for name, _ in teacher.fuser.named_parameters()  # type: ignore[union-attr]
    }
    assert not any(".frozen." in name for name in learns)
    made(student(batch), batch)["total"].backward()
    for name, value in made.named_parameters():
        assert (value.grad is not None and bool(value.grad.any())) == value.requires_grad, name
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    frozen = made.method.fuser.frozen
    assert not any(module.training for module in frozen.modules())
    assert made.method.fuser.fuser.training


@pytest.mark.parametrize("part", ["mmd_f", "mmd_p"])
def test_the_target_comes_to_the_student(part: str) -> None:
    """The danger: a loss falls although the student stays where it is."""
    student, teacher, batch = pair()
    with torch.no_grad():
        outputs = student.eval()(batch)
    made = engine(
        student, teacher, teacher_fuser="trained", **ALONE | {p: {"enabled": p == part} for p in ("mmd_f", "mmd_p")}
    )
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = made(outputs, batch)["total"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_networks_that_do_not_fit_are_refused() -> None:
    student, teacher, batch = pair()
    with pytest.raises(ConfigError, match="mmd_f or mmd_p"):
        method(student, teacher, teacher_fuser="trained", mmd_f={"enabled": False}, mmd_p={"enabled": False})
    with pytest.raises(ConfigError, match="fuse camera and lidar"):
        TrainedFuser(build_detector(model_config("camera", "smoke")), ("camera", "lidar"))
    displaced = build_detector(model_config("bevdet4d", "smoke"))
    assert displaced.head.reads_batch  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="its map alone"):
        TrainedFuser(displaced, displaced.fused)  # type: ignore[arg-type]
    alone = method(student, teacher, take=False, teacher_fuser="trained")
    with pytest.raises(ConfigError, match="the teacher itself"):
        DistillEngine(alone, student.grid, teacher)(student(batch), batch)
