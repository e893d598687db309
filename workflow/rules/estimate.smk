# What a plan costs: the last words of a dry run, by part.
import atexit
from collections import Counter

SHARED = "data and pages"  # what no paper has for itself


def part_of(job):
    """The paper that a job belongs to; a cache goes with its teacher."""
    wildcards = job.wildcards_dict
    for kind, items in (("table", TABLES), ("figure", FIGURES)):
        if kind in wildcards:
            return items[wildcards[kind]].part
    if "part" in wildcards:
        return PARTS[wildcards["part"]].paper
    run = CACHES[wildcards["cache"]].row.teacher if "cache" in wildcards else wildcards.get("run")
    return SHARED if run is None else paper_of(run).name


def seconds_of(job, cost):
    """Estimated CPU seconds of a job."""
    name, run = job.rule.name, job.wildcards_dict.get("run")
    if not job.rule.shellcmd:  # a name for its inputs
        return 0.0
    if name == "train":
        return training_seconds(run)
    if name == "bench":
        settings = BENCH
        ways = 3 if ROWS[run].teacher else 1
        steps = ways * settings.repeats * (settings.warmup + settings.steps)
        return cost.start + steps * cost.per_step.get(ROWS[run].model, 0.0)
    known = {
        "simulate": cost.simulate,
        "convert": cost.convert,
        "cache_teacher": cost.cache,
        "evaluate": cost.evaluate,
        "evaluate_snapshot": cost.evaluate,
        "response": cost.evaluate,
        "report": cost.report,
    }
    return cost.start + known.get(name, 0.0)


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
    total = sum(seconds.values())
    caches = [CACHES[job.wildcards_dict["cache"]] for job in todo if job.rule.name == "cache_teacher"]
    if caches:
        size = sum(estimate_cache_bytes(run, readers_of(run)) for run in caches)
        lines.append(f"  {len(caches)} teacher caches, about {size / 1e9:.1f} GB on disk")
    return [
        *lines,
        f"{summary}, about {total / 60:.0f} CPU minutes ({total / 60 / cores:.0f} minutes on {cores} cores)",
    ]


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
