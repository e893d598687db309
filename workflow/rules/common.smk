# Configuration, names of files, and the look-ups that rules use. Everything is known before the DAG is built.
import functools
import json
import re
import sys
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from snakemake.exceptions import WorkflowError

# The code of this folder runs, installed or not.
sys.path[:0] = [str(workflow.basedir), str(Path(workflow.basedir, "workflow", "scripts"))]

from bevkd.config import (
    BenchConfig,
    WorkflowConfig,
    config_dir,
    first_seeds,
    identity_digest,
    load_rows,
    load_run,
    parse as parse_config,
    read_yaml,
    run_dir,
)
from bevkd.distill import cache_name
from bevkd.report.spec import load_claims, load_figures, load_tables
from launch import devices, prepare_environment


def check(content, path, schema):
    """Validate one YAML file; the error names the file and every key at fault.

    Raises:
        WorkflowError: the content does not follow the schema.
    """
    rules = json.loads(Path(workflow.basedir, f"workflow/schemas/{schema}.schema.json").read_text(encoding="utf-8"))
    found = [best_match([error]) for error in Draft202012Validator(rules).iter_errors(content)]
    errors = [f"{error.json_path.removeprefix('$.')}: {error.message}" for error in found]
    if errors:
        hint = " (a setting that is new in the code: run `make schemas` first)" if "unexpected" in errors[0] else ""
        raise WorkflowError(f"{path}: " + "; ".join(errors) + hint)


prepare_environment(workflow.is_main_process)
check(dict(config), "config/config.yaml", "config")
for _kind in ("datasets", "models", "scales", "experiments", "tables", "figures"):
    for _path in sorted((config_dir() / _kind).glob("*.yaml")):
        check(read_yaml(_path) or {}, _path, _kind)
check(read_yaml(config_dir() / "claims.yaml"), config_dir() / "claims.yaml", "claims")

SETTINGS = parse_config(WorkflowConfig, dict(config), "config/config.yaml")
SCALE = SETTINGS.scale
RESULTS = "results" if SCALE == "sim" else f"results/{SCALE}"
RUNS = f"results/runs/{SCALE}"
CACHE = f"results/cache/{SCALE}"
LOGS = f"results/logs/{SCALE}"
BENCHMARKS = f"results/benchmarks/{SCALE}"
ENV = "../envs/bevkd.yaml"
NUSCENES_TABLES = (
    "attribute calibrated_sensor category ego_pose instance log map sample sample_annotation sample_data scene"
    " sensor visibility"
).split()

ROWS = first_seeds(load_rows(), SETTINGS.seeds)
TABLES = load_tables(SCALE)
FIGURES = load_figures(SCALE)
CLAIMS = load_claims(SCALE)
SUFFIXES = {"table": (".csv", ".md", ".tex"), "figure": (".png", ".pdf")}


def one_of(names):
    """Wildcard constraint: exactly one of the names."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


@functools.cache
def run_config(run, seed=None):
    """The resolved configuration of a run (of its first seed when none is given)."""
    return load_run(run, SCALE, ROWS[run].seeds[0] if seed is None else int(seed))


def config_digest(wildcards):
    """Changes when the settings that a run really reads do, so that Snakemake repeats it."""
    return identity_digest(run_config(wildcards.run, wildcards.seed))


# Index folder -> dataset settings; folder of a simulated data set -> its format; teacher cache -> the first run that
# reads it.
DATASETS = {}
SIMULATED = {}
CACHES = {}
for _run in ROWS:
    _config = run_config(_run)
    DATASETS.setdefault(_config.data.index, _config.data)
    if _config.data.root == f"data/{_config.data.kind}_sim/{SCALE}":
        SIMULATED[_config.data.root] = _config.data.kind
    if _config.row.teacher and _config.row.teacher_mode == "cached":
        CACHES.setdefault(cache_name(_config), _run)
SPLITS = sorted({split for data in DATASETS.values() for split in (data.report_split, data.tune_split)})
TEACHERS = sorted({row.teacher for row in ROWS.values() if row.teacher})


def dataset_files(wildcards):
    """What an index is made from: the simulated data set as a whole, or files that say what a real one holds.

    Without the files of a real one there is still a plan; the conversion then says what it lacks.
    """
    data = DATASETS[wildcards.index]
    if data.root in SIMULATED:
        return {"root": data.root}
    marks = {"kitti": ["training/calib"], "waymo": ["training/vehicle_pose"]}
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


def run_file(run, seed, name):
    """A file of a run."""
    return str(run_dir(run, SCALE, seed, "results/runs") / name)


def index_of(run):
    """The index that a run reads."""
    return f"{run_config(run).data.index}/frames.parquet"


def teacher_file(run):
    """The teacher's weights of a run."""
    return run_file(ROWS[run].teacher, ROWS[run].teacher_seed, "model.pt")


def training_inputs(wildcards):
    """What a training reads: the index and, when distilled, the teacher's targets or its weights."""
    row, inputs = run_config(wildcards.run).row, {"index": index_of(wildcards.run)}
    if row.teacher and row.teacher_mode == "cached":
        inputs["cache"] = f"{CACHE}/{cache_name(run_config(wildcards.run))}/manifest.json"
    elif row.teacher:
        inputs["teacher"] = teacher_file(wildcards.run)
    return inputs


def bench_inputs(wildcards):
    """What measuring a training needs: the index and the teacher's weights."""
    inputs = {"index": index_of(wildcards.run)}
    if ROWS[wildcards.run].teacher:
        inputs["teacher"] = teacher_file(wildcards.run)
    return inputs


def split_of(run, split):
    """The split of a run's data that is reported, or the one for tuning."""
    data = run_config(run).data
    return data.report_split if split == "report" else data.tune_split


def metrics_file(run, seed, split="report"):
    """Metrics of a run on the split that is reported or on the one for tuning."""
    return run_file(run, seed, f"metrics_{split_of(run, split)}.json")


def item_inputs(item):
    """Files of the runs behind a table, a figure or a claim."""
    pairs = item.needs(ROWS)
    split = getattr(item, "split", "report")
    if item.artefact == "metrics":
        return [metrics_file(run, seed, split) for run, seed in pairs]
    if item.artefact == "response":
        return [f"{RESULTS}/responses/{run}/seed{seed}/{split_of(run, split)}.json" for run, seed in pairs]
    if item.artefact == "cost":
        return [f"{RESULTS}/costs/{run}.json" for run, _ in pairs]
    return [run_file(run, seed, "model.pt") for run, seed in pairs] + sorted({index_of(run) for run, _ in pairs})


def runs_metrics(target):
    """Metrics of every run of a target, and those on other splits that its tables, figures and claims read."""
    named = [metrics_file(run, seed) for run, row in ROWS.items() if row.target == target for seed in row.seeds]
    items = [item for kind in (TABLES, FIGURES, CLAIMS) for item in kind.values() if item.target == target]
    read = [path for item in items if item.artefact == "metrics" for path in item_inputs(item)]
    return list(dict.fromkeys(named + read))


def outputs_of(target):
    """Everything that a target promises."""
    tables = [f"{RESULTS}/tables/{t}{end}" for t in chosen(TABLES, target) for end in SUFFIXES["table"]]
    figures = [f"{RESULTS}/figures/{f}{end}" for f in chosen(FIGURES, target) for end in SUFFIXES["figure"]]
    ledger = [ledger_file(target)] if any(claim.target == target for claim in CLAIMS.values()) else []
    pages = [f"{RESULTS}/report.html", f"{RESULTS}/metrics.json"] if target == "all" else []
    # Tuning never looks at the reported split; its table reads what it needs on the other one.
    metrics = [] if target == "tuning" else runs_metrics(target)
    return metrics + tables + figures + ledger + pages


def ledger_file(target):
    """The claims ledger of a target."""
    return f"{RESULTS}/claims.csv" if target == "all" else f"{RESULTS}/claims_{target}.csv"


def claim_inputs(target):
    """Metrics behind the claims of a target."""
    return sorted({path for claim in CLAIMS.values() if claim.target == target for path in item_inputs(claim)})


def chosen(items, target):
    """Names of the tables or figures of a target."""
    return [name for name, item in items.items() if item.target == target]


def results_folder(wildcards, output):
    """The folder above tables and figures, from any of its files."""
    path = Path(str(output[0]))
    return str(path.parents[1] if path.parent.name in ("tables", "figures") else path.parent)
