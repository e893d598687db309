"""How fast frames of published size come off the disk: frames per second, with 0, 1 and 2 workers, against plain ways.

    python benchmarks/feed_speed.py [--rounds 5] [--steps 6] [--batch 4] [--out benchmarks/results/feed_speed.json]

Frames are those of the simulator with files of published size in their place: eleven sweeps of 34,000 points (ten and
the key sweep), six JPEGs of 900 x 1600. They are read and augmented as the published rows have it, in batches that
`Batch.to` has brought to the CPU. Two ways take turns in one process:
  fed: as in training;
  plain: products of all points at once, images resized as a whole and then cropped, and workers that prepare whole
    batches with their images already normalised.
Reported are medians of the rounds, and the median of the paired ratios of their seconds: without workers of CPU time,
which is what one worker can do, with workers of the wall clock from the first batch on, on a machine that should be
quiet. All in child processes with one thread for linear algebra, as the workflow has it; LiDAR without workers again
with as many as there are cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bevkd.bench.timing import Timings, machine, take_turns
from bevkd.config import load_run
from bevkd.data import Batch, BatchPlan, FrameDataset, collate, convert_nuscenes, points
from bevkd.data.dataset import EVERY_LABEL
from bevkd.io import write_json
from bevkd.sim import SCALES, simulate_nuscenes
from bevkd.train.stream import Phase, StepDataset, timed_batches

RUNS = {"lidar": "lidar_base", "camera": "camera_base", "fusion": "fusion_base"}
POINTS, HEIGHT, WIDTH = 34_000, 900, 1600


def make_files(folder: Path) -> None:
    """A simulated data set of few scenes, its files blown up to published size, and its index."""
    smoke = SCALES["smoke"]
    config = replace(
        smoke,
        splits=replace(smoke.splits, keyframes_per_scene=3),
        lidar=replace(smoke.lidar, sweeps=9),
    )
    simulate_nuscenes(config, folder / "data", seed=0)
    rng = np.random.default_rng(0)
    for path in (folder / "data").glob("s*/LIDAR_TOP/*.bin"):
        reach, angle = rng.gamma(2.0, 8.0, POINTS), rng.uniform(0, 2 * np.pi, POINTS)
        place = [reach * np.cos(angle), reach * np.sin(angle), rng.normal(-1, 1, POINTS)]
        np.stack([*place, rng.uniform(0, 255, POINTS), rng.integers(0, 32, POINTS)], axis=1).astype("<f4").tofile(path)
    noise = rng.normal(0, 3, (HEIGHT, WIDTH, 3))  # makes files nearly as large as real ones: see jpeg_kb
    for path in (folder / "data").glob("samples/CAM_*/*.jpg"):
        large = np.asarray(Image.open(path).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) + noise
        Image.fromarray(large.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=80)
    convert_nuscenes(folder / "data", "v1.0-sim", folder / "index")


def frames_of(run: str, folder: Path, crop_in_resize: bool) -> FrameDataset:
    """Training frames of a published row."""
    config = load_run(run, "paper", 0)
    where: dict[str, Any] = {"root": str(folder / "data"), "index": str(folder / "index"), "version": "v1.0-sim"}
    data = replace(config.data, **where, crop_in_resize=crop_in_resize)
    return FrameDataset(data, config.model, "train", train=True, seed=0, labelled_subset=EVERY_LABEL)


class WholeBatches(Dataset[Batch]):
    """Batches as items."""

    def __init__(self, samples: StepDataset) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples) // self.samples.frames_per_batch

    def __getitem__(self, step: int) -> Batch:
        count = self.samples.frames_per_batch
        return collate([self.samples[i] for i in range(step * count, (step + 1) * count)]).to("cpu")


def fed(samples: StepDataset, workers: int) -> Iterator[Batch]:
    """Batches as the training gets them."""
    return (batch.to("cpu") for batch, _ in timed_batches(samples, workers))


@contextmanager
def plain_products() -> Iterator[None]:
    """All rows at once."""
    block, points.BLOCK = points.BLOCK, sys.maxsize
    try:
        yield
    finally:
        points.BLOCK = block


def plain(samples: StepDataset, workers: int) -> Iterator[Batch]:
    """Batches the plain way."""
    with plain_products():
        batches: Any = WholeBatches(samples)
        if workers:
            batches = DataLoader(batches, batch_size=None, num_workers=workers, collate_fn=lambda item: item)
        yield from (batches[i] for i in range(len(batches))) if workers == 0 else batches


def after_the_first(batches: Iterator[Batch], workers: int) -> float:
    """Seconds that all batches but the first take, which waits for the workers to start."""
    clock = time.perf_counter if workers else time.process_time
    next(batches)
    began = clock()
    for _ in batches:
        pass
    return clock() - began


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Frames per second of the kinds of detectors, in this process."""
    out: dict[str, Any] = {}
    for kind in options.kinds:
        run = RUNS[kind]
        ways: dict[str, tuple[FrameDataset, Callable[[StepDataset, int], Iterator[Batch]]]] = {
            "fed": (frames_of(run, folder, True), fed),
            "plain": (frames_of(run, folder, False), plain),
        }
        late = [i for i, at in enumerate(ways["fed"][0]._frames) if len(ways["fed"][0].index.lidar_sweeps[at]) >= 10]
        plan = BatchPlan(np.array(late), np.arange(0), options.batch, 0, 0)
        out[kind] = {}
        for workers in options.workers:
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(options.rounds):
                for way in ways if turn % 2 == 0 else reversed(ways):
                    frames, stream = ways[way]
                    samples = StepDataset([Phase(0, frames, plan)], 0, options.steps, 0, 1)
                    seconds[way].append(after_the_first(stream(samples, workers), workers))
            timings = Timings(seconds)
            count = (options.steps - 1) * options.batch
            row = {f"{way}_frames_per_s": round(count / timings.median(way), 2) for way in ways}
            out[kind][f"workers_{workers}"] = row | {"seconds_ratio": round(timings.ratio("fed", "plain"), 3)}
    return out


def products() -> dict[str, Any]:
    """Nanoseconds a row of the product of eleven sweeps with a rotation."""
    cloud = np.ones((11 * POINTS, 5), dtype=np.float32)
    rotation = np.eye(3, dtype=np.float32).T

    def at_once() -> None:
        with plain_products():
            points.multiply(cloud, rotation)

    timings = take_turns({"blocks": lambda: points.multiply(cloud, rotation), "at_once": at_once}, rounds=20)
    row = {f"{way}_ns": round(timings.median(way) / len(cloud) * 1e9, 2) for way in ("blocks", "at_once")}
    return row | {"seconds_ratio": round(timings.ratio("blocks", "at_once"), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "feed_speed.json")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=list(RUNS))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        torch.set_num_threads(1)
        print(json.dumps({"product": products()} | measure(options.child, options)))
        return
    result: dict[str, Any] = {"batch": options.batch, "rounds": options.rounds, "machine": machine()}
    names = [f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL")]
    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name))
        sizes = [path.stat().st_size for path in Path(name).glob("data/samples/CAM_*/*.jpg")]
        result["jpeg_kb"] = round(float(np.mean(sizes)) / 1e3)
        for title, count, kinds, workers in (
            ("one_thread", 1, options.kinds, options.workers),
            ("all_threads", os.cpu_count(), ["lidar"], [0]),
        ):
            environment = os.environ | dict.fromkeys(names, str(count))
            arguments = [f"--{key}={getattr(options, key)}" for key in ("rounds", "steps", "batch")]
            command = [sys.executable, __file__, *arguments, "--child", name, "--kinds", *kinds]
            command += ["--workers", *map(str, workers)]
            found = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
            result[title] = json.loads(found.stdout)
    write_json(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
