"""Taps: what is read of a network, what makes two of them the same, and how much they store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from distill_data import GRID, HIGH, LOW, Frames, ToyTeacher, collate, make_batch, make_context, make_outputs, spec
from torch import Tensor

from bevkd import registry
from bevkd.config import MethodConfig, RunConfig, load_rows, load_run
from bevkd.distill import (
    DistillContext,
    DistillEngine,
    DistillMethod,
    MethodSettings,
    Tap,
    Targets,
    build_cache,
    build_method,
    cache_key,
    cache_name,
    estimate_cache_bytes,
    method_settings,
)
from bevkd.distill.cache_build import all_entries
from bevkd.distill.cache_key import audience_of, audiences_of, reader_of, readers_of, reads_cache
from bevkd.distill.reading import Reading, read_taps
from bevkd.distill.sizes import Sizes, adding, expected_entries
from bevkd.distill.tap import Cellset, as_columns, register_tap
from bevkd.distill.taps.cells import BoxMask, CellIndex, CellValues, CellWeight, GaussianMask
from bevkd.distill.taps.footprints import ResizedMap
from bevkd.distill.taps.heads import ConfidentCells, Response
from bevkd.distill.taps.maps import PooledMap, WholeMap
from bevkd.distill.taps.points import NineCosines, NinePoints
from bevkd.errors import ConfigError
from bevkd.models.features import FeatureInfo
from bevkd.models.outputs import BEVOutputs, SparseCells
from bevkd.registry import register


def test_a_tap_is_what_differs_from_its_defaults() -> None:
    assert NinePoints("low").key == {"kind": "nine points", "feature": "low"}
    assert NinePoints("low", True).key == {"kind": "nine points", "feature": "low", "legacy_transpose": True}
    mask = GaussianMask(min_radius=2)
    assert CellIndex(cells=mask).key == {"kind": "cell index", "cells": {"kind": "gaussian mask", "min_radius": 2}}
    assert NinePoints("low").column != NinePoints("high").column
    assert NinePoints("low").column.startswith("nine_points_low_")
    # Whether cells have to be counted changes how a step finds them, not what is stored.
    assert CellIndex(cells=GaussianMask(counted=True)).column == CellIndex(cells=GaussianMask()).column


def test_a_new_inert_option_changes_nothing() -> None:
    grown = make_dataclass("Grown", [("added", int, 0)], bases=(NinePoints,), frozen=True)
    assert grown("low").column == NinePoints("low").column
    assert grown("low", added=1).column != NinePoints("low").column


def test_equal_taps_are_read_once_and_stored_once() -> None:
    calls: list[str] = []

    @dataclass(frozen=True)
    class Counted(WholeMap):
        kind = "counted"

        def read(self, reading: Reading) -> Any:
            calls.append(self.feature)
            return super().read(reading)

    taps = {"a": Counted("low"), "b": Counted("low"), "c": Counted("high")}
    found = read_taps(taps, make_outputs(2, 1), make_context([1, 1]))
    assert calls == ["low", "high"]
    assert found["a"].values.shape == (2, LOW, GRID.H, GRID.W)
    assert found["c"].values.shape == (2, HIGH, GRID.H, GRID.W)
    assert len(as_columns(taps.values(), False).taps) == 2


def test_what_is_read_of_the_network_and_whether_at_boxes() -> None:
    assert Response(cells=GaussianMask()).features == {"heads"}
    assert CellIndex(cells=GaussianMask()).features == frozenset()
    assert CellIndex(cells=ConfidentCells()).features == {"heads"}
    assert CellValues("B1", ConfidentCells()).features == {"B1", "heads"}
    assert CellIndex(cells=GaussianMask()).at_boxes()
    assert not CellIndex(cells=ConfidentCells()).at_boxes()
    assert NineCosines("high").at_boxes()
    assert not as_columns([WholeMap("low")], False).boxes
    assert as_columns([WholeMap("low"), NinePoints("low")], False).boxes


def held(kind: str, **options: Any) -> dict[str, Any]:
    return method_settings(MethodConfig(kind, options)).cached().key


def test_methods_with_the_same_taps_share_their_values_whatever_they_do_with_them() -> None:
    dense = {"kind": "dense", "options": {"dense_weight": 1.0}}
    assert held("dense") == held("combine", methods=[dense]) == held("combine", methods=[dense, dense])
    assert held("dense") == held("dense", regression_weight=0.0)
    assert held("dense") != held("dense", threshold=0.3)
    assert held("imitation", features=["high", "low"]) == held("imitation", features=["low", "high"], weight=3.0)
    trio = held("unidistill")
    assert trio == held("unidistill", adapter={"kernel": 3})
    assert all(tap in trio["taps"] for tap in held("unidistill", weights={"relation": 0})["taps"])
    both = held("combine", methods=[dense, {"kind": "unidistill", "options": {"feature": {"enabled": False}}}])
    rest = held("unidistill", weights={"feature": 0})
    assert all(tap in both["taps"] for tap in (*rest["taps"], *held("dense")["taps"]))


def test_an_edition_is_part_of_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    taps = [WholeMap("low"), CellValues("low", BoxMask()), CellValues("low", GaussianMask()), CellIndex()]
    before = [tap.key for tap in taps]
    assert not any("edition" in str(key) for key in before)
    monkeypatch.setattr(WholeMap, "edition", 2)
    assert taps[0].key == before[0] | {"edition": 2}
    assert [tap.key for tap in taps[1:]] == before[1:]
    monkeypatch.setattr(GaussianMask, "edition", 3)
    assert taps[1].key == before[1]
    assert taps[2].key["cells"] == {"kind": "gaussian mask", "edition": 3}

    @dataclass(frozen=True)
    class UnderPeaks(CellIndex):
        cells: Cellset = GaussianMask()

    assert UnderPeaks().key["cells"] == {"kind": "gaussian mask", "edition": 3}  # also where it is the default


def test_a_new_edition_is_another_column(monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run("unidistill_p4", "sim", 0)
    assert run.row.method is not None
    before = method_settings(run.row.method).cached().columns
    monkeypatch.setattr(NinePoints, "edition", 2)
    after = method_settings(run.row.method).cached().columns
    assert len(set(before) - set(after)) == len(set(after) - set(before)) == 1


def test_taps_and_choices_of_cells_are_listed() -> None:
    assert {"gaussian mask", "box mask", "image box cells"} <= set(registry.names("cellset"))
    assert {"map", "nine points", "cell values"} <= set(registry.names("tap"))
    assert registry.lookup("cellset", "box mask") is BoxMask
    code = (
        "import sys; from bevkd.registry import names; names('tap'); names('cellset'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_caches_need_no_tensor_library() -> None:
    code = (
        "import sys; from bevkd.config import load_run; from bevkd.distill import cache_name, estimate_cache_bytes;"
        "runs = [load_run(run, 'sim', 0) for run in ('unidistill_p4', 'monodistill', 'le_l_to_c')];"
        "print(*map(cache_name, runs), *map(estimate_cache_bytes, runs)); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == cache_name(load_run("unidistill_p4", "sim", 0))


def test_every_tap_says_about_how_much_it_stores(tmp_path: Any) -> None:
    """Within a factor of two of what lies on disk, for taps whose size is known, and something for all others."""
    model = load_run("lidar_base", "sim", 0).model
    sizes = Sizes(model, boxes=10.0)
    for name in registry.names("tap"):
        kind = registry.lookup("tap", name)
        tap = kind(cells=GaussianMask()) if kind in (CellIndex, CellValues, CellWeight, Response) else kind()
        if not name.startswith("image"):
            assert tap.entry_bytes(sizes) > 0, name
    low, high, cells = model.lidar.out_channels, model.bev.up_channels * len(model.bev.widths), 64 * 64
    assert WholeMap("low").entry_bytes(sizes) == 2 * low * cells
    assert WholeMap("B1").entry_bytes(sizes) == 2 * model.bev.widths[1] * cells / model.bev.strides[1] ** 2
    assert PooledMap("high").entry_bytes(sizes) == 2 * high * cells / 4
    assert ResizedMap("low", 8).entry_bytes(sizes) == 2 * low * 64
    assert WholeMap("gated.lidar").entry_bytes(sizes) == 2 * low * cells
    assert NinePoints("low").entry_bytes(sizes) == 2 * 10 * 9 * low
    assert NineCosines("low").entry_bytes(sizes) == 2 * 10 * 81
    taps = [WholeMap("low"), PooledMap("high"), NinePoints("low"), NineCosines("high"), CellValues("low", BoxMask())]
    frames = Frames(["t1", "t2"], torch.ones(2, dtype=torch.bool).numpy(), [1, 1])
    wanted, asked = as_columns(taps, False), all_entries(frames)
    cache = build_cache(wanted, ToyTeacher(), frames, tmp_path / "c", asked, teacher_digest="", collate=collate)
    (part,) = cache.parts
    stored = {n: (part.folder / f"{n}.npy").stat().st_size for n in part.columns if n in wanted.taps}
    assert stored.keys() == wanted.taps.keys()
    whole = WholeMap("low").column
    assert stored[whole] == pytest.approx(2 * 2 * LOW * GRID.H * GRID.W, rel=0.01)


def test_entries_and_the_default_run_stay_small() -> None:
    rows = [row for row in load_rows().values() if row.teacher and row.target == "all"]
    runs = [load_run(row.id, "sim", row.seeds[0]) for row in rows]
    caches = {cache_name(run): run for run in runs}
    assert len(caches) < len(runs)
    total = sum(estimate_cache_bytes(run, readers_of(run)) for run in caches.values())
    assert 1e8 < total < 1e10
    one = load_run("unidistill_p4", "sim", 0)
    (labelled, unlabelled), _ = expected_entries(one)
    assert labelled <= one.train.steps * one.train.batch_size
    assert unlabelled == 0


def test_trainings_that_read_a_cache() -> None:
    run = load_run("le_l_to_c", "sim", 0)
    found = readers_of(run)
    same = [seed for seed in run.row.seeds if run.row.teacher_seed_for(seed) == run.teacher_seed]
    assert 0 < len(same) < len(run.row.seeds), "the others learn from another training of the teacher"
    assert {(one.run, one.seed) for one in found} == {("le_l_to_c", seed) for seed in same}
    # Rows of the extended study read the cache of others too, in a pass of their own.
    run, later = load_run("unidistill_p3", "sim", 0), load_run("unidistill_p3_draft", "sim", 0)
    assert later.row.target == "extended"
    assert cache_name(later) == cache_name(run)
    assert (audience_of(run), audience_of(later)) == ("unidistill-all", "unidistill-extended")
    for one in (run, later):
        assert one.run in {reader.run for reader in readers_of(one)}
        assert {reader.row.target for reader in readers_of(one)} == {one.row.target}
        assert {audience_of(reader) for reader in readers_of(one)} == {audience_of(one)}
    assert next(iter(audiences_of(cache_name(run), "sim"))) == "unidistill-all", "earlier tiers first"
    assert reader_of(cache_name(run), "sim", "unidistill-extended").row.target == "extended"
    with pytest.raises(ConfigError, match=r"no audience 'unidistill-al' .*'unidistill-all'"):
        reader_of(cache_name(run), "sim", "unidistill-al")


def test_rows_of_one_order_meet_the_same_samples() -> None:
    """Trainings of one seed count once among what is expected of several; with taps that are there they add nothing."""
    run = load_run("unidistill_p4", "sim", 0)
    shorter = replace(run, train=replace(run.train, steps=run.train.steps // 2))
    dense = replace(run, row=replace(run.row, method=MethodConfig("dense")))
    assert expected_entries(run, [run, shorter, dense]) == expected_entries(run)
    assert expected_entries(run, [run, replace(run, seed=7)])[0] > expected_entries(run)[0]
    assert adding([shorter, run], [run]) == []
    assert adding([run, dense], [shorter]) == [run, dense]
    assert adding([dense, replace(run, seed=7)], [run]) == [dense, replace(run, seed=7)]
    both = estimate_cache_bytes(run, [run, dense])
    assert both < estimate_cache_bytes(run) + estimate_cache_bytes(dense) + 1
    assert both > max(estimate_cache_bytes(run), estimate_cache_bytes(dense))


@pytest.fixture
def by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that does not use the teacher of its row."""

    @dataclass(frozen=True)
    class Alone(MethodSettings):
        uses_teacher = False

        def taps(self) -> dict[str, Tap]:
            return {}

    monkeypatch.setitem(registry._SETTINGS["method"], "by_itself", Alone)


def test_rows_that_do_not_use_their_teacher_read_no_cache(by_itself: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_run("le_l_to_c", "sim", 0)
    row = replace(load_rows()[found.run], teacher_seed=0)
    no_method = replace(row, id="no_method", method=None)
    alone = replace(row, id="alone", method=MethodConfig("by_itself"))
    both = replace(row, id="both", method=MethodConfig("combine", {"methods": [{"kind": "by_itself"}] * 2}))
    rows = {one.id: one for one in (row, no_method, alone, both)}
    monkeypatch.setattr(cache_key, "load_rows", lambda: rows)

    def load(name: str, scale: str, seed: int) -> RunConfig:
        return replace(found, row=rows[name], run=name) if name in rows else load_run(name, scale, seed)

    monkeypatch.setattr(cache_key, "load_run", load)
    by_name = cache_key._readers.__wrapped__(Path(), "sim")
    assert list(by_name) == [cache_name(found)]
    assert {run.run for runs in by_name[cache_name(found)].values() for run in runs} == {found.run}
    assert reads_cache(found)
    assert not any(reads_cache(replace(found, row=one)) for one in (no_method, alone, both))
    mixed = MethodConfig("combine", {"methods": [{"kind": "by_itself"}, {"kind": "dense"}]})
    assert reads_cache(replace(found, row=replace(row, method=mixed)))
    assert not reads_cache(replace(found, row=replace(row, teacher_mode="live")))


@pytest.fixture
def on_voxels() -> Iterator[type[DistillMethod]]:
    """A method on a feature that no method of the package taps, as a paper would add it: a tap, settings, losses."""

    @register_tap("occupied cells")
    @dataclass(frozen=True)
    class OccupiedCells(Tap):
        feature: str = "cells"
        most: int = 4

        def read(self, reading: Reading) -> Any:
            cells: SparseCells = reading.feature(self.feature)
            frame = cells.coordinates[:, 0]
            order = torch.argsort(frame, stable=True)
            return reading.rows(cells.features[order], frame[order])

        def entry_bytes(self, sizes: Sizes) -> float:
            return 2.0 * self.most

    @dataclass(frozen=True)
    class VoxelSettings(MethodSettings):
        most: int = 4

        def taps(self) -> dict[str, Tap]:
            return {"voxels": OccupiedCells(most=self.most)}

    @register("method", "on_voxels")
    class OnVoxels(DistillMethod):
        Settings = VoxelSettings

        def weights(self) -> dict[str, float]:
            return {"voxels": 1.0}

        def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
            return {"voxels": (student.low.mean() - targets["voxels"].values.mean()).square()}

    yield OnVoxels
    del registry._REGISTRY["method"]["on_voxels"], registry._REGISTRY["tap"]["occupied cells"]
    registry._SETTINGS["method"].pop("on_voxels", None)


class VoxelTeacher(ToyTeacher):
    """A toy teacher with occupied voxels, three per frame and in no order."""

    def __init__(self) -> None:
        super().__init__()
        cells = FeatureInfo(1, layout="cells", stage="low")
        self.spec = replace(self.spec, features=self.spec.features | {"cells": cells})

    def forward(self, batch: Any, until: str | None = None) -> BEVOutputs:
        out = super().forward(batch, until)
        frame = torch.arange(len(batch)).repeat(3)
        rows = torch.stack([frame, frame * 0, frame * 0], 1)
        out.features["cells"] = SparseCells(frame[:, None].float() + 1, rows)
        return out


def test_a_method_on_voxels_needs_no_change_of_the_frame(on_voxels: type[DistillMethod]) -> None:
    method = build_method(MethodConfig("on_voxels", {"most": 3}), spec("lidar"), spec("lidar"))
    assert isinstance(method, on_voxels)
    batch = make_batch(["t1", "t2"], [0, 0], [True, True])
    teacher = VoxelTeacher()
    targets, _ = DistillEngine(method, GRID, teacher=teacher).targets(batch)
    assert targets["voxels"].frame.tolist() == [0, 0, 0, 1, 1, 1]
    assert targets["voxels"].values.flatten().tolist() == [1, 1, 1, 2, 2, 2]
    assert teacher.stages == ["low"]  # no further than the tapped feature needs


def test_cells_are_found_once_for_all_taps_of_them() -> None:
    found: list[int] = []

    @dataclass(frozen=True)
    class Once(BoxMask):
        def find(self, reading: Reading) -> Any:
            found.append(1)
            return super().find(reading)

    cells: Cellset = Once()
    taps = {"cell": CellIndex(cells=cells), "low": CellValues("low", cells), "high": CellValues("high", cells)}
    targets = read_taps(taps, make_outputs(2, 1), make_context([2, 1]))
    assert len(found) == 1
    assert len({len(target.values) for target in targets.values()}) == 1
