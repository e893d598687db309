# What jobs may use: GPUs, the order in which trainings start, and the estimate that a dry run prints.
import os

from snakemake.cli import get_argument_parser

GPUS = len(devices()) if SETTINGS.gpus == "auto" else int(SETTINGS.gpus)
if GPUS and SETTINGS.gpus_per_run > GPUS:
    raise WorkflowError(f"gpus_per_run is {SETTINGS.gpus_per_run}, but there are {GPUS} GPUs")
GPU = min(GPUS, 1)
GPU_PER_TRAINING = SETTINGS.gpus_per_run if GPUS else 0
# No more GPU jobs at a time than there are GPUs, also under plain `--cores all`; `--resources gpu=n` still wins.
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", GPUS)


def training_steps(run):
    """Steps of a run, or 0 when only the data tell."""
    return run_config(run).train.steps


def training_seconds(run):
    """Estimated CPU seconds of a training, or 0 when its model or scale has no entry in config/config.yaml."""
    cost = SETTINGS.cost.get(SCALE)
    if cost is None or ROWS[run].model not in cost.per_step:
        return 0.0
    factor = cost.distilled if ROWS[run].teacher else 1.0
    return cost.start + factor * cost.per_step[ROWS[run].model] * training_steps(run)


def training_priority(run):
    """Teachers before everything that waits for them, then the longest first: nobody is left alone at the end."""
    return (10_000 if run in TEACHERS else 0) + min(9_999, round(training_seconds(run)))


def promised(target):
    """Targets that a target includes."""
    return ("all", "extended") if target == "extended" else ("all",) if target in ("report", "runs") else (target,)


def runs_of(target):
    """(run, seed) pairs that a target asks for, without their teachers."""
    kind, _, name = target.partition("_")
    items = {"table": TABLES, "figure": FIGURES}.get(kind, {})
    if name in items:
        return items[name].needs(ROWS)
    if target in PARTS and target != "tuning":
        part = PARTS[target]
        shown = [pair for figure in part.figures.values() for pair in figure.needs(ROWS)]
        return shown + [(run, seed) for run in part.runs(ROWS) for seed in ROWS[run].seeds]
    if target == "claims":
        return [pair for name, part in PARTS.items() if part.target == "all" for pair in runs_of(name)]
    if target in ("all", "extended", "tuning", "runs", "report"):
        named = [(run, seed) for run, row in ROWS.items() if row.target in promised(target) for seed in row.seeds]
        shown = [
            pair
            for item in (*TABLES.values(), *FIGURES.values())
            if item.target in promised(target)
            for pair in item.needs(ROWS)
        ]
        return named + shown
    return [
        (run, int(seed)) for run, seed in re.findall(rf"^{re.escape(RUNS)}/([^/]+)/seed(\d+)/", target) if run in ROWS
    ]


def requested_runs(arguments):
    """(run, seed) pairs of the targets on the command line, teachers included."""
    pairs = [pair for target in (arguments.targets or ["all"]) for pair in runs_of(target)]
    for run, _ in list(pairs):
        while ROWS[run].teacher:
            pairs.append((ROWS[run].teacher, ROWS[run].teacher_seed))
            run = ROWS[run].teacher
    return list(dict.fromkeys(pairs))


def print_estimate(pairs, cores):
    """CPU time of the trainings that a plan holds, on stderr: all of them, and those without a model yet."""
    cost = SETTINGS.cost.get(SCALE)
    missing = [(run, seed) for run, seed in pairs if not Path(run_file(run, seed, "model.pt")).exists()]
    unmetered = sorted({ROWS[run].model for run, _ in pairs if not training_seconds(run)})
    if cost is None or unmetered:
        what = f"models {', '.join(unmetered)}" if cost else f"scale {SCALE!r}"
        print(
            f"estimated cost: {len(missing)} of {len(pairs)} trainings to do; no cost is known for {what}",
            file=sys.stderr,
        )
        return
    caches = {
        cache_name(run_config(run))
        for run, _ in missing
        if ROWS[run].teacher and run_config(run).row.teacher_mode == "cached"
    }
    seconds = sum(training_seconds(run) + cost.start + cost.evaluate for run, _ in missing)
    seconds += len(caches) * (cost.start + cost.cache) + (cost.report if missing else 0)
    missing_indices = {index_of(run) for run, _ in pairs if not Path(index_of(run)).exists()}
    seconds += len(missing_indices) * (cost.simulate + cost.convert + 2 * cost.start)
    print(
        f"estimated cost: {len(missing)} of {len(pairs)} trainings to do, about {seconds / 60:.0f} CPU minutes"
        f" ({seconds / 60 / cores:.0f} minutes on {cores} cores)",
        file=sys.stderr,
    )


def estimate_on_dry_run():
    """A dry run also says what the plan costs; `onstart` would not run then, and jobs parse this file too."""
    arguments = get_argument_parser().parse_known_args(sys.argv[1:])[0]
    if workflow.is_main_process and arguments.dryrun:
        cores = arguments.cores if str(arguments.cores).isdigit() else os.cpu_count()
        print_estimate(requested_runs(arguments), max(1, int(cores)))
