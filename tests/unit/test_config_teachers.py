"""Teachers with several seeds: which of them a seed of a student learns from, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bevkd.config import RowConfig, RunConfig, first_seeds, identity_digest, load_papers, load_run, parse
from bevkd.config.chain import awaited, check_chains, needed_by, with_needed
from bevkd.distill import cache_name
from bevkd.distill.cache_key import caches_of
from bevkd.errors import ConfigError
from bevkd.train.teacher import teacher_path

ROWS = """
defaults: {dataset: nuscenes_sim, seeds: [0, 1, 2, 3, 4]}
runs:
  taught_by: {model: lidar_voxel, seeds: [0, 1]}
  fixed: {model: camera, teacher: taught_by, method: {kind: dense}}
  paired: {like: fixed, teacher_seed: paired}
  later: {like: paired, seeds: [4, 5]}
  same: {like: fixed, seeds: [0, 1], teacher_seed: same}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, RowConfig]:
    """Rows of a paper of its own."""
    (tmp_path / "papers/own").mkdir(parents=True)
    (tmp_path / "papers/own/runs.yaml").write_text(ROWS)
    monkeypatch.setenv("BEVKD_CONFIG", str(tmp_path))
    return load_papers()["own"].rows


def seeds_of(row: RowConfig) -> list[int]:
    return [row.teacher_seed_for(seed) for seed in row.seeds]


def test_seeds_of_teachers(own: dict[str, RowConfig]) -> None:
    assert {run: seeds_of(row) for run, row in own.items() if row.teacher} == {
        "fixed": [0, 0, 0, 0, 0],
        "paired": [0, 1, 0, 1, 0],
        "later": [0, 1],
        "same": [0, 1],
    }
    assert [own[run].teacher_seeds for run in ("taught_by", "fixed", "paired")] == [(), (0,), (0, 1)]
    assert needed_by(own["paired"], 3) == [("taught_by", 1)]
    assert with_needed([("paired", 1)], own) == [("paired", 1), ("taught_by", 1)]
    assert awaited(own) == {"taught_by"}


def test_fewer_seeds_keep_the_pairs(own: dict[str, RowConfig]) -> None:
    kept = first_seeds({run: own[run] for run in ("taught_by", "later")}, 1)
    assert kept["taught_by"].seeds == (0,)
    assert seeds_of(kept["later"]) == [0]
    odd = first_seeds({"taught_by": own["taught_by"], "later": replace(own["later"], seeds=(5,))}, 1)
    assert odd["taught_by"].seeds == (0, 1)
    assert seeds_of(odd["later"]) == [1], "as with all seeds"


def test_same_wants_a_teacher_of_every_seed(own: dict[str, RowConfig]) -> None:
    wider = {**own, "same": replace(own["same"], seeds=(0, 1, 2))}
    with pytest.raises(ConfigError, match=r"x\.yaml: run 'same': teacher 'taught_by' has no seed 2"):
        check_chains({"same": wider["same"]}, wider, "x.yaml")


def test_a_row_of_no_configuration_says_its_teachers_seeds() -> None:
    given = {"id": "r", "dataset": "d", "model": "m", "teacher": "t"}
    with pytest.raises(ConfigError, match="run 'r': teacher_seed 'paired' wants a row of the configuration"):
        parse(RowConfig, {**given, "teacher_seed": "paired"}, "test").teacher_seed_for(0)
    with pytest.raises(ConfigError, match="teacher_seed"):
        parse(RowConfig, {**given, "teacher_seed": []}, "test")
    with pytest.raises(ConfigError, match="teacher_seed"):
        parse(RowConfig, {**given, "teacher_seed": "other"}, "test")


def test_a_run_is_the_same_by_whatever_way_its_teacher_is_named(own: dict[str, RowConfig]) -> None:
    def digest(run: str, seed: int, teacher_seed: int | None = None) -> str:
        config = load_run(run, "sim", seed)
        row = config.row if teacher_seed is None else replace(config.row, teacher_seed=teacher_seed)
        return identity_digest(replace(config, row=row))

    assert digest("paired", 0) == digest("fixed", 0) == digest("same", 0)
    assert digest("paired", 2) == digest("fixed", 2)
    assert digest("paired", 1) == digest("same", 1) == digest("fixed", 1, teacher_seed=1) != digest("fixed", 1)


def test_every_seed_of_a_teacher_has_a_cache(own: dict[str, RowConfig]) -> None:
    run = load_run("paired", "sim", 0)
    found = caches_of(run)
    assert {name.rpartition("_")[0]: [one.seed for one in runs] for name, runs in found.items()} == {
        "taught_by_seed0": [0, 2, 4],
        "taught_by_seed1": [1, 3],
    }
    assert all(cache_name(one) == name for name, runs in found.items() for one in runs)
    assert set(caches_of(load_run("later", "sim", 4))) == set(found), "shared"
    assert list(caches_of(load_run("fixed", "sim", 0))) == [cache_name(run)]
    assert caches_of(load_run("taught_by", "sim", 0)) == {}


def test_the_teachers_file_goes_with_the_seed(own: dict[str, RowConfig]) -> None:
    def file(run: RunConfig) -> Path:
        return teacher_path(run, Path("results/runs/sim") / run.run / f"seed{run.seed}")

    assert file(load_run("paired", "sim", 3)) == Path("results/runs/sim/taught_by/seed1/model.pt")
    assert file(replace(load_run("paired", "sim", 3), seed=4)) == Path("results/runs/sim/taught_by/seed0/model.pt")
