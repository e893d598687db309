"""CRKD's rows: three stages, the grid of the ablations, and what differs between them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from bevkd.config import load_rows, load_run
from bevkd.config.identity import parse_options
from bevkd.distill.methods.crkd_settings import CRKDConfig
from bevkd.report import tables
from bevkd.report.fill import published_gain, relative_gain
from bevkd.report.spec import TableConfig, load_claims, load_tables, pool

TABLES = [f"crkd_s{number}" for number in range(3, 10)] + ["crkd_a4"]


def taught_in(tables: list[str], scale: str) -> set[str]:
    rows, known = load_rows(), load_tables(scale)
    shown = {run for table in tables for row in known[table].rows for run in pool(row.run)}
    return {run for run in shown if rows[run].method is not None}


def options(run: str, scale: str = "sim") -> CRKDConfig:
    method = load_run(run, scale, 0).row.method
    assert method is not None
    assert method.kind == "crkd"
    found = parse_options(method.kind, method.options)
    assert isinstance(found, CRKDConfig)
    return found


@pytest.mark.parametrize("scale", ["smoke", "sim", "paper"])
def test_fifteen_third_stages_stand_behind_the_tables(scale: str) -> None:
    runs = taught_in(TABLES, scale) | {"crkd"}
    assert len(runs) == 15
    assert len({(repr(options(run, scale)), load_run(run, scale, 0).model.radar.calibration) for run in runs}) == 15


@pytest.mark.parametrize("scale", ["smoke", "sim", "paper"])
def test_a_third_stage_starts_from_the_student_at_half_its_rate(scale: str) -> None:
    student = load_run("crkd_student", scale, 0)
    for run in (
        *taught_in(TABLES, scale),
        "crkd",
        "crkd_further",
        "crkd_further_calib",
        "crkd_cr_to_cr",
        "crkd_reweighted",
    ):
        stage = load_run(run, scale, 0)
        (start,) = stage.row.inits
        assert (start.run, start.seed, start.parts) == ("crkd_student", "same", ("all",))
        assert stage.train.lr == pytest.approx(student.train.lr / 2)
        assert not stage.data.augment.gt_paste
        calibrated = stage.model.radar.calibration
        assert start.fresh == (("radar.calibration",) if calibrated else ())
        if stage.row.method is not None:  # it is a part of CSRD, but for the row of Table S3 that leaves it out
            without = run == "crkd_csrd_uncalibrated"
            assert bool(calibrated) == ("csrd" in options(run, scale).on and not without)
        if scale == "paper":
            assert (stage.train.batch_size, stage.train.epochs, stage.train.lr) == (8, 20, 1e-4)


def test_pairs_of_the_ablations_differ_in_what_is_claimed() -> None:
    """Two distilled students that a claim compares: one option apart, and nothing else."""
    expected: dict[str, dict[str, Any]] = {
        "crkd_s4_teacher_heat_map": {"csrd.source": ("teacher_heatmap", "gt_heatmap")},
        "crkd_s5_mean_map": {"csrd.pool": ("mean_paper", "max")},
        "crkd_s6_gated_map": {"msfd.camera_feature": ("gated", "ungated")},
        "crkd_s7_both_over_camera_map": {"msfd.location": ("camera+fused", "camera")},
        "crkd_s7_both_over_fused_map": {"msfd.location": ("camera+fused", "fused")},
        "crkd_s8_scaled_over_dense_map": {"msfd.mask": ("scaled_box", "dense")},
        "crkd_s8_scaled_over_gaussian_map": {"msfd.mask": ("scaled_box", "gaussian")},
        "crkd_s9_dynamic_over_static_map": {"respd.weights": ("dynamic", "static")},
        "crkd_s9_dynamic_over_vanilla_map": {"respd.weights": ("dynamic", "vanilla")},
        "crkd_a4_l1_map": {"csrd.norm": ("l1", "l2")},
        "crkd_s3_calibration_map": {},
    }
    claims = load_claims("sim")
    for name, apart in expected.items():
        (arm,), (than,) = pool(claims[name].better), pool(claims[name].than)
        mine, theirs = options(arm), options(than)
        for key, (a, b) in apart.items():
            part, field = key.split(".")
            assert (getattr(getattr(mine, part), field), getattr(getattr(theirs, part), field)) == (a, b), name
            theirs = replace(theirs, **{part: replace(getattr(theirs, part), **{field: a})})
        assert mine == theirs, name
        rows = [load_run(run, "sim", 0).row for run in (arm, than)]
        assert len({(row.teacher, row.teacher_seed, row.method.factor) for row in rows if row.method}) == 1, name


def test_lengths_of_the_method_are_halved_where_the_world_is() -> None:
    for scale, part in (("paper", 1.0), ("sim", 0.5), ("smoke", 0.5)):
        found = options("crkd", scale)
        assert (found.msfd.r1, found.msfd.r2) == (20 * part, 30 * part)
        assert found.msfd.clip == (0.5 * part, 4.0 * part)
        assert found.reld.sizes == tuple(round(size * part) for size in (32, 16, 8, 4))
        assert (found.weights.csrd, found.weights.msfd, found.weights.reld, found.weights.respd) == (100, 10, 0.25, 1)


def test_tables_say_which_lengths_are_halved() -> None:
    """Every table of which a row compares features at lengths that scale with the world."""
    rows, seen = load_rows(), 0
    for name, table in load_tables("sim").items():
        if table.part != "crkd" or table.target == "preview":
            continue
        taught = [rows[run] for row in table.rows for run in pool(row.run)]
        runs = [row.id for row in taught if row.method is not None and row.method.kind == "crkd"]
        if any({"msfd", "reld"} & set(options(run).on) for run in runs):
            assert any("the sizes of RelD are half" in note for note in table.notes), name
            seen += 1
    assert seen == 11


def test_what_the_paper_gains_is_beside_what_is_claimed() -> None:
    gains = {
        "crkd_short_over_medium": 3.05 - 0.40,  # Table S1
        "crkd_short_over_long": 3.05 - 1.03,
        "crkd_long_over_medium": 1.03 - 0.40,
        "crkd_rain_most": 2.32 - 1.22,  # Table S2
        "crkd_a4_l1_map": 0.4,
        "crkd_gate_map": 1.7,
        "crkd_relations_map": 0.5,
        "crkd_heat_over_lidar_map": 1.1,
    }
    for scale in ("sim", "paper"):
        claims = load_claims(scale)
        for name, gain in gains.items():
            assert published_gain(claims[name])[0] == pytest.approx(gain), name
        # Of a difference of gains, or a gain alone, the paper prints nothing that it were a share of.
        assert all(math.isnan(relative_gain(claims[name])) for name in list(gains)[:5])
    printed = _printed(load_tables("sim")["crkd_main"])
    assert printed["Student"] == {"mAP": 44.9, "NDS": 55.9, "mAVE": pytest.approx(30.4)}
    assert printed["CRKD"] == {"mAP": 46.7, "NDS": 57.3, "mAVE": pytest.approx(33.1)}
    lidar = _printed(load_tables("sim")["crkd_ablation"])["RespD and CSRD, from the LiDAR map"]
    assert lidar == {"mAP": 44.9, "NDS": 56.3}


def _printed(table: TableConfig) -> dict[str, dict[str, float]]:
    found = {row.label: tables.published(table, row)[0] for row in table.rows}
    return {label: {key: v for key, v in values.items() if not math.isnan(v)} for label, values in found.items()}


def test_equal_networks_are_compared_or_are_the_control() -> None:
    """Calibration is a part of the network: a stage without a teacher that has it is the baseline, or a control."""
    for name, claim in load_claims("sim").items():
        if claim.part != "crkd":
            continue
        sides = [pool(runs)[0] for runs in (claim.better, claim.than)]
        mine, theirs = (load_run(run, "sim", 0).model.radar.calibration for run in sides)
        if mine and not theirs and "before" not in name:
            assert "crkd_further_calib" in claim.controls, name
    assert load_claims("sim")["crkd_unlabelled_crkd_map"].than == "crkd_further_calib"


def test_published_settings() -> None:
    teacher, student = load_run("crkd_teacher", "paper", 0), load_run("crkd_student", "paper", 0)
    assert (teacher.train.epochs, teacher.train.batch_size, teacher.train.lr) == (20, 16, 2e-4)
    assert (student.data.radar_sweeps, student.data.augment.bev.rotate_deg, teacher.data.augment.bev.rotate_deg) == (
        6,
        0,
        45,
    )
    assert (teacher.model.loss.velocity_weight, student.model.loss.velocity_weight) == (0.2, 1.0)
    assert sum(teacher.data.augment.gt_paste.values()) == 40
    assert teacher.train.switch_off[0].epoch == 15
    assert teacher.model.camera.backbone.kind == student.model.camera.backbone.kind == "swin"
    assert load_run("crkd_r50", "paper", 0).model.camera.backbone.kind == "resnet"
