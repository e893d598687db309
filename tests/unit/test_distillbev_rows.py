"""DistillBEV's rows: two protocols, teachers, and what differs between the arms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bevkd.config import RunConfig, load_run, rows_at
from bevkd.config.identity import identity, parse_options
from bevkd.distill.methods.distillbev_settings import DistillBEVConfig

ARMS = ("distillbev_further_cp", "distillbev_further_mvp", "distillbev_own", "distillbev_b0")


def options(run: RunConfig) -> DistillBEVConfig:
    assert run.row.method is not None
    found = parse_options(run.row.method.kind, run.row.method.options)
    assert isinstance(found, DistillBEVConfig)
    return found


def starts(run: RunConfig) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(one.run, run.row.init_seed_for(one, run.seed), one.parts) for one in run.row.inits]


@pytest.mark.parametrize("scale", ["smoke", "sim"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_arms_of_further_training_differ_in_what_teaches_alone(scale: str, seed: int) -> None:
    baseline = load_run("distillbev_further", scale, seed)
    for name in ARMS:
        run = load_run(name, scale, seed)
        assert starts(run) == starts(baseline) == [("distillbev_4d", seed, ("all",))]
        plain = replace(run, run=baseline.run, row=replace(baseline.row, id=name))
        assert identity(plain) == identity(baseline)
        assert options(run).sums == "published"
        assert options(run).used.levels == (*["B0"] * (name == "distillbev_b0"), "B1", "B2", "high")
    own = load_run("distillbev_own", scale, seed)
    assert own.teacher_seed != seed, "a student is not its own teacher"


@pytest.mark.parametrize("name", ARMS)
def test_at_the_published_size_arms_start_from_their_teachers_heads(name: str) -> None:
    """Spec, section 3.1.8; sums are the paper's own."""
    run = load_run(name, "paper", 1)
    assert starts(run) == [(run.row.teacher, run.teacher_seed, ("head.tasks",))]
    assert options(run).sums == "own"
    assert (run.train.epochs, run.train.batch_size, run.train.lr, run.train.grad_clip) == (24, 64, 2e-4, 5.0)
    assert run.train.schedule.kind == "step"
    assert run.data.past.train == (2, 8)
    taught = load_run(str(run.row.teacher), "paper", run.teacher_seed)
    assert run.model.grid.build() == taught.model.grid.build()


def test_centerpoint_is_shared_at_the_small_scales() -> None:
    assert rows_at("sim")["distillbev_further_cp"].teacher == "lidar_base"
    assert rows_at("paper")["distillbev_further_cp"].teacher == "distillbev_cp"
