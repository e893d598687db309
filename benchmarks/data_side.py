"""What a whole training step costs with samples out of the store and plans by transposing, against neither.

    python benchmarks/data_side.py [--rounds 40] [--out benchmarks/results/data_side.json]

Needs the data set of the default scale (`bevkd simulate`, `bevkd convert`); its index is copied, so that the store is
empty at first. Three trainings of one run take turns in one process, on the same batches, each with a network of its
own: that they stay equal to the bit is checked. All frames have been decoded once before.
  before: every sample is augmented anew; lift-splat's points are sorted, with fresh memory for each operation;
  first: samples are made and put into the store;
  later: samples are read, as in every run after the first one.
Reported are medians of CPU milliseconds, one thread, and medians of the paired ratios. Beside the whole step, in which
a busy machine hides a few per cent, stand the two parts that differ: `feed` (samples and batch) and `plan` (cells and
order of the frustum points).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from bevkd.bench.timing import machine, take_turns
from bevkd.config import RunConfig, load_run
from bevkd.data import FrameDataset, collate
from bevkd.data.batch import Cameras
from bevkd.geometry import BEVGrid
from bevkd.io import write_json
from bevkd.models.camera.view import splat
from bevkd.models.ops.lift_splat import _plan_by_sorting
from bevkd.train.optim import build_optimizer
from bevkd.train.runtime import build_fabric, torch_settings
from bevkd.train.setup import TrainStep, build_student
from bevkd.train.stream import batch_plan, training_frames
from bevkd.train.views import student_reads

RUNS = {"camera": "camera_base", "fusion": "fusion_base"}  # samples without images are not stored


def plain_cells(
    cameras: Cameras, bev: Tensor, grid: BEVGrid, z_range: tuple[float, float], depths: Tensor, size: tuple[int, int]
) -> Tensor:
    """Cells of the frustum points, each operation into fresh memory."""
    height, width = cameras.images.shape[-2:]
    v, u = (torch.linspace(0, last - 1, n, dtype=torch.float64) for last, n in zip((height, width), size, strict=True))
    pixels = torch.stack([*torch.meshgrid(u, v, indexing="xy"), torch.ones(size).double()])
    to_ego = bev.double()[:, None] @ cameras.ego_from_camera.double()
    inverse = torch.linalg.inv(cameras.image_aug.double() @ cameras.intrinsics.double())
    rays = ((to_ego[..., :3, :3] @ inverse) @ pixels.flatten(1)).unflatten(-1, size).float()
    origin = to_ego[..., :3, 3].float()

    def along(axis: int, low: float, step: float) -> Tensor:
        scaled = rays[:, :, axis, :, :, None] * (depths / step)
        return torch.floor(scaled + ((origin[..., axis] - low) / step)[:, :, None, None, None])

    ix, iy = along(0, grid.x_min, grid.cell), along(1, grid.y_min, grid.cell)
    layer = along(2, z_range[0], z_range[1] - z_range[0])
    inside = (ix >= 0) & (ix < grid.W) & (iy >= 0) & (iy < grid.H) & (layer == 0)
    frame = torch.arange(len(bev), dtype=torch.int32)[:, None, None, None, None]
    cell = (frame * grid.H + torch.where(inside, iy, 0.0).int()) * grid.W + torch.where(inside, ix, 0.0).int()
    return torch.where(inside, cell, -1)


@contextmanager
def plain_plans() -> Iterator[None]:
    """Lift-splat as it was."""
    with mock.patch.multiple(splat, frustum_cells=plain_cells, plan_splat=_plan_by_sorting):
        yield


class Way:
    """One of the trainings."""

    def __init__(self, run: RunConfig, frames: FrameDataset, plain: bool) -> None:
        self.frames, self.plain, self.clip = frames, plain, run.train.grad_clip
        self.plan, self.step = batch_plan(run, frames), 0
        self.parts: dict[str, list[float]] = {"feed": [], "plan": []}
        self.fabric = build_fabric(run.train)
        detector = TrainStep(build_student(run), None)
        self.module, self.optimizer = self.fabric.setup(
            detector, build_optimizer(detector.named_parameters(), run.train)
        )
        self.module.train()
        view: Any = next(m for m in detector.modules() if isinstance(m, splat.LiftSplat))
        self._planned = view._splat_plan
        view._splat_plan = self._timed_plan

    def _timed_plan(self, *arguments: Any) -> Any:
        began = time.process_time()
        out = self._planned(*arguments)
        self.parts["plan"].append(time.process_time() - began)
        return out

    def __call__(self) -> None:
        """A step."""
        if not self.plain:
            return self._step()
        with plain_plans():
            return self._step()

    def _step(self) -> None:
        began = time.process_time()
        batch = collate([self.frames.get(*member) for member in self.plan.batch(self.step)]).to("cpu")
        self.parts["feed"].append(time.process_time() - began)
        self.fabric.backward(self.module(batch)["total"])
        self.fabric.clip_gradients(self.module, self.optimizer, max_norm=self.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1


def measure(run: RunConfig, rounds: int) -> dict[str, Any]:
    """CPU time of the ways to train a run."""

    def frames(gb: float) -> FrameDataset:
        return training_frames(replace(run, data=replace(run.data, store_gb=gb)), student_reads(run))

    before, first, filler, later = frames(0.0), frames(4.0), frames(4.0), frames(4.0)
    plan = batch_plan(run, before)
    for i in sorted({i for step in range(rounds + 5) for i, _ in plan.batch(step)}):
        for one in (before, first):
            one._load(i)
    ways = {"before": Way(run, before, True), "first": Way(run, first, False), "later": Way(run, later, False)}
    # What the last way reads has been written by another training, elsewhere: the first one's would come too late
    # where the order alternates.
    for step in range(rounds + 5):
        for member in plan.batch(step):
            filler.get(*member)
    assert later._store is not None
    assert first._store is not None
    apart = first._store.root.with_name("first_samples")
    first._store.root, first._store.folder = apart, apart / first._store.folder.name
    timings = take_turns(ways, rounds, clock=time.process_time)
    states = [way.module.state_dict() for way in ways.values()]
    for name, tensor in states[0].items():
        assert all(torch.equal(tensor, other[name]) for other in states[1:]), f"{name} differs"
    out: dict[str, Any] = {}
    for name, way in ways.items():
        out[name] = {"step_ms": round(timings.median(name) * 1e3, 1), "ratio": round(timings.ratio(name, "before"), 3)}
        for part, seconds in way.parts.items():
            out[name][f"{part}_ms"] = round(statistics.median(seconds[-rounds:]) * 1e3, 2)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--kinds", nargs="+", default=list(RUNS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "data_side.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"rounds": options.rounds, "machine": machine()}
    with tempfile.TemporaryDirectory() as name:
        for kind in options.kinds:
            run = load_run(RUNS[kind], "sim", 0)
            index = Path(name) / kind / "index"
            shutil.copytree(run.data.index, index)
            run = replace(run, data=replace(run.data, index=str(index)))
            with torch_settings(run.train):
                result[kind] = measure(run, options.rounds)
    write_json(options.out, result)
    print(result)


if __name__ == "__main__":
    main()
