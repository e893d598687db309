"""Every published configuration behind the papers' tables is built and takes one step, on a reduced batch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from models_batch import make_batch, make_cameras, make_past, paint
from torch import nn

from bevkd.config import ModelConfig, RunConfig, load_run, to_plain
from bevkd.data.batch import Batch
from bevkd.distill import DistillEngine, build_method
from bevkd.models.backbone.resnet_settings import ResNetSettings
from bevkd.models.camera.lss_settings import LSSSettings
from bevkd.models.detector import Detector, build_detector, weights_come_later
from bevkd.models.outputs import BEVOutputs
from bevkd.models.tasks import class_order
from bevkd.report.spec import load_tables, pool
from bevkd.train.optim import build_optimizer
from bevkd.train.views import shared_reads, student_reads, teacher_reads

TABLES = [f"unidistill_{name}" for name in ("paths", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")]
TABLES += [f"crkd_{name}" for name in (*(f"s{number}" for number in range(1, 10)), "a4", "main", "ablation")]
TABLES += [
    "distillbev_main",
    "distillbev_scratch",
    "distillbev_combos",
    *(f"simdistill_{name}" for name in ("t1", "losses", "backbones")),
]


def published_runs() -> dict[str, list[RunConfig]]:
    """The runs in the tables, controls as well, by student: those of one network share a forward pass here."""
    tables = load_tables("paper")
    out: dict[str, dict[str, RunConfig]] = {}
    for table in TABLES:
        for row in tables[table].rows:
            for name in pool(row.run):
                run = load_run(name, "paper", 0)
                network = replace(run.model, loss=None)
                kept = out.setdefault(repr(to_plain(network)), {})
                kept.setdefault(repr((run.model.loss, run.row.teacher, run.row.method)), run)
    return {next(iter(kept.values())).run: list(kept.values()) for kept in out.values()}


STUDENTS = published_runs()
WHOLE = "s4_lidar"  # on a map of the published size, with every loss of UniDistill; the others' maps are a ninth of it


def cropped(run: RunConfig) -> RunConfig:
    """The same networks, cells and strides around the vehicle alone: what is published of layers does not change."""
    grid = run.model.grid
    parts = 3 if round(2 * grid.reach / grid.cell) % 3 == 0 else 4  # of 180 cells, or of 128
    return replace(run, model=replace(run.model, grid=replace(grid, reach=grid.reach / parts)))


def batch_for(models: list[ModelConfig]) -> Batch:
    """One frame with two cameras, labelled with classes of the head, and whatever any of the models reads."""
    model = models[0]
    batch = make_batch(model, frames=1)
    camera = next((m.camera for m in models if "camera" in m.sensors), LSSSettings())
    batch.cameras = make_cameras(1, camera.image_size, cameras=2)
    paint(batch.cameras, batch.boxes)
    batch.extra["camera_past"] = make_past(batch.cameras)
    g = torch.Generator().manual_seed(0)
    height, width = camera.image_size
    hits = torch.rand(1, 2, height, width, generator=g) < 0.05
    batch.cameras.lidar = torch.where(hits, 2 + 50 * torch.rand(hits.shape, generator=g), 0.0)
    s = camera.stride
    nearest = torch.where(hits, batch.cameras.lidar, math.inf).unfold(2, s, s).unfold(3, s, s).amin((-1, -2))
    batch.cameras.depth = torch.where(nearest.isinf(), 0.0, nearest)
    order = class_order(model.head.tasks)
    batch.boxes.labels = torch.tensor([order[i % len(order)] for i in range(len(batch.boxes))])
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_one_step(name: str) -> None:
    """All losses of all runs of a student on one frame, and one update by their sum."""
    sized = (lambda run: run) if name == WHOLE else cropped
    runs = [sized(run) for run in STUDENTS[name]]
    torch.manual_seed(0)
    student = build_detector(weights_come_later(runs[0].model)).train()
    teachers: dict[str, Detector] = {}
    engines: dict[str, DistillEngine] = {}
    for run in runs:
        if run.row.teacher is None:
            continue
        assert run.row.method is not None
        assert run.row.teacher_mode == "live"  # augmentations are drawn anew, nothing can be cached
        taught = sized(load_run(run.row.teacher, "paper", 0))
        if run.row.teacher not in teachers:
            teachers[run.row.teacher] = build_detector(weights_come_later(taught.model))
        teacher = teachers[run.row.teacher]
        assert teacher.grid == run.model.grid.build()
        assert shared_reads(student_reads(run), teacher_reads(taught)) is not None  # one batch is for both
        method = build_method(run.row.method, student.spec, teacher.spec)
        engines[run.run] = DistillEngine(method, student.grid, teacher=teacher)
    batch = batch_for([runs[0].model, *(teacher.config for teacher in teachers.values())])
    trained = nn.ModuleList([student, *engines.values()])
    adapters = [(f"adapters.{run}.{key}", p) for run, engine in engines.items() for key, p in engine.named_parameters()]
    optimiser = build_optimizer([*student.named_parameters(), *adapters], runs[0].train)
    outputs = student(batch)
    known: dict[str, BEVOutputs] = {}
    with torch.inference_mode():
        known = {key: teacher.eval()(batch) for key, teacher in teachers.items()}
    total = torch.zeros(())
    criteria = {repr(runs[0].model.loss): student.criterion}
    for run in runs:
        if repr(run.model.loss) not in criteria:
            criteria[repr(run.model.loss)] = build_detector(weights_come_later(run.model)).criterion
        losses = criteria[repr(run.model.loss)](outputs, batch)
        if run.run in engines:
            assert run.row.teacher is not None
            engine = engines[run.run]
            engine._teacher = (Known(known[run.row.teacher], teachers[run.row.teacher]),)  # looks at the frame once
            distilled = engine(outputs, batch)
            assert distilled["total"] > 0
            losses = losses | {f"kd_{key}": value for key, value in distilled.items()}
            total = total + distilled["total"]
        for key, value in losses.items():
            assert torch.isfinite(value), f"{run.run}: {key}"
        total = total + losses["total"]
    total.backward()
    for key, parameter in trained.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
    before = [p.detach().clone() for p in student.head.parameters()]
    optimiser.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, student.head.parameters(), strict=True))


class Known(nn.Module):
    """A teacher that has looked at the batch already."""

    def __init__(self, outputs: BEVOutputs, teacher: Detector) -> None:
        super().__init__()
        self.outputs, self.decode, self.spec = outputs, teacher.decode, teacher.spec

    def forward(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        return self.outputs


def test_published_settings() -> None:
    """UniDistill spec, sections 2 to 4, 7 and 8."""
    for table in (name for name in TABLES if name.startswith("unidistill")):
        for row in load_tables("paper")[table].rows:
            for name in pool(row.run):
                run = load_run(name, "paper", 0)
                model, train = run.model, run.train
                waymo = run.data.kind == "waymo"
                assert train.epochs == (18 if waymo else 20), name
                assert (train.batch_size, train.grad_clip, train.optimizer.weight_decay) == (20, 0.1, 0.01), name
                assert train.lr == (2e-4 if model.sensors == ("camera",) else 1e-3), name
                assert run.data.cbgs == (not waymo), name
                assert run.data.train_split == ("train" if waymo else "train+tune"), name
                assert run.data.box_range == "corner", name
                assert (model.head.norm_eps, model.head.norm_momentum) == (1e-5, 0.1), name
                assert model.camera is None or model.camera.image_size == (256, 704), name
                grid = model.grid.build()
                if not waymo:
                    assert (grid.W, grid.H, grid.cell) == (180, 180, 0.6), name
                if "lidar" in model.sensors:
                    assert (model.lidar.kind, model.lidar.cell) == ("voxel", 0.08 if waymo else 0.075), name
                queries = model.head.kind == "transfusion"
                alone = table in ("unidistill_s6", "unidistill_s7") or "reweighted" in name or queries
                assert getattr(model.loss, "auto_scaling", False) == (not alone), name
                half = table in ("unidistill_s4", "unidistill_s5")
                assert run.data.train_stride == (10 if waymo else 2 if half else 1), name


def test_published_settings_of_crkd() -> None:
    """CRKD spec, sections 2, 3 and 9: a third stage has half the learning rate and no pasted objects."""
    seen = set()
    for table in (name for name in TABLES if name.startswith("crkd")):
        for row in load_tables("paper")[table].rows:
            for name in pool(row.run):
                run = load_run(name, "paper", 0)
                model, train = run.model, run.train
                third = any(init.run.endswith("_student") for init in run.row.inits)
                seen.add((model.sensors, third))
                assert (train.epochs, train.grad_clip, train.optimizer.weight_decay) == (20, 35.0, 0.01), name
                assert (train.batch_size, train.lr) == ((8, 1e-4) if third else (16, 2e-4)), name
                assert (train.schedule.kind, train.schedule.end, train.schedule.warmup.step) == ("cosine", 1e-3, 500)
                assert bool(run.data.augment.gt_paste) == ("lidar" in model.sensors), name
                assert model.camera.image_size == (256, 704), name
                grid = model.grid.build()
                assert (grid.W, grid.H, grid.cell) == (180, 180, 0.6), name
                assert run.data.radar_sweeps == 6, name
                doubled = "reweighted" in name
                assert (model.loss.heatmap_weight, model.loss.loc_weight) == (2.0 if doubled else 1.0, 0.25), name
    assert seen == {(("lidar", "camera"), False), (("camera", "radar"), False), (("camera", "radar"), True)}


def test_transfusion_as_published() -> None:
    query = load_run("s4_p1", "paper", 0).model.head.query
    assert (query.proposals, query.channels, query.attention_heads, query.layers, query.local_max) == (
        200,
        128,
        8,
        1,
        3,
    )
    assert query.cost == (0.15, 0.25, 0.25)
    assert query.every_cell == ("pedestrian", "traffic_cone")
    assert (query.class_weight, query.heatmap_weight, query.box_weight) == (1.0, 1.0, 0.25)


def test_heads_backbones_and_inputs_are_one_line_of_yaml() -> None:
    """Tables S2, S4 and S5 differ from the plain detectors in one setting each (and in what follows from it)."""
    plain = load_run("camera_base", "paper", 0).model
    own = plain.camera.backbone
    assert own == ResNetSettings(weights="data/weights/resnet-50")
    swin, projected = load_run("s5_camera", "paper", 0).model, load_run("lidar_image", "paper", 0).model
    assert replace(swin, camera=replace(swin.camera, backbone=own)) == plain
    assert replace(projected, camera=replace(projected.camera, input="rgb", backbone=own)) == plain
    lidar, queries = load_run("lidar_base", "paper", 0).model, load_run("s4_lidar", "paper", 0).model
    assert (queries.head.kind, lidar.head.kind) == ("transfusion", "center")
    assert replace(queries, head=lidar.head, loss=lidar.loss, decode=lidar.decode) == lidar
