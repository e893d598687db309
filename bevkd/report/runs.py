"""Finished runs: where they keep their files, and the numbers that tables, figures and claims read from these."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.config import RowConfig, RunConfig, read_yaml, run_dir, stored_run
from bevkd.config.chain import find_row
from bevkd.config.snapshots import snapshot_metrics
from bevkd.errors import ConfigError, DataError
from bevkd.eval.attention import read_attention, summary
from bevkd.hints import how_to_train
from bevkd.io import read_json
from bevkd.report.course import read_course
from bevkd.report.logs import Array, curve, smooth
from bevkd.report.metrics import TRAINING, Source, metric, value_of


def results_dir(scale: str, runs: Path = Path("results/runs")) -> Path:
    """Folder of tables, figures, ledger and report: the one above `runs` at scale sim, a sub-folder of it otherwise."""
    return runs.parent if scale == "sim" else runs.parent / scale


def kept_config(results: Path, run: str) -> Path:
    """Resolved config of a run's first seed, as it is kept with the results."""
    return results / "configs" / f"{run}.yaml"


def cost_file(run: str, scale: str, runs: Path) -> Path:
    """What `bevkd bench` found of a run; not in the run's folder, which is finished when its training is."""
    return results_dir(scale, runs) / "costs" / f"{run}.json"


def response_file(run: str, scale: str, seed: int, split: str, runs: Path) -> Path:
    """What `bevkd response` found of a run; as with costs, not in the run's folder."""
    return results_dir(scale, runs) / "responses" / run / f"seed{seed}" / f"{split}.json"


def profile_file(run: str, scale: str, runs: Path) -> Path:
    """What `bevkd profile` found of a run's network; as with costs, not in the run's folder."""
    return results_dir(scale, runs) / "profiles" / f"{run}.json"


@dataclass(frozen=True)
class Runs:
    """The finished runs of one scale.

    Attributes:
        root: folder of all runs, `results/runs`.
        scale: scale name.
        rows: experiment rows by run id; they say which seeds exist.
    """

    root: Path
    scale: str
    rows: Mapping[str, RowConfig]

    def row(self, run: str) -> RowConfig:
        """The experiment row of a run.

        Raises:
            ConfigError: there is none.
        """
        return find_row(run, self.rows)

    def folder(self, run: str, seed: int) -> Path:
        """Where a run keeps its files."""
        return run_dir(run, self.scale, seed, self.root)

    def config_file(self, run: str) -> Path:
        """Resolved config of the first seed that is there: of a teacher, only those that teach may be."""
        files = [self.folder(run, seed) / "config.yaml" for seed in self.row(run).seeds]
        return next((file for file in files if file.exists()), files[0])

    def config(self, run: str) -> RunConfig:
        """Resolved config of the first seed that is there.

        Raises:
            DataError: the run has not been trained, or its config does not fit this version.
        """
        file = self.config_file(run)
        if not file.exists():
            raise DataError(not_trained(self, run, self.row(run).seeds[0]), file=file)
        return read_config(file)

    def file(self, kind: Source, run: str, seed: int, split: str) -> Path:
        """The file of that kind that holds numbers of a run and seed, for a split of its data as tables name it."""
        if kind == "log":
            return self.folder(run, seed) / "log.jsonl"
        if kind == "cost":
            return cost_file(run, self.scale, self.root)
        if kind == "profile":
            return profile_file(run, self.scale, self.root)
        name = self.config(run).data.split(split)
        if kind == "response":
            return response_file(run, self.scale, seed, name, self.root)
        return self.folder(run, seed) / f"{kind}_{name}.{'npz' if kind == 'attention' else 'json'}"

    def values(self, run: str, split: str, keys: Iterable[str]) -> dict[int, dict[str, float]]:
        """Metrics per repetition, in printed units: `{seed: {key: value}}`.

        Repetitions are seeds; of costs they are the repeats of the benchmark; a network is profiled once. All keys are
        of one of these three kinds. Metrics of pairs of runs are not of a run: see `bevkd.report.pairs.pair_values`.

        Raises:
            DataError: a run lacks a file; the message names both.
        """
        keys = list(keys)
        kinds = {metric(key).file for key in keys}
        if kinds == {"cost"}:
            return self._costs(run, keys)
        if kinds == {"profile"}:
            content, file = self.read("profile", run, 0, split)
            return {0: {key: value_of(content, key, file) for key in keys}}
        assert not kinds & {"cost", "profile"}, "what is repeated in different ways has no common repetitions"
        out: dict[int, dict[str, float]] = {seed: {} for seed in self.row(run).seeds}
        for seed, found in out.items():
            for kind in sorted(kinds - {"log"}):
                content, file = self.read(kind, run, seed, split)
                found |= {key: value_of(content, key, file) for key in keys if metric(key).file == kind}
            found |= {key: self._loss(run, seed, key) for key in keys if metric(key).file == "log"}
        return {seed: {key: found[key] for key in keys} for seed, found in out.items()}

    def read(self, kind: Source, run: str, seed: int, split: str) -> tuple[Any, Path]:
        """Content and place of the file of that kind, of attention what is counted of it; arguments as of `file`.

        Raises:
            DataError: it is not there, or unusable; the message names run and file.
        """
        if kind == "snapshots":
            return self._snapshots(run, seed, split), self.folder(run, seed)
        file = self.existing(kind, run, seed, split)
        return (summary(read_attention(file)) if kind == "attention" else read_json(file)), file

    def existing(self, kind: Source, run: str, seed: int, split: str) -> Path:
        """The file of that kind; arguments as of `file`.

        Raises:
            DataError: it is not there; the message names run and file.
        """
        file = self.file(kind, run, seed, split)
        if not file.exists():
            what = "costs" if kind == "cost" else kind
            of = "" if kind in ("cost", "profile") else f" for seed {seed}"
            raise DataError(f"run {run!r} has no {what}{of} at scale {self.scale!r}", file=file)
        return file

    def snapshots(self, run: str) -> int:
        """How many snapshots a run keeps, its model among them.

        Raises:
            ConfigError: none.
        """
        count = self.config(run).train.snapshots
        if count < 2:
            raise ConfigError(f"run {run!r} keeps no snapshots: train.snapshots is {count}")
        return count

    def _snapshots(self, run: str, seed: int, split: str) -> dict[str, Any]:
        """Metrics by part of the schedule, `training:1/6` to `training:6/6`, which is the model itself."""
        count, name = self.snapshots(run), self.config(run).data.split(split)
        out = {}
        for number in range(1, count + 1):
            file = self.folder(run, seed) / snapshot_metrics(number, count, name)
            if not file.exists():
                raise DataError(f"run {run!r}, seed {seed}: snapshot {number} of {count} has no metrics", file=file)
            out[f"{TRAINING}{number}/{count}"] = read_json(file)
        return out

    def _costs(self, run: str, keys: list[str]) -> dict[int, dict[str, float]]:
        """What training costs, per repeat of the benchmark."""
        content, file = self.read("cost", run, 0, "report")
        repeats = content.get("repeats") if isinstance(content, dict) else None
        if not isinstance(repeats, list) or not repeats:
            raise DataError("not what a benchmark writes", file=file, field="repeats")
        return {k: {key: value_of(one, key, file) for key in keys} for k, one in enumerate(repeats)}

    def _loss(self, run: str, seed: int, key: str) -> float:
        """Mean of a logged loss over the schedule or its last tenth, or how the training went."""
        name, part = metric(key).field
        file = self.file("log", run, seed, "report")
        if name == "course":
            value = getattr(read_course(file), part)
            if value is None and not (part == "kd_share" and self.row(run).method is None):
                raise DataError(f"the training log of run {run!r} does not say it", file=file, field=part)
            return math.nan if value is None else metric(key).factor * float(value)
        steps, values = curve(file, name, self.config(run).model.loss)
        shown = values if part == "all" else values[steps > 0.9 * steps[-1]]
        return float(shown.mean())

    def curves(self, run: str, field: str, window: float) -> tuple[Array, Array]:
        """Steps (n,) and smoothed logged losses (seeds, n); `window` is a fraction of the number of lines.

        Raises:
            DataError: a log is missing or unusable, or the seeds were logged at different steps.
        """
        steps: Array | None = None
        curves = []
        for seed in self.row(run).seeds:
            path = self.file("log", run, seed, "report")
            at, values = curve(path, field, self.config(run).model.loss)
            if steps is not None and not np.array_equal(steps, at):
                raise DataError(f"run {run!r}: seeds were logged at different steps", file=path, field="step")
            steps = at
            curves.append(smooth(values, round(window * len(values))))
        assert steps is not None  # a row has at least one seed
        return steps, np.stack(curves)


def not_trained(runs: Runs, run: str, seed: int) -> str:
    """That a run has not been trained, and what does it."""
    how = how_to_train(run, runs.scale, seed, runs.root)
    return f"run {run!r} has not been trained at scale {runs.scale!r} with seed {seed}{how}"


def read_config(file: Path) -> RunConfig:
    """A resolved config as a run left it, with today's settings.

    Raises:
        DataError: it is missing, or does not fit this version.
    """
    try:
        return _parse_config(file, file.stat().st_mtime_ns)
    except FileNotFoundError:
        raise DataError("resolved config is missing", file=file) from None


@lru_cache(maxsize=512)
def _parse_config(file: Path, changed_ns: int) -> RunConfig:
    """The config of a file; `changed_ns` keeps a rewritten file from being mistaken for the one read before."""
    try:
        return stored_run(read_yaml(file), str(file))
    except ConfigError as error:
        raise DataError(f"resolved config cannot be read: {error}", file=file) from error
