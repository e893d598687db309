"""Whom a picture of a run shows beside it: its partners in the comparison that it belongs to, for every run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bevkd.config import load_papers, load_rows
from bevkd.config.comparisons import pool
from bevkd.config.papers import stand_ins_at
from bevkd.report.companions import Companion, companions, partners_of
from bevkd.report.spec import load_tables

ROWS = load_rows()


def compared(scale: str) -> set[tuple[str, str]]:
    """(run, other) of every comparison and of every difference in a table, both ways between arm and control."""
    out = set()
    for paper in load_papers().values():
        for item in paper.comparisons.values():
            names = stand_ins_at(scale) | item.at.get(scale, {})
            sides = [[names.get(run, run) for run in pool(side)] for side in (item.arm, item.baseline)]
            controls = [[names.get(run, run) for run in pool(side)] for side in item.controls.values()]
            for side in (sides[0], *controls):
                out |= set(zip(side, sides[1], strict=True))
                out |= set(zip(side, sides[0], strict=True))
    for table in load_tables(scale).values():
        for row in table.rows:
            if row.against is not None:
                out |= set(zip(pool(row.run), pool(row.against), strict=True))
    return out


@pytest.mark.parametrize("scale", ["sim", "paper"])
def test_companions_of_every_run_are_its_teacher_and_comparison_partners(scale: str) -> None:
    known = compared(scale)
    for run, row in ROWS.items():
        for seed in row.seeds:
            *others, itself = companions(ROWS, row, scale, seed)
            assert (itself.run, itself.seed) == (run, seed)
            assert len({(one.run, one.seed) for one in (*others, itself)}) == len(others) + 1
            for one in others:
                assert one.seed in ROWS[one.run].seeds
                if one.role == "teacher":
                    assert row.teacher is not None
                    there = stand_ins_at(scale).get(row.teacher, row.teacher)
                    assert (one.run, one.seed) == (there, row.teacher_seed_for(seed))
                else:
                    assert (run, one.run) in known, f"{run} is not compared with {one.run}"
                    assert ROWS[one.run].target != "demand" or row.target == "demand" or scale == "paper"
            if row.teacher is not None:
                assert any("teacher" in one.role for one in others) or (run, seed) == (
                    row.teacher,
                    row.teacher_seed_for(seed),
                )


def test_every_distilled_run_stands_beside_the_plain_student() -> None:
    for run, row in ROWS.items():
        # Networks with other compensation modules are compared with each other, distilled all of them.
        if row.teacher is not None and not run.startswith("simdistill_gcm_"):
            scale = "paper" if "sim" in row.same_as else "sim"  # another row stands for it there
            baseline = partners_of(ROWS, row, scale).baseline
            assert baseline is not None, run
            assert ROWS[baseline].teacher is None
            assert (ROWS[baseline].model, ROWS[baseline].dataset) == (row.model, row.dataset)
            assert ROWS[baseline].labelled_subset == row.labelled_subset


@pytest.mark.parametrize(
    ("run", "seed", "expected"),
    [
        ("lidar_base", 0, ["lidar_base 0"]),
        ("kitti_lidar", 0, ["kitti_lidar 0"]),
        ("unidistill_p4", 2, ["teacher lidar_base 0", "baseline camera_further 2", "distilled unidistill_p4 2"]),
        ("s6_feature", 0, ["teacher lidar_base 0", "baseline camera_further 0", "distilled s6_feature 0"]),
        (
            "monodistill",
            1,
            [
                f"teacher lidar_image {ROWS['monodistill'].teacher_seed_for(1)}",
                "baseline camera_further 1",
                "distilled monodistill 1",
            ],
        ),
        (
            "camera_reweighted",
            0,
            ["baseline camera_further 0", "distilled unidistill_p2 0", "control camera_reweighted 0"],
        ),
        (
            "dense_u_c_to_c",
            1,
            ["teacher camera_base 2", "baseline camera_further 1", "distilled dense_u 1", "control dense_u_c_to_c 1"],
        ),
        ("le_l_to_c_s2", 2, ["teacher lidar_base_s2 0", "baseline camera_further_s2 2", "distilled le_l_to_c_s2 2"]),
        ("le_lc_to_l", 0, ["teacher fusion_base 0", "baseline lidar_further 0", "distilled le_lc_to_l 0"]),
        ("scratch_p2", 1, ["teacher fusion_base 1", "baseline camera_base 1", "distilled scratch_p2 1"]),
        ("camera_depth", 0, ["baseline camera_further 0", "camera_depth 0"]),
        ("camera_depth", 9, ["baseline camera_further 0", "camera_depth 9"]),
    ],
)
def test_companions(run: str, seed: int, expected: list[str]) -> None:
    assert [f"{one.label} {one.seed}" for one in companions(ROWS, ROWS[run], "sim", seed)] == expected


def test_another_run_stands_in_at_a_scale() -> None:
    assert partners_of(ROWS, ROWS["s6_feature"], "paper").baseline == "s6_base"
    assert partners_of(ROWS, ROWS["s6_feature"], "sim").baseline == "camera_further"
    assert partners_of(ROWS, ROWS["unidistill_p2"], "paper").baseline == "camera_base", "by `same_as` of the row"
    assert partners_of(ROWS, ROWS["unidistill_p2"], "sim").baseline == "camera_further"


def test_a_teacher_that_is_the_baseline_is_shown_once() -> None:
    own = replace(ROWS["scratch_c_to_c"], teacher_seed="same")
    assert [one.label for one in companions(ROWS, own, "sim", 0)] == [
        "teacher and baseline camera_base",
        "distilled scratch_p2",
        "control scratch_c_to_c",
    ]


def test_a_run_of_no_comparison_has_its_teacher() -> None:
    own = replace(ROWS["unidistill_p4"], id="mine", seeds=(3,))
    assert companions(ROWS, own, "sim", 3) == [Companion("teacher", "lidar_base", 1), Companion("distilled", "mine", 3)]
    assert [one.label for one in companions(ROWS, own, "sim", 3)] == ["teacher lidar_base", "distilled mine"]
