"""The engine: live and cached teachers give the same losses, teachers stay frozen, caches refuse what does not fit."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_data import GRID, Frames, ToyTeacher, collate, leaves, make_batch, make_outputs, spec, with_targets

from bevkd.config import MethodConfig, RowConfig, RunConfig, parse
from bevkd.data.batch import Batch
from bevkd.distill import (
    SCORE_THRESHOLD,
    DistillEngine,
    DistillMethod,
    TeacherCache,
    build_cache,
    build_method,
    cache_name,
)
from bevkd.distill.cache_build import all_entries
from bevkd.distill.teacher import stage_needed
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import BEVGrid
from bevkd.models.outputs import BEVOutputs

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("unidistill", {}),
    ("unidistill", {"weights": {"relation": 0, "response": 0}}),
    ("unidistill", {"feature": {"points": "gaussian"}, "relation": {"points": "gaussian"}}),
    ("unidistill", {"feature": {"points": "complete"}, "relation": {"points": "complete"}}),
    ("dense", {}),
    ("imitation", {"features": ["low", "high"]}),
    ("imitation", {"mask": "fg"}),
    ("pseudo_boxes", {}),
    ("crkd", {"reld": {"sizes": [8, 4]}}),
    ("crkd", {"reld": {"cosine": False, "sizes": [4]}, "csrd": {"pool": "mean_code"}, "msfd": {"mask": "gaussian"}}),
    ("crkd", {"reld": {"enabled": False}, "csrd": {"source": "lidar_feature"}, "msfd": {"mask": "dense"}}),
    ("crkd", {"respd": {"enabled": False}, "csrd": {"source": "gt_heatmap"}, "msfd": {"mask": "box"}}),
    ("combine", {"methods": [{"kind": "dense"}, {"kind": "unidistill"}]}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(METHODS)]
TOKENS = ["t1", "t2", "t3", "t4", "t5"]
LABELLED = [True, False, True, False, False]
VARIANTS = 2


def make(name: str, options: dict[str, Any]) -> DistillMethod:
    torch.manual_seed(0)
    return build_method(MethodConfig(name, options), spec("camera"), spec("lidar"))


def make_cache(method: DistillMethod, out: Path, together: int = 3, **options: Any) -> TeacherCache:
    frames = Frames(TOKENS, np.array(LABELLED), [VARIANTS] * len(TOKENS))
    asked = options.pop("asked", all_entries(frames))
    settings = {"teacher_digest": "abc", "collate": collate} | options
    return build_cache(method.config.cached(), ToyTeacher(), frames, out, asked, together=together, **settings)


class Cached:
    """An engine whose batches bring targets out of a cache."""

    def __init__(self, method: DistillMethod, cache: TeacherCache, score_threshold: float = SCORE_THRESHOLD) -> None:
        self.reader = cache.reader(method.wanted, GRID, score_threshold)
        self.engine = DistillEngine(method, GRID, cached=True, score_threshold=score_threshold)

    def __call__(self, student: BEVOutputs, batch: Batch) -> dict[str, torch.Tensor]:
        return self.engine(student, with_targets(batch, self.reader))


def batch_of(indices: list[int], variants: list[int]) -> Batch:
    return make_batch([TOKENS[i] for i in indices], variants, [LABELLED[i] for i in indices])


@pytest.mark.parametrize(("name", "options"), METHODS, ids=IDS)
def test_cached_losses_equal_live_losses(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    method = make(name, options)
    cached = Cached(method, make_cache(method, tmp_path / "cache"))
    live = DistillEngine(method, GRID, teacher=ToyTeacher())
    for indices, variants in ([[3, 0, 1], [1, 0, 1]], [[2, 0], [0, 0]], [[4, 1], [0, 1]]):
        batch, student = batch_of(indices, variants), make_outputs(len(indices), 9, grad=True)
        one, other = live(student, batch), cached(student, batch)
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=2e-3, atol=2e-4, msg=lambda m, key=key: f"{key}: {m}")
        if name != "pseudo_boxes":
            assert one["total"] > 0
        gradients = []
        for total in (one["total"], other["total"]):
            found = torch.autograd.grad(total, leaves(student), allow_unused=True, retain_graph=True)
            gradients.append(torch.cat([g.flatten() for g in found if g is not None]))
        # By norm, because the gradient of an absolute value flips where rounding crosses zero.
        assert torch.linalg.vector_norm(gradients[0] - gradients[1]) <= 0.05 * torch.linalg.vector_norm(gradients[0])


def test_total_is_the_weighted_sum_and_terms_carry_no_graph() -> None:
    method = make("unidistill", {})
    engine = DistillEngine(method, GRID, teacher=ToyTeacher())
    found = engine(make_outputs(2, 9, grad=True), batch_of([0, 1], [0, 0]))
    total = sum(method.weights()[name] * float(loss) for name, loss in found.items() if name != "total")
    assert float(found["total"].detach()) == pytest.approx(total, rel=1e-5)
    assert found["total"].requires_grad
    assert not any(loss.requires_grad for name, loss in found.items() if name != "total")


@pytest.mark.parametrize(("name", "options"), METHODS, ids=IDS)
def test_a_factor_scales_total_and_gradient_and_nothing_else(name: str, options: dict[str, Any]) -> None:
    found = []
    for factor in (1.0, 0.3):
        torch.manual_seed(0)
        method = build_method(MethodConfig(name, options, factor=factor), spec("camera"), spec("lidar"))
        student = make_outputs(2, 9, grad=True)
        losses = DistillEngine(method, GRID, teacher=ToyTeacher())(student, batch_of([0, 1], [0, 0]))
        gradient = torch.autograd.grad(losses["total"], leaves(student), allow_unused=True)
        found.append((losses, method.weights(), [g for g in gradient if g is not None]))
    (plain, weights, steep), (scaled, same, flat) = found
    torch.testing.assert_close(scaled.pop("total"), 0.3 * plain.pop("total"))
    assert weights == same, "published weights stay what they are"
    assert plain.keys() == scaled.keys()
    assert all(torch.equal(plain[key], scaled[key]) for key in plain), "losses are logged without weight and factor"
    for one, other in zip(steep, flat, strict=True):
        torch.testing.assert_close(other, 0.3 * one)


def test_the_teacher_is_frozen_and_invisible() -> None:
    teacher = ToyTeacher().train()
    engine = DistillEngine(make("unidistill", {"adapter": {"enabled": True}}), GRID, teacher=teacher).train()
    running = teacher.norm.running_mean.clone()
    engine(make_outputs(2, 9, grad=True), batch_of([0, 1], [0, 0]))["total"].backward()
    assert not teacher.training
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert torch.equal(teacher.norm.running_mean, running)
    assert engine.method.training
    adapters = {id(p) for p in engine.method.parameters()}
    assert adapters
    assert {id(p) for p in engine.parameters()} == adapters
    assert all(key.startswith("method.adapters.") for key in engine.state_dict())


@pytest.mark.parametrize(
    ("options", "unlabelled", "stage"),
    [
        (("unidistill", {"weights": {"relation": 0, "response": 0}}), False, "low"),
        (("unidistill", {"weights": {"relation": 0, "response": 0}}), True, "heads"),
        (("unidistill", {"weights": {"response": 0}}), False, "high"),
        (("unidistill", {}), False, "heads"),
        (("imitation", {"features": ["low"]}), True, "low"),
        (("pseudo_boxes", {}), False, None),
        (("pseudo_boxes", {}), True, "heads"),
    ],
)
def test_the_teacher_runs_no_further_than_needed(
    options: tuple[str, dict[str, Any]], unlabelled: bool, stage: str | None
) -> None:
    method, teacher = make(*options), ToyTeacher()
    assert stage_needed(method.wanted, teacher.spec, unlabelled) == stage
    engine = DistillEngine(method, GRID, teacher=teacher)
    engine(make_outputs(2, 9, grad=True), batch_of([0, 1] if unlabelled else [0, 2], [0, 0]))
    assert teacher.stages == ([] if stage is None else [stage])


def test_teacher_boxes_stand_in_on_unlabelled_frames_only() -> None:
    batch = batch_of([1, 0, 3], [0, 1, 0])
    _, context = DistillEngine(make("unidistill", {}), GRID, teacher=ToyTeacher()).targets(batch)
    assert context.boxes.frame.tolist() == [0, 1, 1, 1, 2]
    torch.testing.assert_close(context.boxes.scores, torch.tensor([0.9, 1.0, 1.0, 1.0, 0.9]))
    lenient = DistillEngine(make("unidistill", {}), GRID, teacher=ToyTeacher(), score_threshold=0.1)
    assert lenient.targets(batch)[1].boxes.frame.tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_losses_are_float32_under_autocast() -> None:
    engine = DistillEngine(make("unidistill", {"adapter": {"enabled": True}}), GRID, teacher=ToyTeacher())
    student = make_outputs(2, 9)
    student.features |= {"low": student.low.bfloat16(), "high": student.high.bfloat16()}
    with torch.autocast("cpu", torch.bfloat16):
        found = engine(student, batch_of([0, 1], [0, 0]))
    assert {loss.dtype for loss in found.values()} == {torch.float32}


def test_rows_of_one_teacher_share_a_cache(tmp_path: Path) -> None:
    cache = make_cache(make("unidistill", {}), tmp_path / "cache")
    for options in ({"weights": {"relation": 0, "response": 0}}, {"response": {"teacher_temperature": 1.0}}):
        method, student = make("unidistill", options), make_outputs(2, 9)
        batch = batch_of([0, 3], [1, 0])
        found = Cached(method, cache)(student, batch)
        expected = DistillEngine(method, GRID, teacher=ToyTeacher())(student, batch)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=2e-3, atol=2e-4)


def test_the_batch_size_of_the_builder_does_not_matter(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, size in zip(folders, (1, 4), strict=True):
        make_cache(make("dense", {}), folder, size)
    folders = [path for folder in folders for path in folder.iterdir()]
    assert len(folders) == 2
    for path in folders[0].iterdir():
        if path.suffix == ".npy":
            np.testing.assert_allclose(np.load(path), np.load(folders[1] / path.name), rtol=1e-3, atol=1e-4)
    assert (folders[0] / "manifest.json").read_text() == (folders[1] / "manifest.json").read_text()


def column(cache: TeacherCache, method: DistillMethod, target: str) -> Path:
    (part,) = cache.of(method.taps()[target].column)
    return part.folder / f"{method.taps()[target].column}.npy"


def test_files_are_small_typed_and_without_pickles(tmp_path: Path) -> None:
    method = make("dense", {})
    cache = make_cache(method, tmp_path / "cache")
    kinds = {p.name: np.load(p, allow_pickle=False).dtype for p in (tmp_path / "cache").glob("*/*.npy")}
    scores = column(cache, method, "scores")
    assert kinds[scores.name] == np.float16
    assert kinds[column(cache, method, "regression_index").name] == np.int32
    assert kinds["boxes.npy"] == np.float32
    assert kinds[f"{scores.stem}.offsets.npy"] == np.int64
    assert kinds["entries.npy"] == np.int32
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}


def test_a_failed_build_leaves_nothing_behind_and_the_old_cache_in_place(tmp_path: Path) -> None:
    cache = make_cache(make("dense", {}), tmp_path / "cache")
    frames = Frames(TOKENS, np.array(LABELLED), [1] * len(TOKENS))
    teacher, wanted = ToyTeacher(), make("imitation", {}).wanted
    with torch.no_grad():
        teacher.scale.fill_(torch.nan)
    with pytest.raises(DataError, match="not finite"):
        build_cache(wanted, teacher, frames, cache.folder, [(0, 0)], teacher_digest="x", collate=collate)
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
    assert [part.manifest["teacher"] for part in TeacherCache.open(cache.folder).parts] == ["abc"]


def test_a_cache_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder, method = tmp_path / "cache", make("dense", {})
    cache = make_cache(method, folder)
    with pytest.raises(ConfigError, match="another teacher"):
        TeacherCache.open(folder, teacher="def")
    with pytest.raises(ConfigError, match="does not fit"):
        cache.reader(make("dense", {"threshold": 0.5}).wanted, GRID, SCORE_THRESHOLD)
    with pytest.raises(ConfigError, match="does not fit"):
        cache.reader(method.wanted, BEVGrid.centred(12.8, 0.8), SCORE_THRESHOLD)
    with pytest.raises(ConfigError, match="score_threshold"):
        cache.reader(method.wanted, GRID, 0.5)
    with pytest.raises(ConfigError, match="either"):
        DistillEngine(method, GRID)
    with pytest.raises(ConfigError, match="either"):
        DistillEngine(method, GRID, teacher=ToyTeacher(), cached=True)
    engine, student = Cached(method, cache), make_outputs(1, 9)
    with pytest.raises(DataError, match="lacks a frame") as caught:
        engine(student, make_batch(["t9"], [0], [True]))
    assert caught.value.token == "t9"
    with pytest.raises(DataError, match="lacks variant 2"):
        engine(student, make_batch(["t1"], [2], [True]))
    with pytest.raises(DataError, match="lacks variant -1"):
        engine(student, make_batch(["t1"], [-1], [True]))
    with pytest.raises(DataError, match="built with this frame's labels") as caught:
        engine(student, make_batch(["t1"], [0], [False]))
    assert caught.value.token == "t1"
    with pytest.raises(DataError, match="no teacher targets") as caught:
        engine.engine(student, make_batch(["t1"], [0], [True]))
    nothing = Frames([], np.array([]), [])
    with pytest.raises(ConfigError, match="variants"):
        build_cache(method.wanted, ToyTeacher(), nothing, folder, [], teacher_digest="", collate=collate)


def test_frames_may_have_unequal_numbers_of_variants(tmp_path: Path) -> None:
    method, counts = make("dense", {}), [2, 1, 3, 1, 2]
    frames = Frames(TOKENS, np.array(LABELLED), counts)
    asked, wanted = all_entries(frames), method.config.cached()
    cache = build_cache(wanted, ToyTeacher(), frames, tmp_path / "c", asked, teacher_digest="abc", collate=collate)
    cached, live = Cached(method, cache), DistillEngine(method, GRID, teacher=ToyTeacher())
    student = make_outputs(1, 9)
    for i, count in enumerate(counts):
        for variant in range(count):
            batch = batch_of([i], [variant])
            for name, value in live(student, batch).items():
                torch.testing.assert_close(cached(student, batch)[name], value, rtol=2e-3, atol=1e-3)
        with pytest.raises(DataError, match=f"lacks variant {count}"):
            cached(student, batch_of([i], [count]))


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    folder, method = tmp_path / "cache", make("dense", {})
    with pytest.raises(DataError, match="missing"):
        TeacherCache.open(folder)
    scores = column(make_cache(method, folder), method, "scores")
    whole = scores.read_bytes()
    scores.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=scores.name):
        TeacherCache.open(folder)
    scores.write_bytes(whole)
    part = scores.parent
    manifest = json.loads((part / "manifest.json").read_text())
    for change in ({"tokens": TOKENS[:3]}, {"entries": 3}):
        (part / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(DataError, match="row counts"):
            TeacherCache.open(folder)
    (part / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))
    with pytest.raises(DataError, match="format"):
        TeacherCache.open(folder)


def run_of(**row: Any) -> RunConfig:
    given = {"id": "r", "dataset": "nuscenes_sim", "model": "camera", "teacher": "lidar_base", "teacher_seed": 2}
    config = parse(RowConfig, given | {"method": {"kind": "unidistill"}} | row, "test")
    return RunConfig(run="r", scale="sim", seed=0, row=config)


def test_cache_names_change_with_what_the_targets_depend_on() -> None:
    base = run_of()
    assert cache_name(base).startswith("lidar_base_seed2_")
    same = [
        run_of(method={"kind": "unidistill", "options": {"weights": {"relation": 0, "response": 0}}}),
        run_of(id="other", seeds=[4]),
        run_of(method={"kind": "unidistill", "options": {"legacy_transpose": True}}),
        run_of(method={"kind": "dense"}),
        replace(base, seed=3, train=replace(base.train, lr=1.0)),
        replace(base, data=replace(base.data, memory_cache=True)),
    ]
    assert {cache_name(run) for run in same} == {cache_name(base)}
    other = [
        run_of(frames="all"),
        run_of(labelled_subset=1),
        run_of(teacher="fusion_base"),
        replace(base, data=replace(base.data, augment=replace(base.data.augment, variants=4))),
        replace(base, train=replace(base.train, frames_limit=3)),
    ]
    assert len({cache_name(run) for run in [base, *other]}) == len(other) + 1
    with pytest.raises(ConfigError, match="no teacher"):
        cache_name(run_of(teacher=None))


def test_reading_four_frames_takes_milliseconds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import time

    caplog.set_level(logging.WARNING)
    cache = make_cache(make("combine", METHODS[-1][1]), tmp_path / "cache")
    reader = cache.reader(make("combine", METHODS[-1][1]).wanted, GRID, SCORE_THRESHOLD)
    batch, times = batch_of([0, 1, 2, 3], [0, 1, 0, 1]), []
    for _ in range(30):
        start = time.process_time()
        with_targets(batch, reader)
        times.append(time.process_time() - start)
    assert min(times) < 2e-3
