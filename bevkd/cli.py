"""The command line. Exit codes: 0 done, 2 bad usage or config, 3 bad data, 4 interrupted but resumable."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bevkd import __version__
from bevkd.errors import BevkdError, ConfigError, Interrupted, nearest

if TYPE_CHECKING:
    from bevkd.config import RunConfig

app = typer.Typer(
    name="bevkd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Cross-modality knowledge distillation of bird's-eye-view 3D object detectors.",
)
evaluate_app = typer.Typer(no_args_is_help=True, help="Metrics equal to the official evaluators.")
app.add_typer(evaluate_app, name="evaluate")

Scale = Annotated[str, typer.Option(help="smoke, sim (default) or paper: config/scales/*.yaml")]
Seed = Annotated[int, typer.Option(help="Seed of the run.")]
Run = Annotated[str, typer.Option(help="Run id: a row of config/papers/*/runs.yaml.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")]
RunsRoot = Annotated[Path, typer.Option(help="Folder of all runs.")]
Seeds = Annotated[int, typer.Option(min=0, help="Use only the first so many seeds of each run; 0: all.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]

_RUNS = Path("results/runs")


def _trained(run: str, scale: str, seed: int, runs: Path) -> Path:
    """Folder of a run; a run that is neither there nor known is an error before torch is imported.

    Raises:
        ConfigError: there is no such run.
    """
    from bevkd.config import load_rows, run_dir

    folder = run_dir(run, scale, seed, runs)
    if not folder.exists() and run not in (rows := load_rows()):
        raise ConfigError(f"unknown run {run!r}{nearest(run, rows)}")
    return folder


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    traceback: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


@app.command()
def simulate(
    dataset: Annotated[str, typer.Option(help="Format to write.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    scale: Scale = "sim",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    workers: Workers = 1,
) -> None:
    """Simulate a driving data set and write it in its real on-disk format."""
    from bevkd.sim import WRITERS

    if dataset not in WRITERS:
        raise ConfigError(f"cannot simulate {dataset!r}{nearest(dataset, WRITERS)}; known: {', '.join(WRITERS)}")
    write, scales = WRITERS[dataset]
    if scale not in scales:
        raise ConfigError(f"unknown scale {scale!r}{nearest(scale, scales)}; known: {', '.join(scales)}")
    write(scales[scale], out, seed, workers=workers)


@app.command()
def convert(
    dataset: Annotated[str, typer.Option(help="Format to read.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Folder of the Parquet index.")],
    version: Annotated[str | None, typer.Option(help="nuScenes: version, default v1.0-trainval.")] = None,
    workers: Workers = 1,
) -> None:
    """Index a data set (Parquet); sensor data stay where they are."""
    from bevkd.registry import lookup

    lookup("reader", dataset).convert(root, version, out, workers)


@app.command()
def train(
    run: Run,
    scale: Scale = "sim",
    seed: Seed = 0,
    overrides: Overrides = None,
    runs: RunsRoot = _RUNS,
    restart: Annotated[bool, typer.Option("--restart", help="Drop what lies here and begin anew.")] = False,
    restart_if_changed: Annotated[
        bool, typer.Option("--restart-if-changed", help="The same, but only if another config or teacher left it.")
    ] = False,
) -> None:
    """Train a run, plain or distilled; the same command resumes it."""
    from bevkd.config import load_run, run_dir
    from bevkd.errors import OtherRunError

    config, out = load_run(run, scale, seed, overrides), run_dir(run, scale, seed, runs)
    from bevkd.train import train as train_run  # takes seconds, a typo should not

    try:
        train_run(config, out, restart=restart)
    except OtherRunError as error:
        if not restart_if_changed:
            raise
        logging.getLogger(__name__).warning("beginning anew: %s", error)
        train_run(config, out, restart=True)


@app.command()
def config(
    run: Run,
    scale: Scale = "sim",
    seed: Seed = 0,
    overrides: Overrides = None,
    explain: Annotated[str | None, typer.Option(metavar="KEY", help="Which file and line say this setting.")] = None,
    identity: Annotated[bool, typer.Option("--identity", help="Only what makes it this run.")] = False,
) -> None:
    """Print the resolved settings of a run as YAML, or where one of them comes from."""
    import yaml

    from bevkd.config import identity as identity_of
    from bevkd.config import load_run, to_plain
    from bevkd.config.explain import explain as places

    if explain is not None and identity:
        raise ConfigError("--explain and --identity exclude each other")
    if explain is not None:
        value, sources = places(run, scale, seed, explain, overrides or [])
        typer.echo(f"{explain} = {value!r}")
        for source in sources:
            typer.echo(f"  {source}")
        return
    found = load_run(run, scale, seed, overrides)
    typer.echo(yaml.safe_dump(identity_of(found) if identity else to_plain(found), sort_keys=False), nl=False)


def _reader(text: str, scale: str) -> RunConfig:
    """The training that `RUN:SEED` names.

    Raises:
        ConfigError: it names none.
    """
    from bevkd.config import load_run

    run, _, seed = text.rpartition(":")
    if not run or not seed.isdigit():
        raise ConfigError(f"--reader wants RUN:SEED, got {text!r}")
    return load_run(run, scale, int(seed))


@app.command()
def cache(
    run: Annotated[str | None, typer.Option(help="A run that reads it.")] = None,
    name: Annotated[str | None, typer.Option(help="Its own name, instead of a run that reads it.")] = None,
    scale: Scale = "sim",
    seed: Seed = 0,
    overrides: Overrides = None,
    runs: RunsRoot = _RUNS,
    reader: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN:SEED", help="Trainings that read it; default: all of config that do."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say about how large it will be.")] = False,
) -> None:
    """Build the teacher cache that a distilled run reads (shared by every run with the same needs)."""
    from bevkd.config import load_run, run_dir
    from bevkd.distill.cache_key import cache_name, reader_of, readers_of
    from bevkd.distill.sizes import estimate_cache_bytes

    if (run is None) == (name is None):
        raise ConfigError("give one of --run and --name")
    if name is not None and overrides:
        raise ConfigError("--set belongs to --run")
    config = load_run(run, scale, seed, overrides) if run is not None else reader_of(str(name), scale)
    known = [] if overrides else readers_of(config)
    readers = [_reader(one, scale) for one in reader or []] or known
    if dry_run:
        size = estimate_cache_bytes(config, readers)
        typer.echo(f"{cache_name(config)}: about {size / 1e6:.1f} MB for {len(readers) or 1} trainings")
        return
    from bevkd.train import ensure_cache

    typer.echo(ensure_cache(config, run_dir(config.run, scale, config.seed, runs), readers).folder)


@app.command()
def predict(
    run: Run,
    split: Annotated[str, typer.Option(help="Split of the data set, such as val.")],
    scale: Scale = "sim",
    seed: Seed = 0,
    snapshot: Annotated[int | None, typer.Option(min=1, help="Its weights after so many parts of training.")] = None,
    runs: RunsRoot = _RUNS,
) -> None:
    """Detect on a split with a trained run: submission file and metrics beside the model."""
    folder = _trained(run, scale, seed, runs)
    from bevkd.train import evaluate_run
    from bevkd.train.snapshots import snapshot_folder

    evaluate_run(folder if snapshot is None else snapshot_folder(folder, snapshot), split)


@app.command()
def response(
    run: Run,
    split: Annotated[str, typer.Option(help="Split of the data set, such as val.")],
    scale: Scale = "sim",
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file; default: the one that tables read.")] = None,
    runs: RunsRoot = _RUNS,
) -> None:
    """How high the class scores of a trained run are on objects, in their borders and in the background."""
    from bevkd.report.runs import response_file

    folder = _trained(run, scale, seed, runs)
    from bevkd.train.response import measure_response

    measure_response(folder, split, response_file(run, scale, seed, split, runs) if out is None else out)


@evaluate_app.command("nuscenes")
def evaluate_nuscenes(
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    version: Annotated[str, typer.Option(help="Version, such as v1.0-trainval.")],
    split: Annotated[str, typer.Option(help="Split, such as val.")],
    results: Annotated[Path, typer.Option(help="Submission file.")],
    out: Annotated[Path, typer.Option(help="metrics.json to write.")],
    config: Annotated[Path | None, typer.Option(help="Detection config (devkit JSON); default cvpr_2019.")] = None,
    details: Annotated[Path | None, typer.Option(help="Also write the precision-recall curves (JSON).")] = None,
) -> None:
    """NuScenes detection metrics, with the keys of the devkit's metrics_summary.json."""
    from bevkd.eval.nuscenes import DetectionConfig, evaluate_files

    settings = DetectionConfig.from_json(config) if config else None
    evaluate_files(root, version, split, results, out, settings, details)


@evaluate_app.command("kitti")
def evaluate_kitti(
    labels: Annotated[Path, typer.Option(help="Folder of label files, such as training/label_2.")],
    results: Annotated[Path, typer.Option(help="Folder of result files, or the folder above `data`.")],
    out: Annotated[Path, typer.Option(help="metrics.json to write.")],
) -> None:
    """KITTI AP (2D, BEV, 3D) and AOS in percent, 11 and 40 recall positions, three difficulties."""
    from bevkd.eval.kitti import evaluate_files

    evaluate_files(labels, results, out)


@evaluate_app.command("waymo")
def evaluate_waymo(
    sets: Annotated[Path, typer.Option(help=".npz with the arrays pred_* and gt_*.")],
    out: Annotated[Path, typer.Option(help="metrics.json to write.")],
    let: Annotated[bool, typer.Option(help="Longitudinal error tolerant metrics (LET-3D: AP, APH, APL).")] = False,
) -> None:
    """Waymo AP and APH per type, range and level."""
    from bevkd.eval.waymo import LetConfig, evaluate_files

    evaluate_files(sets, out, LetConfig() if let else None)


@app.command()
def table(name: str, scale: Scale = "sim", runs: RunsRoot = _RUNS, out: Path | None = None, seeds: Seeds = 0) -> None:
    """Write one table: csv, md and tex."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_table

    make_table(name, scale, runs, out, first_seeds(load_rows(), seeds))


@app.command()
def figure(name: str, scale: Scale = "sim", runs: RunsRoot = _RUNS, out: Path | None = None, seeds: Seeds = 0) -> None:
    """Draw one figure: png and pdf."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_figure

    make_figure(name, scale, runs, out, first_seeds(load_rows(), seeds))


@app.command()
def part(name: str, scale: Scale = "sim", runs: RunsRoot = _RUNS, out: Path | None = None, seeds: Seeds = 0) -> None:
    """Finish a part of the results: test its claims, keep a record of its runs, and say by which code it was made."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_part

    make_part(name, scale, runs, out, first_seeds(load_rows(), seeds))


@app.command()
def report(
    scale: Scale = "sim",
    out: Path | None = None,
    seeds: Seeds = 0,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what has not been made, and say so.")] = False,
) -> None:
    """Gather tables, figures, ledger and records in one HTML page; needs no run and no data set."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_report

    make_report(scale, out, first_seeds(load_rows(), seeds), partial)


@app.command()
def view(
    run: Run,
    frame: Annotated[str, typer.Option(help="Sample token.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    scale: Scale = "sim",
    seed: Seed = 0,
    runs: RunsRoot = _RUNS,
) -> None:
    """Overlay ground truth, teacher, student and distilled boxes in BEV and on the cameras."""
    from bevkd.report import view as draw

    _trained(run, scale, seed, runs)
    for path in draw(run, frame, out, scale=scale, seed=seed, runs=runs):
        typer.echo(path)


@app.command()
def profile(
    model: Annotated[str | None, typer.Option(help="A model of config/models/*.yaml, as no run changes it.")] = None,
    run: Annotated[str | None, typer.Option(help="Instead: the network of a run, as tables show it.")] = None,
    scale: Annotated[str, typer.Option(help="smoke, sim or paper.")] = "paper",
    out: Annotated[Path | None, typer.Option(help="JSON file that tables read, besides stdout.")] = None,
) -> None:
    """Parameters, multiply-accumulates and latency of a detector, as JSON on stdout."""
    import json

    from bevkd.bench.profile import profile_model, profile_run
    from bevkd.io import write_json

    if model is not None and run is None:
        found = profile_model(model, scale)
    elif run is not None and model is None:
        found = profile_run(run, scale)
    else:
        raise ConfigError("profile wants either --model or --run")
    if out is not None:
        write_json(out, found)
    typer.echo(json.dumps(found, indent=1))


@app.command()
def bench(
    run: Run,
    scale: Scale = "sim",
    seed: Seed = 0,
    warmup: Annotated[int, typer.Option(help="Steps before the timed ones.")] = 50,
    steps: Annotated[int, typer.Option(help="Timed steps.")] = 200,
    repeats: Annotated[int, typer.Option(help="How often all of it is measured.")] = 3,
    batch: Annotated[int | None, typer.Option(help="Labelled frames per step; default: as in training.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file; default: the one that tables read.")] = None,
    runs: RunsRoot = _RUNS,
) -> None:
    """What a training step of a run costs: without its teacher, with it live and cached."""
    from bevkd.config import load_run, run_dir
    from bevkd.report.runs import cost_file

    config, file = load_run(run, scale, seed), cost_file(run, scale, runs) if out is None else out
    from bevkd.bench.step import cost_of

    cost_of(config, run_dir(run, scale, seed, runs), file, warmup, steps, repeats, batch)


@app.command()
def doctor(
    root: Annotated[Path | None, typer.Option(help="A data set folder to look at.")] = None,
    version: Annotated[str, typer.Option(help="Its version.")] = "v1.0-trainval",
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the findings as JSON too.")] = None,
) -> None:
    """What is installed, which fast paths are active, and what is wrong with a data set folder."""
    from bevkd.doctor import examine, render

    findings = examine(root, version)
    typer.echo(render(findings))
    if json_out is not None:
        from bevkd.io import write_json

        write_json(json_out, findings)
    if findings["problems"]:
        raise typer.Exit(3)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; errors of ours are one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    show_traceback = "--traceback" in arguments or bool(os.environ.get("BEVKD_TRACEBACK"))
    try:
        app(args=arguments)
    except BevkdError as error:
        if show_traceback:
            raise
        print(f"bevkd: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bevkd: interrupted", file=sys.stderr)
        return Interrupted.exit_code
    except SystemExit as stop:  # how typer ends: 0, 2 on bad usage, 130 on Ctrl-C
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Interrupted.exit_code if code == 130 else code
    return 0
