# Configuration, names of files, and the look-ups that rules use. Everything is known before the DAG is built.
import functools
import re
import sys
from dataclasses import replace
from pathlib import Path

from bevkd.config import (
    BenchConfig,
    WorkflowConfig,
    config_tree,
    first_seeds,
    identity_digest,
    load_papers,
    load_run,
    paper_of,
    parse as parse_config,
    rows_at,
    run_dir,
    to_plain,
)
from bevkd.config.chain import waiting, with_needed
from bevkd.config.comparisons import check_lengths
from bevkd.config.papers import stand_ins_at
from bevkd.config.snapshots import FOLDER as SNAPSHOTS, snapshot_metrics
from bevkd.config.tiers import of_target, promised as tiers_of
from bevkd.config.weights import check_weights_there, weights_folder
from bevkd.data.reads import LidarVirtual, reads_of
from bevkd.data.virtual.places import MANIFEST, folder_of as virtual_points_folder
from bevkd.distill import cache_name, estimate_cache_bytes
from bevkd.distill.cache_key import audience_of, audiences_of, caches_of, reads_cache
from bevkd.io import digest
from bevkd.report.pages import headline_table
from bevkd.report.parts import ledger_file, part_file, part_metrics, parts_of
from bevkd.report.runs import results_dir
from bevkd.report.spec import load_claims, load_figures, load_tables, reads
from bevkd.report.splits import require_split, splits_read
from launch import devices, prepare_environment
from order import PRINTED, STEP, in_order, levels
from rate_limit import end_rate_limit
from retries import retry_only_crashes
from targets import Suggestion, items_of, stop

prepare_environment(workflow.is_main_process)
SETTINGS = checked(parse_config, WorkflowConfig, dict(config), "config/config.yaml")
SCALE = SETTINGS.scale
BENCH = SETTINGS.bench.get(SCALE, BenchConfig())
RESULTS = str(results_dir(SCALE))
RUNS = f"results/runs/{SCALE}"
CACHE = f"results/cache/{SCALE}"
LOGS = f"results/logs/{SCALE}"
BENCHMARKS = f"results/benchmarks/{SCALE}"
ENV = "../envs/bevkd.yaml"
NUSCENES_TABLES = (
    "attribute calibrated_sensor category ego_pose instance log map sample sample_annotation sample_data scene"
    " sensor visibility"
).split()

ROWS = first_seeds(checked(rows_at, SCALE), SETTINGS.seeds)
TABLES = checked(load_tables, SCALE)
FIGURES = checked(load_figures, SCALE)
CLAIMS = checked(load_claims, SCALE)
PARTS = parts_of(TABLES, FIGURES, CLAIMS)
SUFFIXES = {"table": (".csv", ".md", ".tex"), "figure": (".png", ".pdf")}


def one_of(names):
    """Wildcard constraint: exactly one of the names."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


@functools.cache
def run_config(run, seed=None):
    """The resolved configuration of a run (of its first seed when none is given); seeds differ in nothing else."""
    if seed is None:
        return checked(load_run, run, SCALE, ROWS[run].seeds[0])
    return replace(run_config(run), seed=int(seed))


def config_digest(wildcards):
    """Changes when the settings that a run really reads do, or the snapshots it keeps, so that Snakemake repeats it."""
    config = run_config(wildcards.run, wildcards.seed)
    kept = f"-{config.train.snapshots}" if config.train.snapshots else ""
    return identity_digest(config) + kept


def first_seed_digest(wildcards):
    """The same of what is measured once for a run: as its first seed has it."""
    return identity_digest(run_config(wildcards.run))


# Index folder -> dataset settings; folder of a simulated data set -> its format; teacher cache -> by paper and tier the
# trainings that read it, for which it is made in one pass.
DATASETS = {}
SIMULATED = {}
CACHES = {}
for _run in ROWS:
    _config = run_config(_run)
    DATASETS.setdefault(_config.data.index, _config.data)
    if _config.data.root == f"data/{_config.data.kind}_sim/{SCALE}":
        SIMULATED[_config.data.root] = _config.data.kind
    for _name, _readers in caches_of(_config).items():
        CACHES.setdefault(_name, {}).setdefault(audience_of(_config), []).extend(_readers)
for _paper in load_papers().values():
    _file = str(_paper.file("claims"))
    checked(check_lengths, _paper.comparisons, SCALE, lambda run: run_config(run).train, _file, stand_ins_at(SCALE))
AUDIENCES = sorted({audience for readers in CACHES.values() for audience in readers})
SPLITS = splits_read(DATASETS.values(), [*TABLES.values(), *FIGURES.values(), *CLAIMS.values()])
WAITING = waiting(ROWS)
BROKEN_DOWN = [run for run in ROWS if run_config(run).data.kind == "nuscenes"]  # whose metrics are also given by groups


def indices_of(root):
    """The indices of a data set."""
    return [index for index, data in DATASETS.items() if data.root == root]


def dataset_files(wildcards):
    """What an index is made from: the simulated data set as a whole, or files that say what a real one holds.

    Without the files of a real one there is still a plan; the conversion then says what it lacks.
    """
    data = DATASETS[wildcards.index]
    if data.root in SIMULATED:
        return {"root": data.root}
    marks = {"kitti": ["training/calib"], "waymo": ["training/vehicle_pose"]}
    marks["nuimages"] = [f"v1.0-{split}/object_ann.json" for split in ("train", "val")]
    marks["nuscenes"] = [f"{data.version}/{table}.json" for table in NUSCENES_TABLES]
    files = [f"{data.root}/{mark}" for mark in marks.get(data.kind, [])]
    if any(not Path(file).exists() for file in files):
        note_missing(data.root, data.kind)
        return {}
    return {"files": files}


@functools.cache
def note_missing(root, reader):
    """Say once that a data set is not there."""
    print(f"{root}: there is no {reader} data set here; the plan is made as if there were", file=sys.stderr)


@functools.cache
def note_missing_weights(folder):
    """Say once that the weights of an image backbone are not there: there is still a plan."""
    if folder is not None and not folder.exists():
        print(f"{folder}: there are no weights here; the plan is made as if there were", file=sys.stderr)


def check_image_weights(dag):
    """Stop before the first job where a network has no weights to start from: the days before it would be lost.

    Raises:
        WorkflowError: one has none; the message says how to get them.
    """
    for job in dag.needrun_jobs():
        if job.rule.name in ("train", "bench"):
            checked(check_weights_there, run_config(job.wildcards_dict["run"]))


def check_splits(dag):
    """Stop before the first job where a data set lacks a split that something is evaluated on.

    Raises:
        WorkflowError: one does; the message names the splits that it has.
    """
    todo = list(dag.needrun_jobs())
    remade = {job.wildcards_dict["index"] for job in todo if job.rule.name == "convert"}
    found = [(run_config(w["run"]).data, w["split"]) for job in todo if "split" in (w := job.wildcards_dict)]
    for (index, split), data in {(data.index, split): data for data, split in found}.items():
        checked(require_split, data, split, SCALE, index not in remade)


CACHE_FILES = {}


def cache_file(config):
    """The teacher cache that a training reads: one for all seeds of a run that have the same seed of its teacher."""
    key = (config.run, config.teacher_seed)
    if key not in CACHE_FILES:
        CACHE_FILES[key] = f"{CACHE}/{cache_name(config)}/{audience_of(config)}.json"
    return CACHE_FILES[key]


@functools.cache
def run_file(run, seed, name):
    """A file of a run."""
    return str(run_dir(run, SCALE, seed, "results/runs") / name)


def index_of(run):
    """The index that a run reads."""
    return f"{run_config(run).data.index}/frames.parquet"


def networks_of(config):
    """Settings of a run and, where it has one, of its teacher."""
    return [config, *([run_config(config.row.teacher)] if config.row.teacher else [])]


def virtual_points_of(*configs):
    """What says that the virtual points are there which networks of these runs read of the first one's data; as inputs."""
    data = configs[0].data
    if any(reads_of(config.model, config.data).get(LidarVirtual) for config in configs):
        return {"virtual_points": str(virtual_points_folder(data.index) / MANIFEST)}
    return {}


def data_files():
    """Indices of the default target, and what says that the virtual points of some are there."""
    configs = [run_config(run) for run, row in ROWS.items() if row.target == "all"]
    virtual = [path for config in configs for path in virtual_points_of(*networks_of(config)).values()]
    return sorted({*(f"{config.data.index}/frames.parquet" for config in configs), *virtual})


def teacher_file(run, seed=None):
    """The teacher's weights of a seed of a run (of its first when none is given)."""
    row = ROWS[run]
    return run_file(row.teacher, row.teacher_seed_for(row.seeds[0] if seed is None else int(seed)), "model.pt")


def cache_inputs(wildcards):
    """What a teacher cache is made from."""
    reader = CACHES[wildcards.cache][wildcards.audience][0]
    inputs = {"index": index_of(reader.run), "teacher": teacher_file(reader.run, reader.seed)}
    return inputs | virtual_points_of(reader, run_config(reader.row.teacher))


def training_inputs(wildcards):
    """What a training reads: the index; when distilled, the teacher's targets or its weights; weights to start from."""
    config = run_config(wildcards.run, wildcards.seed)
    row, inputs = config.row, {"index": index_of(wildcards.run), **virtual_points_of(*networks_of(config))}
    note_missing_weights(weights_folder(config.model))
    if reads_cache(config):
        inputs["cache"] = cache_file(config)
    elif row.teacher:
        inputs["teacher"] = teacher_file(wildcards.run, wildcards.seed)
    if row.inits:
        starts = [(init.run, row.init_seed_for(init, int(wildcards.seed))) for init in row.inits]
        inputs["init"] = [run_file(*start, "model.pt") for start in starts]
    return inputs


def bench_inputs(wildcards):
    """What measuring a training needs: the index and the teacher's weights."""
    inputs = {"index": index_of(wildcards.run), **virtual_points_of(*networks_of(run_config(wildcards.run)))}
    if ROWS[wildcards.run].teacher:
        inputs["teacher"] = teacher_file(wildcards.run)
    return inputs


def split_of(run, split):
    """The split of a run's data that is reported, the one for tuning, or any other by its own name."""
    return run_config(run).data.split(split)


def metrics_file(run, seed, split="report"):
    """Metrics of a run on a split, named as tables name it."""
    return run_file(run, seed, f"metrics_{split_of(run, split)}.json")


def range_bins(wildcards):
    """Borders of the groups by range, in metres."""
    return ",".join(f"{edge:g}" for edge in run_config(wildcards.run).data.range_bins)


def snapshots_metrics(run, seed, split="report"):
    """Metrics of a run's snapshots and, last, of its model."""
    count = run_config(run).train.snapshots
    return [run_file(run, seed, snapshot_metrics(n + 1, count, split_of(run, split))) for n in range(count)]


def item_inputs(item):
    """Files that a table, a figure or a claim reads of runs, whatever kinds of them it mixes; the mark of a figure that
    reads none.
    """
    found = [path for kind, pairs in reads(item, ROWS).items() for path in files_of(kind, pairs, item)]
    return list(dict.fromkeys(found)) or [mark_of(item)]


def mark_of(item):
    """What a figure that reads nothing of runs has in their place: no clone holds it, and targets ask for it, as they
    ask for runs, or the committed picture would be taken for made.
    """
    return f"{CACHE}/drawn/{item.name}"


def marks_of(figures):
    """The marks of those figures that have one."""
    return [mark_of(figure) for figure in figures if not reads(figure, ROWS)]


def files_of(kind, pairs, item):
    """Files of one kind of (run, seed) pairs."""
    split = getattr(item, "split", "report")
    models = [run_file(run, seed, "model.pt") for run, seed in pairs]
    if kind == "metrics":
        return [metrics_file(run, seed, split) for run, seed in pairs]
    if kind in ("breakdown", "gates", "matches"):
        return [run_file(run, seed, f"{kind}_{split_of(run, split)}.json") for run, seed in pairs]
    if kind == "attention":
        return [run_file(run, seed, f"attention_{split_of(run, split)}.npz") for run, seed in pairs]
    if kind == "response":
        return [f"{RESULTS}/responses/{run}/seed{seed}/{split_of(run, split)}.json" for run, seed in pairs]
    if kind == "snapshots":
        return [path for run, seed in pairs for path in snapshots_metrics(run, seed, split)]
    if kind in ("cost", "profile"):  # what is measured need not be trained, but a table links to its configuration
        return [f"{RESULTS}/{kind}s/{run}.json" for run, _ in pairs] + models
    return models + (sorted({index_of(run) for run, _ in pairs}) if kind == "model" else [])


def definition_of(*items):
    """Changes when tables, figures or claims do, or the published numbers beside them, or the settings that a figure
    without runs is drawn from, so that Snakemake makes them again.
    """
    printed = any(getattr(item, "published", None) or getattr(item, "context", None) for item in items)
    said = [[to_plain(item) for item in items], published_digest() if printed else ""]
    drawn = [identity_digest(config) for item in items if hasattr(item, "settings") for config in item.settings(ROWS)]
    return digest([*said, drawn] if drawn else said)


@functools.cache
def published_digest():
    """Changes when a published number does, or a note on one."""
    return digest([path.read_text(encoding="utf-8") for path in config_tree().files("reference").values()])


def pages_digest():
    """Changes when what the page says of a paper does."""
    tree = config_tree()
    pages = [tree.file("papers", name, "page.yaml") for name in tree.papers()]
    return digest([path.read_text(encoding="utf-8") for path in pages if path.exists()])


def runs_metrics(target):
    """Metrics of every run of a target, and what else its tables, figures and claims read of the folders of runs, by
    which DVC knows whether these are what they were.
    """
    named = [metrics_file(run, seed) for run, row in ROWS.items() if row.target == target for seed in row.seeds]
    items = [item for kind in (TABLES, FIGURES, CLAIMS) for item in kind.values() if item.target == target]
    read = [path for item in items for path in item_inputs(item) if path.startswith(f"{RUNS}/")]
    return list(dict.fromkeys(named + read))


def reported_runs(part):
    """Runs of a part of the results; none of tuning, which never looks at the reported split."""
    return [] if part.target == "tuning" else part.runs(ROWS)


def part_runs(part):
    """Metrics of the reported runs of a part of the results."""
    return [metrics_file(run, seed) for run in reported_runs(part) for seed in ROWS[run].seeds]


def part_inputs(wildcards):
    """Tables and figures of a part of the results, and what its claims and the records of its runs are made from."""
    part = PARTS[wildcards.part]
    return {
        "tables": [f"{RESULTS}/tables/{name}.csv" for name in part.tables],
        "figures": [f"{RESULTS}/figures/{name}.png" for name in part.figures],
        "claims": list(dict.fromkeys(path for claim in part.claims.values() for path in item_inputs(claim))),
        "runs": part_runs(part),
        "indices": sorted({index_of(run) for run in reported_runs(part)}),
    }


def part_outputs(part):
    """Everything that a part of the results promises."""
    tables = [f"{RESULTS}/tables/{name}{end}" for name in part.tables for end in SUFFIXES["table"]]
    figures = [f"{RESULTS}/figures/{name}{end}" for name in part.figures for end in SUFFIXES["figure"]]
    return tables + figures + [str(part_file(Path(RESULTS), part.name)), str(ledger_file(Path(RESULTS), part.name))]


def parts_outputs(target):
    """What all parts of a target promise."""
    return [path for part in PARTS.values() if part.target == target for path in part_outputs(part)]


# Tables and figures by what is asked for on the command line.
ITEMS = [("table", name) for name in TABLES] + [("figure", name) for name in FIGURES]
ITEMS_OF = {f"{kind}_{name}": [(kind, name)] for kind, name in ITEMS}
for _part in PARTS.values():
    ITEMS_OF[_part.name] = [("table", name) for name in _part.tables] + [("figure", name) for name in _part.figures]
for _target in ("all", "extended", "tuning", "preview"):
    ITEMS_OF[_target] = [
        (kind, name)
        for kind, name in ITEMS
        if {"table": TABLES, "figure": FIGURES}[kind][name].target in tiers_of(_target)
    ]
for _target in ("report", "claims", "runs"):
    ITEMS_OF[_target] = ITEMS_OF["all"]


def outputs_of(target):
    """Everything that a target promises."""
    pages = [f"{RESULTS}/report.html", f"{RESULTS}/metrics.json"] if target == "all" else []
    # Tuning never looks at the reported split; its table reads what it needs on the other one.
    metrics = [] if target == "tuning" else runs_metrics(target)
    marks = marks_of(of_target(FIGURES, target).values())
    return metrics + marks + parts_outputs(target) + pages


def preview_outputs():
    """The tables and figures of the preview."""
    items = {"table": TABLES, "figure": FIGURES}
    return [
        f"{RESULTS}/{kind}s/{name}{end}"
        for kind in items
        for name in of_target(items[kind], "preview")
        for end in SUFFIXES[kind]
    ]


def results_folder(wildcards, output):
    """The results folder, from any of its files."""
    path = Path(str(output[0]))
    return str(path.parents[1] if path.parent.name in ("tables", "figures", "ledger") else path.parent)
