# What a plan costs: the last words of a dry run, by part.
import atexit
from collections import Counter

from bevkd.distill.sizes import adding, expected_entries
from bevkd.processor import cpu_has_bf16
from schedule import Planned, ends

SHARED = "data and pages"  # what no paper has for itself
DATA = ("simulate", "convert", "virtual_points")  # rules that use several cores
LOOKS = ("evaluate", "evaluate_snapshot", "response", "gates", "attention", "matches")  # at every frame each
PAGES = ("table", "figure", "part", "report", "report_preview")


def part_of(job):
    """The paper that a job belongs to; a cache goes with those it is made for."""
    wildcards = job.wildcards_dict
    for kind, items in (("table", TABLES), ("figure", FIGURES)):
        if kind in wildcards:
            return items[wildcards[kind]].part
    if "part" in wildcards:
        return PARTS[wildcards["part"]].paper
    run = CACHES[wildcards["cache"]][wildcards["audience"]][0].run if "cache" in wildcards else wildcards.get("run")
    return SHARED if run is None else paper_of(run).name


def seconds_of(job, cost):
    """Estimated CPU seconds of a job."""
    name, wildcards = job.rule.name, job.wildcards_dict
    if cost is None or not job.rule.shellcmd:  # nothing is known, or it is a name for its inputs
        return 0.0
    if name == "train":
        return training_seconds(wildcards["run"])
    if name in DATA:
        return cost.start + cost.of(name, getattr(job.params, "reader", ""))
    if name == "cache_teacher":
        teacher = CACHES[wildcards["cache"]][wildcards["audience"]][0].row.teacher
        entries = cache_entries(wildcards["cache"], wildcards["audience"])
        return cost.start + entries * cost.of("cache", ROWS[teacher].model)
    if name in LOOKS:
        return cost.start + cost.of("evaluate" if name != "response" else name, ROWS[wildcards["run"]].model)
    if name == "bench":
        run, ways = wildcards["run"], 3 if ROWS[wildcards["run"]].teacher else 1
        steps = ways * BENCH.repeats * (BENCH.warmup + BENCH.steps)
        return cost.start + steps * cost.per_step.get(ROWS[run].model, 0.0)
    return cost.start + (cost.of("report", name) if name in PAGES else cost.of(name))


def slowness(cost):
    """How many times as long jobs take on this machine as on the one that costs were measured on."""
    elsewhere = GPUS or workflow.nodes  # a cluster's nodes are not this machine
    return 1.0 if cost is None or elsewhere or cpu_has_bf16() else cost.float32


@functools.cache
def caches_to_make():
    """The caches that the plan makes: by cache, for whom in which order."""
    jobs = [job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.rule.name == "cache_teacher"]
    out = {}
    for job in sorted(jobs, key=lambda job: -job.priority):
        out.setdefault(job.wildcards_dict["cache"], []).append(job.wildcards_dict["audience"])
    return out


def readers_in_plan(cache, audiences):
    """Trainings that a cache is made for, with every seed of the configuration."""
    known = audiences_of(cache, SCALE)
    return [reader for audience in audiences for reader in known[audience]]


@functools.cache
def cache_entries(cache, audience):
    """About at how many frames under how many augmentations the teacher of a cache looks for an audience: what was made
    for others before it is there.
    """
    planned = caches_to_make().get(cache, [audience])
    earlier = planned[: planned.index(audience)] if audience in planned else []
    new = adding(readers_in_plan(cache, [audience]), readers_in_plan(cache, earlier))
    return sum(expected_entries(new[0], new)[0]) if new else 0.0


def schedule_of(todo, cost, cores):
    """When each job of a plan would end, in seconds after the start."""
    todo = set(todo)

    def planned(job):
        seconds = seconds_of(job, cost)
        if job.rule.name not in DATA:  # whatever else wants several cores wants the machine for itself
            seconds *= min(job.threads, cores)
        waits_for = [other for other in workflow.dag.dependencies[job] if other in todo]
        return Planned(seconds, job.threads, job.priority, waits_for)

    return ends({job: planned(job) for job in todo}, cores)


def headlines_text(schedule):
    """When the headline tables of a plan would stand; nothing where it makes none."""
    jobs = {(job.rule.name, job.wildcards_dict.get("table")): seconds for job, seconds in schedule.items()}
    texts = [f"{key[1]} after {jobs[key] / 60:.0f} minutes" for key in headline_items() if key in jobs]
    return f"  headline tables: {', '.join(texts)}" if texts else ""


def estimate(todo, trainings, cores):
    """Lines that say what the jobs of a plan cost.

    Args:
        todo: jobs that have to run.
        trainings: number of trainings in the plan, done or not.
        cores: how many jobs run at a time.
    """
    training = [job for job in todo if job.rule.name == "train"]
    cost = SETTINGS.cost.get(SCALE)
    summary = f"estimated cost: {len(training)} of {trainings} trainings to do"
    unmetered = sorted(
        {ROWS[run].model for run in (job.wildcards_dict["run"] for job in training) if not training_seconds(run)}
    )
    if cost is None or unmetered:
        what = f"models {', '.join(unmetered)}" if cost else f"scale {SCALE!r}"
        return [f"{summary}; no cost is known for {what}"]
    seconds, counts = Counter(), Counter(part_of(job) for job in training)
    for job in todo:
        seconds[part_of(job)] += seconds_of(job, cost)
    order = sorted(seconds, key=lambda part: (part == SHARED, part))
    lines = [f"  {part:<20}{counts[part]:>5} trainings {seconds[part] / 60:>7.0f} CPU minutes" for part in order]
    caches = {cache: readers_in_plan(cache, audiences) for cache, audiences in caches_to_make().items()}
    if caches:
        size = sum(estimate_cache_bytes(readers[0], readers) for readers in caches.values())
        lines.append(f"  {len(caches)} teacher caches, about {size / 1e9:.1f} GB on disk")
    schedule = schedule_of(todo, cost, cores)
    lines += filter(None, [headlines_text(schedule)])
    total, last = sum(seconds.values()) / 60, max(schedule.values(), default=0.0) / 60
    slow = slowness(cost)
    if slow != 1:
        lines.append(f"  this processor has no bfloat16: all of it takes about {slow:g} times as long here")
    return [*lines, f"{summary}, about {total:.0f} CPU minutes ({last:.0f} minutes on {cores} cores)"]


def core_count():
    """How many jobs run at a time: cores, or nodes of a cluster, as far as they are counted at all."""
    counted = (getattr(workflow.global_resources["_cores"], "value", None), workflow.nodes, os.cpu_count())
    return next(number for number in counted if isinstance(number, int) and 0 < number < 100_000)


def print_estimate():
    """Print the estimate of a dry run whose plan could be made, to where the plan went."""
    if not workflow.is_main_process or not workflow.dryrun or workflow.scheduler is None:
        return
    todo = list(workflow.dag.needrun_jobs(exclude_finished=False))
    trainings = sum(job.rule.name == "train" for job in workflow.dag.jobs)
    print("\n".join(estimate(todo, trainings, core_count())), flush=True)


# Snakemake has no hook for dry runs, and its own words come after the plan: this is said when it has said everything.
atexit.register(print_estimate)
