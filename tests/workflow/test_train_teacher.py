"""Teachers in training: loaded once, they read what they were trained on; caches hold what their readers draw."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from torch import Tensor, nn
from train_case import folder, tiny_model, tiny_run

from bevkd.config import MethodConfig, RowConfig, RunConfig, TrainConfig
from bevkd.data import collate
from bevkd.data.batch import Batch, Boxes
from bevkd.data.reads import Lidar, Reads
from bevkd.distill import DistillContext, Targets, TeacherCache, cache_name, method_settings
from bevkd.distill.cache_key import OF_NETWORK
from bevkd.errors import ConfigError, Interrupted
from bevkd.models.outputs import BEVOutputs
from bevkd.train import ensure_cache, train
from bevkd.train import teacher as teacher_module
from bevkd.train.caching import cache_dir
from bevkd.train.log import read_log
from bevkd.train.resolve import lesson_of, resolve
from bevkd.train.runtime import Autocast, build_fabric, precision_plugin
from bevkd.train.setup import build_student
from bevkd.train.teacher import load_teacher
from bevkd.train.views import shared_reads, student_reads, teacher_reads

SWEEPS = 4


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["model"]
    return state


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def taught(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root with trained LiDAR teachers: `many` reads earlier sweeps, `few` the key sweep alone."""
    root = tmp_path_factory.mktemp("taught")
    for name, sweeps in (("many", SWEEPS), ("few", 0)):
        run = tiny_run(smoke_dataset, name, data={"lidar_sweeps": sweeps}, steps=3)
        train(run, folder(root, run))
    return root


def student(dataset: Any, name: str, mode: str, sweeps: int, teacher: str = "many", **options: Any) -> RunConfig:
    """A student of a LiDAR teacher; UniDistill wants weights where it has no such path."""
    settings: dict[str, Any] = {"method": "unidistill", "frames": "all", "unlabelled_per_batch": 1, "steps": 3}
    settings |= {"data": {"lidar_sweeps": sweeps}, "teacher": teacher, "teacher_mode": mode} | options
    run = tiny_run(dataset, name, **settings)
    assert run.row.method is not None
    weights = {"feature": 1.0, "relation": 1.0, "response": 1.0}
    return replace(run, row=replace(run.row, method=replace(run.row.method, options={"weights": weights})))


def first_batch(run: RunConfig, root: Path) -> tuple[Batch, Targets, DistillContext]:
    lesson = resolve(run, folder(root, run))
    batch = collate([lesson.frames.get(i, epoch) for i, epoch in lesson.stretches[0].plan.batch(0)]).to("cpu")
    engine = lesson.engine(build_student(run))
    assert engine is not None
    return batch, *engine.targets(batch)


def assert_close(one: Targets, other: Targets) -> None:
    assert one.keys() == other.keys()
    for name, target in one.items():
        assert torch.equal(target.frame, other[name].frame), name
        torch.testing.assert_close(target.values.float(), other[name].values.float(), rtol=2e-3, atol=2e-3)


def test_targets_do_not_depend_on_the_sweeps_of_the_student(smoke_dataset: Any, taught: Path) -> None:
    """Cached and live, for students that read as many sweeps as the teacher, none, and no LiDAR at all."""
    model = tiny_model("camera")
    found: dict[tuple[str, Any], tuple[Batch, Targets, DistillContext]] = {}
    for mode in ("cached", "live"):
        for sweeps in (0, SWEEPS, "camera"):
            extra = {"model": model} if sweeps == "camera" else {}
            run = student(smoke_dataset, f"s_{mode}_{sweeps}", mode, 0 if sweeps == "camera" else int(sweeps), **extra)
            found[mode, sweeps] = first_batch(run, taught)
    wanted = found["live", SWEEPS][1]
    assert len(wanted["feature"].values) > 0
    for _, targets, _ in found.values():
        assert_close(targets, wanted)
    boxes = [context.boxes for _, _, context in found.values()]
    for one in boxes[1:]:
        torch.testing.assert_close(one.boxes, boxes[0].boxes, rtol=1e-5, atol=1e-4)
    # The live teacher of a student with other sweeps has a view of its own; else one batch is for both.
    batch = found["live", 0][0]
    assert batch.teacher is not None
    assert batch.points is not None
    assert batch.teacher.points is not None
    assert len(batch.teacher.points) > 1.5 * len(batch.points)
    assert torch.equal(batch.teacher.bev_aug, batch.bev_aug)
    assert batch.teacher.tokens == batch.tokens
    assert found["live", SWEEPS][0].teacher is None
    assert found["live", "camera"][0].teacher is None
    shared = found["live", "camera"][0]
    assert shared.points is not None
    assert len(shared.points) == len(batch.teacher.points)
    assert found["cached", 0][0].teacher is None
    # The student's own part is what it would be without a teacher.
    assert torch.equal(batch.points, found["cached", 0][0].points)
    # And another teacher says something else.
    other = student(smoke_dataset, "s_few", "live", SWEEPS, teacher="few")
    assert not torch.equal(first_batch(other, taught)[1]["feature"].values, wanted["feature"].values)


def test_students_with_other_sweeps_share_the_cache_of_a_teacher(smoke_dataset: Any, taught: Path) -> None:
    teacher = load_teacher(student(smoke_dataset, "a", "cached", 0), folder(taught, tiny_run(smoke_dataset, "a")))
    assert teacher is not None
    assert teacher.run.data.lidar_sweeps == SWEEPS
    names = {cache_name(student(smoke_dataset, "a", "cached", k), teacher.run) for k in (0, 2, SWEEPS)}
    assert len(names) == 1
    assert {"lidar_sweeps", "lidar_sweep_stride", "lidar_in_view", "radar_sweeps", "image_mean"} <= set(OF_NETWORK)
    older = replace(teacher.run, data=replace(teacher.run.data, lidar_sweeps=1))
    assert cache_name(student(smoke_dataset, "a", "cached", 0), older) not in names
    wider = student(smoke_dataset, "a", "cached", 0, data={"lidar_sweeps": 0, "min_points": 3})
    assert cache_name(wider, teacher.run) not in names


def test_what_one_view_can_serve() -> None:
    lidar, camera, both = (
        RunConfig("r", "smoke", 0, row=tiny_row(), model=tiny_model(*sensors))
        for sensors in (("lidar",), ("camera",), ("lidar", "camera"))
    )

    def shared(student: RunConfig, teacher: RunConfig) -> Reads | None:
        return shared_reads(student_reads(student), teacher_reads(teacher))

    far = replace(lidar, data=replace(lidar.data, lidar_sweeps=1))
    one = shared(camera, far)
    assert one is not None
    assert set(one.sensors) == {"camera", "lidar"}
    found = one.get(Lidar)
    assert found is not None
    assert found.sweeps == 1
    assert shared(lidar, far) is None
    assert shared(lidar, both) is not None
    larger = replace(both, model=replace(both.model, camera=replace(both.model.camera, image_size=(128, 352))))
    assert shared(camera, larger) is None
    assert shared(lidar, larger) is not None
    brighter = replace(both, data=replace(both.data, image_mean=(1.0, 2.0, 3.0)))
    assert shared(camera, brighter) is None
    # What is not read is not in the way.
    assert shared(lidar, replace(lidar, data=brighter.data)) is not None


def tiny_row() -> RowConfig:
    return RowConfig(id="r", dataset="nuscenes_sim", model="tiny")


@pytest.mark.parametrize("mode", ["cached", "live"])
def test_a_teacher_is_loaded_once(smoke_dataset: Any, taught: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = student(smoke_dataset, f"once_{mode}", mode, 0), []
    original = teacher_module.load_detector

    def load(path: Path) -> Any:
        calls.append(path)
        return original(path)

    monkeypatch.setattr(teacher_module, "load_detector", load)
    train(run, folder(taught, run))
    assert len(calls) == 1


@pytest.mark.parametrize("mode", ["cached", "live"])
def test_workers_and_interruptions_change_nothing(smoke_dataset: Any, taught: Path, mode: str) -> None:
    whole, two, parts = (student(smoke_dataset, f"{name}_{mode}", mode, 0) for name in ("whole", "two", "parts"))
    wanted = weights(train(whole, folder(taught, whole)))
    two = replace(two, train=replace(two.train, workers=2))
    assert same_bits(weights(train(two, folder(taught, two))), wanted)
    with pytest.raises(Interrupted):
        train(parts, folder(taught, parts), stop_after=1)
    assert same_bits(weights(train(parts, folder(taught, parts))), wanted)


class Seen(nn.Module):
    """Keeps what a step is given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.batch = batch
        return {"total": self.linear(torch.ones(1, 2)).sum()}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled, but CUDA is not available")
def test_a_batch_arrives_untouched_under_mixed_precision(smoke_dataset: Any, taught: Path, precision: Any) -> None:
    run = student(smoke_dataset, "mixed", "cached", 0, model=tiny_model("camera", "lidar"))
    lesson = resolve(run, folder(taught, run))
    batch = collate([lesson.frames.get(i, epoch) for i, epoch in lesson.stretches[0].plan.batch(0)]).to("cpu")
    batch.extra = {"new": [torch.full((1,), 1 / 3)]}
    plugin = precision_plugin(TrainConfig(precision=precision), "cuda" if precision == "fp16" else "cpu")
    assert isinstance(plugin, Autocast)
    assert plugin.convert_input(batch) is batch
    if precision == "fp16":  # needs a GPU for the rest
        return
    module, step = Seen(), build_fabric(TrainConfig(precision=precision))
    total = step.setup(module)(batch)["total"]
    assert total.dtype == torch.float32
    assert module.linear(torch.ones(1, 2)).dtype == torch.float32  # outside
    assert module.batch is batch
    assert batch.points is not None
    assert not torch.equal(batch.points, batch.points.bfloat16().float()), "these would not show a rounding"
    assert not torch.equal(batch.boxes.boxes, batch.boxes.boxes.bfloat16().float())


def test_stored_and_live_targets_agree_under_mixed_precision(smoke_dataset: Any, taught: Path) -> None:
    """As they do not where a batch is rounded before the step, which is what Fabric's own plugin does."""
    found, off = {}, {}
    for mode in ("cached", "live"):
        run = student(smoke_dataset, f"mixed_{mode}", mode, 0, precision="bf16")
        lesson = resolve(run, folder(taught, run))
        batch = collate([lesson.frames.get(i, epoch) for i, epoch in lesson.stretches[0].plan.batch(0)]).to("cpu")
        found[mode] = batch, lesson.engine(build_student(run))
    stored, reader = found["cached"]
    assert reader is not None
    wanted, context = reader.targets(stored)
    batch, engine = found["live"]
    assert engine is not None
    for plugin in (Autocast("bf16-mixed", "cpu"), MixedPrecision("bf16-mixed", "cpu")):
        with plugin.forward_context():
            targets, seen = engine.targets(plugin.convert_input(batch))
        one, other = targets["feature"].values.float(), wanted["feature"].values.float()
        off[type(plugin)] = float((one - other).norm() / other.norm())
        exact = seen.boxes.boxes.shape == context.boxes.boxes.shape and torch.equal(
            seen.boxes.boxes.float(), context.boxes.boxes
        )
        assert exact == isinstance(plugin, Autocast)
    assert off[Autocast] < 0.02
    assert off[Autocast] < off[MixedPrecision] / 3


def test_features_before_an_activation(smoke_dataset: Any, taught: Path) -> None:
    """They are kept in teacher and student where a method taps them, and are not what comes after it."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for mode in ("cached", "live"):
        for feature in ("high", "high.pre"):
            run = student(smoke_dataset, f"{feature}_{mode}", mode, 0)
            method = MethodConfig("imitation", {"features": [feature]})
            run = replace(run, row=replace(run.row, method=method), train=replace(run.train, steps=1))
            train(run, folder(taught, run))
            losses = read_log(folder(taught, run) / "log.jsonl")[0]["losses"]
            found[mode, feature] = losses[f"kd_imitation_{feature}"]
    assert found["cached", "high.pre"] == pytest.approx(found["live", "high.pre"], rel=2e-3)
    assert found["live", "high.pre"] != pytest.approx(found["live", "high"], rel=0.05)


def entries_of(cache: TeacherCache) -> set[tuple[int, int]]:
    return {(i, v) for part in cache.parts for i, v in part.entries.tolist()}


def test_a_cache_holds_what_its_readers_draw(smoke_dataset: Any, taught: Path) -> None:
    run = student(smoke_dataset, "reader", "cached", 0, steps=1, frames="labelled", unlabelled_per_batch=0)
    run = replace(run, row=replace(run.row, method=MethodConfig("dense")))
    out = folder(taught, run)
    cache = ensure_cache(run, out)
    assert len(entries_of(cache)) <= run.train.batch_size  # of 12 frames with 4 variants each
    times = {path: path.stat().st_mtime_ns for path in cache.folder.rglob("*")}
    train(run, out)
    assert entries_of(TeacherCache.open(cache.folder)) == entries_of(cache)
    longer = replace(run, run="longer", train=replace(run.train, steps=5))
    alone = weights(train(replace(longer, run="longer"), folder(taught, longer)))
    after = TeacherCache.open(cache.folder)
    assert len(entries_of(cache)) < len(entries_of(after)) <= 5 * run.train.batch_size
    # A run that needs no more is not made anew because another one added to the cache.
    assert times == {path: path.stat().st_mtime_ns for path in times}
    teacher = load_teacher(run, out)
    assert teacher is not None
    assert cache.folder == cache_dir(run, teacher, out)
    # All at once or bit by bit, alone or with rows that tap something else: the same numbers.
    maps = replace(longer, run="maps", row=replace(longer.row, method=MethodConfig("imitation", {"features": ["low"]})))
    alone_maps = weights(train(maps, folder(taught, maps)))
    shutil.rmtree(cache.folder)
    readers = [run, longer, replace(longer, seed=1), maps]
    united = ensure_cache(longer, folder(taught, longer), readers)
    assert entries_of(united) >= entries_of(after)
    (_, holds_maps) = sorted((len(part.entries), part.columns) for part in united.parts)[0]
    assert not holds_maps & set(method_settings(MethodConfig("dense")).cached().columns) - {"boxes"}
    files = {path: path.stat().st_mtime_ns for path in united.folder.rglob("*")}
    again = replace(longer, run="again")
    assert same_bits(weights(train(again, folder(taught, again))), alone)
    again = replace(maps, run="maps_again")
    assert same_bits(weights(train(again, folder(taught, again))), alone_maps)
    assert files == {path: path.stat().st_mtime_ns for path in united.folder.rglob("*")}, "nothing was missing"


@pytest.mark.parametrize("change", ["taps", "grid", "threshold", "nothing known", "data"])
def test_a_cache_that_was_made_for_something_else_is_made_anew(smoke_dataset: Any, taught: Path, change: str) -> None:
    run = student(smoke_dataset, "other_cache", "cached", 0, steps=2)
    out = folder(taught, run)
    shutil.rmtree(ensure_cache(run, out).folder)  # with what other tests have stored of this teacher
    (part,) = ensure_cache(run, out).parts
    path = part.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    right = manifest["made_for"]
    wrong = {
        "taps": right | {"taps": {name: key | {"edition": 7} for name, key in right["taps"].items()}},
        "grid": right | {"grid": [0.0, *right["grid"][1:]]},
        "threshold": right | {"score_threshold": 0.9},
        "nothing known": {},
        "data": right,
    }[change]
    of = {"made_of": "another index"} if change == "data" else {}
    path.write_text(json.dumps(manifest | {"made_for": wrong} | of))
    # Asking for more must not extend it, asking for the same must not take it.
    asked = run if change != "taps" else replace(run, train=replace(run.train, steps=4))
    (again,) = ensure_cache(asked, out).parts
    assert again.manifest["made_for"] == right
    assert again.manifest["made_of"] == manifest["made_of"]
    assert [found.name for found in again.folder.parent.glob("part_*")] == [again.folder.name]
    assert len(again.entries) > 0
    known = (again.folder / "entries.npy").stat().st_ino
    ensure_cache(run, out)  # which is now as it should be
    assert (again.folder / "entries.npy").stat().st_ino == known


def pasting(run: RunConfig) -> RunConfig:
    augment = replace(run.data.augment, gt_paste={"car": 3})
    return replace(run, data=replace(run.data, augment=augment))


@pytest.mark.parametrize("mode", ["cached", "live"])
def test_pasted_objects_must_stand_in_what_the_teacher_sees(smoke_dataset: Any, taught: Path, mode: str) -> None:
    fewer = pasting(student(smoke_dataset, f"fewer_{mode}", mode, 0))
    none = pasting(student(smoke_dataset, f"none_{mode}", mode, 0, model=tiny_model("camera")))
    for run in (fewer, none):
        teacher = load_teacher(run, folder(taught, run))
        with pytest.raises(ConfigError, match="gt_paste needs a teacher that reads the LiDAR data of its student"):
            lesson_of(run, teacher, taught / "no_cache")
        with pytest.raises(ConfigError, match="gt_paste needs a teacher"):
            ensure_cache(run, folder(taught, run))
    assert not (taught / "no_cache").exists()
    same = pasting(student(smoke_dataset, f"same_{mode}", mode, SWEEPS))
    lesson = resolve(same, folder(taught, same))
    assert lesson.frames.student.data.augment.gt_paste == {"car": 3}
    # Without a use of the teacher there is nothing that could differ.
    plain = pasting(replace(fewer, row=replace(fewer.row, teacher=None, method=None)))
    plain = replace(
        plain, row=replace(plain.row, frames="labelled"), train=replace(plain.train, unlabelled_per_batch=0)
    )
    assert lesson_of(plain, None, None).method is None


def test_pasting_is_part_of_the_name_of_a_cache(smoke_dataset: Any) -> None:
    run = student(smoke_dataset, "pasting", "cached", 0)
    for sensor in ("lidar", "camera"):  # whatever the teacher looks at
        teacher = tiny_run(smoke_dataset, "many", model=tiny_model(sensor))
        assert cache_name(run, teacher) != cache_name(pasting(run), teacher)


def test_what_cannot_be_replayed_is_refused(smoke_dataset: Any, taught: Path) -> None:
    run = student(smoke_dataset, "fresh", "cached", 0)
    augment = replace(run.data.augment, variants=0)
    with pytest.raises(ConfigError, match="variants > 0; use teacher_mode: live"):
        train(replace(run, data=replace(run.data, augment=augment)), folder(taught, run))


def test_boxes_of_the_batch_and_of_the_view_agree(smoke_dataset: Any, taught: Path) -> None:
    run = student(smoke_dataset, "boxes", "live", 0)
    lesson = resolve(run, folder(taught, run))
    batch = collate([lesson.frames.get(i, epoch) for i, epoch in lesson.stretches[0].plan.batch(1)])
    assert batch.teacher is not None
    assert isinstance(batch.boxes, Boxes)
    assert torch.equal(batch.boxes.boxes, batch.teacher.boxes.boxes)
    assert batch.teacher.variants == batch.variants
    assert lesson.live
    assert lesson.teacher is not None
    outputs = lesson.teacher(batch.teacher, until="low")
    assert isinstance(outputs, BEVOutputs)
