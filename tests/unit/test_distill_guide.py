"""The guide docs/add_a_method.md: its example is a working method and its row a valid one."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from distill_data import GRID, Frames, ToyTeacher, collate, leaves, make_batch, make_outputs, spec, with_targets

from bevkd import registry
from bevkd.config import MethodConfig, RowConfig, load_rows, parse
from bevkd.distill import DistillEngine, build_cache, build_method
from bevkd.distill.cache_build import all_entries

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "add_a_method.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture
def row(tmp_path: Path, config_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RowConfig]:
    """The example as a module that is imported, and its row; unregistered again afterwards."""
    path = tmp_path / "peaks_example.py"
    path.write_text(block("python"))
    known = registry.names("method")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    module_spec.loader.exec_module(module)
    assert set(registry.names("method")) == {*known, "peaks"}
    paper = config_copy / "papers" / "peaks"
    paper.mkdir()
    (paper / "runs.yaml").write_text(block("yaml"))
    yield load_rows()["peaks_l_to_c"]
    del registry._REGISTRY["method"]["peaks"], registry._REGISTRY["tap"]["centre logits"]
    del registry._SETTINGS["method"]["peaks"]


def test_the_example_runs_and_learns(row: RowConfig) -> None:
    assert row.method is not None
    method = build_method(row.method, spec("camera"), spec("lidar"))
    engine = DistillEngine(method, GRID, teacher=ToyTeacher())
    batch, student = make_batch(["t1", "t2"], [0, 0], [True, False]), make_outputs(2, 9, grad=True)
    optimiser, curve = torch.optim.Adam(leaves(student), lr=0.05), []
    for _ in range(30):
        total = engine(student, batch)["total"]
        curve.append(float(total.detach()))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert 0 < curve[-1] < 0.5 * curve[0]


def test_the_example_can_be_cached(row: RowConfig, tmp_path: Path) -> None:
    assert row.method is not None
    method = build_method(row.method, spec("camera"), spec("lidar"))
    frames = Frames(["t1", "t2"], np.array([True, False]), [1, 1])
    entries = all_entries(frames)
    cache = build_cache(method.wanted, ToyTeacher(), frames, tmp_path, entries, teacher_digest="", collate=collate)
    batch = with_targets(
        collate([frames.get_variant(i, v) for i, v in entries]), cache.reader(method.wanted, GRID, 0.3)
    )
    student = make_outputs(2, 9)
    found = DistillEngine(method, GRID, cached=True)(student, batch)
    wanted = DistillEngine(method, GRID, teacher=ToyTeacher())(student, batch)
    torch.testing.assert_close(found["peaks"], wanted["peaks"], rtol=2e-3, atol=2e-4)


def test_the_example_takes_part_in_combinations(row: RowConfig) -> None:
    """As the guide writes it: `weight` beside the options multiplies all losses of that method."""
    written = re.search(r"`method: (\{kind: combine, .*?\})`", GUIDE.read_text(encoding="utf-8"))
    assert written is not None
    config = parse(MethodConfig, yaml.safe_load(written.group(1)), "guide")
    method = build_method(config, spec("camera"), spec("lidar"))
    dense = build_method(MethodConfig("dense"), spec("camera"), spec("lidar"))
    assert method.weights() == {f"0.{name}": weight for name, weight in dense.weights().items()} | {"1.peaks": 1.0}
    assert method.config.parts[1].temperature == 2.0
