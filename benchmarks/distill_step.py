"""What distillation adds to a training step: distilled / plain, teacher cached and live, for every method.

    python benchmarks/distill_step.py [--scale sim] [--rounds 60] [--out benchmarks/results/distill_step.json]

Needs the data set of the scale (`bevkd simulate`, `bevkd convert`). Plain and distilled steps alternate on the same
batches in one process, each with its own copy of one student; reported are medians, and medians of paired ratios, of
  loss: student forward, teacher forward unless its targets come with the batch, all losses (the span that UniDistill's
    Table S8 times);
  step: the same with backward pass, clipping and optimiser.
On CPU the clock is the process's CPU time with one thread, on CUDA the synchronised wall clock. Teachers are those of
`results/runs` if they are trained, else fresh ones after `--teacher-steps` steps, so that there are boxes to decode.
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bevkd.bench.step import TimedStep
from bevkd.config import MethodConfig, RunConfig, load_run, load_scale, run_dir
from bevkd.config.compose import options_at
from bevkd.config.papers import stand_ins_at
from bevkd.data import collate
from bevkd.data.batch import Batch
from bevkd.distill import DistillEngine
from bevkd.io import write_json
from bevkd.models.detector import Detector, build_detector
from bevkd.processor import processor
from bevkd.train.checkpoint import load_detector
from bevkd.train.optim import resolve_precision
from bevkd.train.resolve import Lesson, lesson_of
from bevkd.train.setup import TrainStep
from bevkd.train.stream import batch_plan, training_frames
from bevkd.train.teacher import Teacher

logger = logging.getLogger("distill_step")

TEACHERS = {
    "L": "lidar_base",
    "C": "camera_base",
    "L+C": "fusion_base",
    "CenterPoint": "distillbev_cp",
    "gated L+C": "crkd_teacher",
}
# Rows of further training: what distilled rows differ from by the method alone.
STUDENTS = {
    "L": "lidar_further",
    "C": "camera_further",
    "C, two moments": "distillbev_further",
    "C, two branches": "simdistill_further",
    "C+R": "crkd_further",
    "C+R, calibrated": "crkd_further_calib",
}
TRIO = {"kind": "unidistill"}
METHODS: dict[str, MethodConfig] = {
    "unidistill": MethodConfig("unidistill"),
    "unidistill, feature only": MethodConfig("unidistill", {"weights": {"relation": 0, "response": 0}}),
    "unidistill, 3x3 adapters": MethodConfig("unidistill", {"adapter": {"kernel": 3}}),
    "imitation": MethodConfig("imitation"),
    "dense": MethodConfig("dense"),
    "dense + unidistill": MethodConfig("combine", {"methods": [{"kind": "dense"}, TRIO]}),
    "pseudo_boxes": MethodConfig("pseudo_boxes"),
    "distillbev": MethodConfig("distillbev"),
    "distillbev, before the head": MethodConfig("distillbev", {"levels": ["high"]}),
    "simdistill": MethodConfig("simdistill"),
    "simdistill, layer in cells": MethodConfig("simdistill", {"cmd": {"project_at": "cells"}}),
    "crkd": MethodConfig("crkd"),
    "crkd, no relations": MethodConfig("crkd", {"reld": {"enabled": False}}),
    "crkd, no activation": MethodConfig("crkd", {"csrd": {"enabled": False}}),
    "crkd, responses alone": MethodConfig("crkd", {part: {"enabled": False} for part in ("csrd", "msfd", "reld")}),
}
OF_BEV = [name for name in METHODS if name.startswith("distillbev")]
OF_SIM = [name for name in METHODS if name.startswith("simdistill")]
OF_CRKD = [name for name in METHODS if name.startswith("crkd")]
# Teacher, student, methods, and whether half of a batch is unlabelled: UniDistill on its four paths as its rows run it,
# and everything on the path of the label-efficiency study.
CASES: list[tuple[str, str, list[str], bool]] = [
    ("L+C", "L", ["unidistill"], False),
    ("L+C", "C", ["unidistill"], False),
    ("C", "L", ["unidistill", "unidistill, 3x3 adapters"], False),
    ("L", "C", ["unidistill"], False),
    ("L", "C", [name for name in METHODS if "adapters" not in name and name not in OF_BEV + OF_SIM + OF_CRKD], True),
    ("CenterPoint", "C, two moments", OF_BEV, False),
    ("L+C", "C, two branches", OF_SIM, False),
    ("gated L+C", "C+R", OF_CRKD, False),
    ("gated L+C", "C+R, calibrated", ["crkd"], False),
]


def contestant(run: RunConfig, student: Detector, engine: DistillEngine | None, device: torch.device) -> TimedStep:
    """A step of a copy of the student, timed by the process's CPU time where there is no CUDA."""
    return TimedStep(TrainStep(copy.deepcopy(student), engine), run.train, device, time.process_time)


def teacher_of(name: str, scale: str, steps: int, device: torch.device) -> tuple[Teacher, bool]:
    """A trained teacher, or a fresh one after a few steps; and whether it was trained."""
    name = stand_ins_at(scale).get(TEACHERS[name], TEACHERS[name])
    path = run_dir(name, scale, 0) / "model.pt"
    if path.exists():
        detector, run = load_detector(path)
        return Teacher(detector.to(device), run, "", path), True
    run = load_run(name, scale, 0)
    frames = training_frames(run)
    plan = batch_plan(run, frames)
    torch.manual_seed(0)
    timed = contestant(run, build_detector(run.model), None, device)
    for k in range(steps):
        timed.step(collate([frames.get(i, epoch) for i, epoch in plan.batch(k)]))
    return Teacher(timed.module.detector.eval(), run, "", path), False


def lesson_for(run: RunConfig, teacher: Teacher, name: str, mode: str, batches: int, cache: Path) -> Lesson:
    """What the run learns from by a method (or "plain"), for some batches."""
    if name == "plain":
        return lesson_of(run, None, None, batches)
    method = METHODS[name]
    options = options_at(method.kind, method.options, load_scale(run.scale))
    row = replace(run.row, teacher="teacher", method=replace(method, options=options), teacher_mode=mode)
    return lesson_of(replace(run, row=row), teacher, cache, batches)


def measure(
    teacher: Teacher, run: RunConfig, methods: list[str], rounds: int, batches: int, device: torch.device
) -> list[dict[str, Any]]:
    """Times of plain and distilled steps of one (teacher, student) pair."""
    torch.manual_seed(0)
    student = build_detector(run.model)
    timed: dict[tuple[str, str], TimedStep] = {}
    data: dict[tuple[str, str], list[Batch]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("plain", *methods):
            for mode in ("cached", "live") if name != "plain" else ("none",):
                lesson = lesson_for(run, teacher, name, mode, batches, Path(folder) / name)
                members = [lesson.stretches[0].plan.batch(k) for k in range(batches)]
                made = [collate([lesson.frames.get(i, epoch) for i, epoch in batch]).to(device) for batch in members]
                data[name, mode] = made
                timed[name, mode] = contestant(run, student, lesson.engine(student), device)
        times: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in timed}
        for k in range(rounds + 5):  # the first five warm up
            for key, one in timed.items():
                seconds = one.step(data[key][k % batches])
                if k >= 5:
                    times[key].append(seconds)
    base = np.array(times["plain", "none"])
    rows = []
    for (name, kind), values in times.items():
        seconds, ratios = np.array(values), np.array(values) / base
        row: dict[str, Any] = {"method": name, "teacher_mode": kind}
        for at, part in enumerate(("loss", "step")):
            row[f"{part}_ms"] = float(np.median(seconds[:, at]) * 1e3)
            row[f"{part}_ms_p90"] = float(np.quantile(seconds[:, at], 0.9) * 1e3)
            row[f"{part}_ratio"] = float(np.median(ratios[:, at]))
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="sim")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--teacher-steps", type=int, default=60)
    parser.add_argument("--student", choices=sorted({case[1] for case in CASES}), help="of this student alone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "distill_step.json")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    cases = [case for case in CASES if options.student in (None, case[1])]
    sources = [name for name in TEACHERS if any(name == case[0] for case in cases)]
    teachers = {name: teacher_of(name, options.scale, options.teacher_steps, device) for name in sources}
    rows = []
    for source, target, methods, unlabelled in cases:
        run = load_run(STUDENTS[target], options.scale, 0)
        if unlabelled:
            half = run.train.batch_size // 2
            train = replace(run.train, batch_size=half, unlabelled_per_batch=half)
            run = replace(run, row=replace(run.row, frames="all"), train=train)
        for row in measure(teachers[source][0], run, methods, options.rounds, options.batches, device):
            rows.append({"path": f"{source} -> {target}", "unlabelled": unlabelled} | row)
            logger.info(
                "%-9s %-26s %-7s loss %7.1f ms x%.3f   step %7.1f ms x%.3f",
                *(rows[-1][k] for k in ("path", "method", "teacher_mode")),
                *(rows[-1][k] for k in ("loss_ms", "loss_ratio", "step_ms", "step_ratio")),
            )
    content = {
        "scale": options.scale,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu, 1 thread",
        "processor": processor(),
        "precision": resolve_precision("auto", device.type),
        "clock": "wall" if device.type == "cuda" else "process CPU time",
        "torch": torch.__version__,
        "rounds": options.rounds,
        "batch": "four labelled frames, or half of them unlabelled",
        "trained_teachers": {name: trained for name, (_, trained) in teachers.items()},
        "rows": rows,
    }
    write_json(options.out, content)


if __name__ == "__main__":
    main()
