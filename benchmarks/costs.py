"""What the jobs of the last run really cost, beside the estimate of a dry run: CPU seconds by rule and model.

    python benchmarks/costs.py [--scale sim] [--write]

Reads the CPU time that each job leaves at the end of its log (`results/logs/<scale>`), or, of jobs that started cold,
Snakemake's benchmark files (`results/benchmarks/<scale>`). `--write` sets the cost table of the scale in
config/config.yaml to what was measured; what has not been measured stays. Trainings that were resumed do not count.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from bevkd.config import RowConfig, RunConfig, WorkflowConfig, load_rows, load_run, parse, to_plain
from bevkd.config.workflow import CostConfig
from bevkd.distill.cache_key import audiences_of
from bevkd.distill.sizes import adding, expected_entries
from bevkd.io import write_text
from bevkd.processor import cpu_has_bf16

CONFIG = Path("config/config.yaml")
_SPENT = re.compile(r"^CPU time ([\d.]+) s, peak memory", re.MULTILINE)
_PAGES = ("table", "figure", "part", "report", "report_preview")
# Of a row that is no more, or priced by what it looks at.
_NOBODYS = ("train", "evaluate", "response", "gates", "attention", "matches", "cache_teacher", "bench", "profile")


@dataclass(frozen=True)
class Job:
    """A job that ran.

    Attributes:
        rule: the rule, such as `train`.
        name: its log without the ending, such as `lidar_base-seed0`.
        seconds: CPU time.
    """

    rule: str
    name: str
    seconds: float


def cpu_seconds(log: Path, benchmark: Path) -> float | None:
    """CPU time of a job; None where it is not known, or where the job only finished what another one began."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    found = list(_SPENT.finditer(text))
    if found:
        last = text[found[-2].end() if len(found) > 1 else 0 : found[-1].start()]
        return None if "resuming " in last else float(found[-1][1])
    if "resuming " in text or not benchmark.exists():
        return None
    with benchmark.open(encoding="utf-8", newline="") as stream:
        values = [row.get("cpu_time", "NA") for row in csv.DictReader(stream, delimiter="\t")]
    return float(values[-1]) if values and values[-1] not in ("NA", "-", "") else None


def jobs_of(results: Path, scale: str) -> list[Job]:
    """All jobs of a scale whose CPU time is known, by rule and name."""
    logs, benchmarks = results / "logs" / scale, results / "benchmarks" / scale
    names = {path.relative_to(logs).with_suffix("") for path in logs.rglob("*.log")}
    names |= {path.relative_to(benchmarks).with_suffix("") for path in benchmarks.rglob("*.tsv")}
    out = []
    for name in sorted(names):
        seconds = cpu_seconds(logs / f"{name}.log", benchmarks / f"{name}.tsv")
        if seconds is not None:
            out.append(Job(name.parts[0], "/".join(name.parts[1:]), seconds))
    return out


class Prices:
    """Where a job belongs in the cost table, and how many units it made of what is priced there."""

    def __init__(self, scale: str, rows: Mapping[str, RowConfig]) -> None:
        self.scale, self.rows = scale, rows

    def readers(self, cache: str, audience: str = "") -> list[RunConfig]:
        """Trainings for which a job looked at samples, and not only found what an earlier audience had asked for."""
        known, earlier = audiences_of(cache, self.scale), list[RunConfig]()
        for name, readers in known.items():
            if name == audience:
                return adding(readers, earlier)
            earlier += readers
        return []

    def place(self, job: Job) -> tuple[str, str, float] | None:
        """(kind of cost, model, format or rule, units); of a distilled training, method and model. None of a job that
        is nobody's any more.
        """
        run = re.split(r"-seed\d+", job.name)[0]
        row = self.rows.get(run)
        match job.rule:
            case "train" if row is not None:
                steps = load_run(run, self.scale, row.seeds[0]).train.steps
                if not steps:
                    return None
                if row.method is None:
                    return "per_step", row.model, float(steps)
                return "distilled", f"{row.method.kind} {row.model}", float(steps)
            case "evaluate" | "response" if row is not None:
                return job.rule, row.model, 1.0
            case "cache_teacher" if readers := self.readers(*job.name.split("/")):
                entries = sum(expected_entries(readers[0], readers)[0])
                return "cache", self.rows[str(readers[0].row.teacher)].model, entries
            case "simulate" | "convert":
                kind = re.search(r"(\w+?)_sim\b", job.name)
                return (job.rule, kind[1], 1.0) if kind else None
            case rule if rule in _PAGES:
                return "report", rule, 1.0
            case rule if rule in _NOBODYS:
                return None
            case rule:
                return "other", rule, 1.0


def measured(jobs: Iterable[Job], prices: Prices, start: float) -> dict[tuple[str, str], list[float]]:
    """CPU seconds per unit, without the start, of every job by (kind of cost, model, format or rule)."""
    out: dict[tuple[str, str], list[float]] = defaultdict(list)
    for job in jobs:
        place = prices.place(job)
        if place is not None and place[2] > 0:
            out[place[:2]].append(max(0.0, job.seconds - start) / place[2])
    return dict(out)


def with_measured(cost: CostConfig, found: Mapping[tuple[str, str], list[float]]) -> CostConfig:
    """The cost table with the means of what was measured; what was not stays as it is."""
    means = {key: float(f"{statistics.fmean(values):.3g}") for key, values in found.items()}
    plain: dict[str, Any] = {}
    for kind in ("simulate", "convert", "cache", "evaluate", "response", "report", "other", "per_step"):
        new = {which: mean for (what, which), mean in means.items() if what == kind}
        before = getattr(cost, kind)
        if new:
            plain[kind] = {**(before if isinstance(before, dict) else {}), **new}
    per_step = {**cost.per_step, **plain.get("per_step", {})}
    ratios = defaultdict[str, list[float]](list)
    for (kind, which), values in found.items():
        method, _, model = which.partition(" ")
        if kind == "distilled" and per_step.get(model):
            ratios[method] += [second / per_step[model] for second in values]
    if ratios:
        before = cost.distilled if isinstance(cost.distilled, dict) else {}
        plain["distilled"] = before | {method: round(statistics.median(some), 2) for method, some in ratios.items()}
    return replace(cost, **plain)


def rewritten(text: str, scale: str, cost: CostConfig) -> str:
    """The text of config.yaml with another cost table of a scale; everything else stays, comments too.

    Raises:
        ValueError: there is no table of the scale.
    """
    default = to_plain(CostConfig())
    plain = {key: value for key, value in to_plain(cost).items() if value != default[key]}
    block = yaml.safe_dump(plain, default_flow_style=None, width=130, sort_keys=False)
    lines = "".join(f"    {line}\n" for line in block.splitlines())
    head, found, costs = text.partition("\ncost:\n")
    new, count = re.subn(rf"(?m)^  {scale}:\n(?:    .*\n?)+", lambda _: f"  {scale}:\n{lines}", costs, count=1)
    if not found or count != 1:
        raise ValueError(f"{CONFIG} has no cost table of scale {scale!r}")
    return head + found + new


def main() -> None:
    """Print measured costs beside those of the estimate; write them on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="sim")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--write", action="store_true", help="set the cost table in config/config.yaml")
    chosen = parser.parse_args()
    text = CONFIG.read_text(encoding="utf-8")
    settings = parse(WorkflowConfig, yaml.safe_load(text), str(CONFIG))
    cost = settings.cost[chosen.scale]
    jobs = jobs_of(chosen.results, chosen.scale)
    if not jobs:
        parser.error(f"no job of scale {chosen.scale!r} has left its CPU time below {chosen.results}")
    found = measured(jobs, Prices(chosen.scale, load_rows()), cost.start)
    print(f"{'cost':<12}{'of':<34}{'jobs':>6}{'measured':>12}{'estimate':>12}{'ratio':>8}   CPU seconds per unit")
    for (kind, which), values in sorted(found.items()):
        if kind in ("per_step", "distilled"):
            method, _, model = which.rpartition(" ")
            said = cost.per_step.get(model, 0.0) * cost.factor(method)
        else:
            said = cost.of(which if kind == "other" else kind, which)
        mean = statistics.fmean(values)
        ratio = f"{mean / said:.2f}" if said else "-"
        print(f"{kind:<12}{which:<34}{len(values):>6}{mean:>12.4g}{said:>12.4g}{ratio:>8}")
    print(f"{len(jobs)} jobs, {sum(job.seconds for job in jobs) / 60:.1f} CPU minutes")
    if chosen.write:
        if cost.float32 != 1 and not cpu_has_bf16():
            parser.error(
                f"costs of scale {chosen.scale!r} are those of a processor with bfloat16, which this one has not"
            )
        write_text(CONFIG, rewritten(text, chosen.scale, with_measured(cost, found)))
        print(f"wrote {CONFIG}")


if __name__ == "__main__":
    main()
