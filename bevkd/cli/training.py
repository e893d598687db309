"""Commands on runs: `train`, `config`, `cache`, `predict`, `response`, `gates`, `attention`, `matches`, `breakdown`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bevkd import progress
from bevkd.cli.common import (
    RUNS,
    Measured,
    Overrides,
    Run,
    RunsRoot,
    Scale,
    Seed,
    Split,
    app,
    content_stamp,
    say,
    trained,
)
from bevkd.errors import BevkdError, ConfigError
from bevkd.hints import command

if TYPE_CHECKING:
    from bevkd.config import RunConfig
    from bevkd.train.loop import Watch

logger = logging.getLogger(__name__)
_WATCHED = 4  # parts of a training that `--watch` looks at where the run keeps no snapshots


@app.command()
def train(
    run: Run,
    scale: Scale = "sim",
    seed: Seed = 0,
    overrides: Overrides = None,
    runs: RunsRoot = RUNS,
    restart: Annotated[bool, typer.Option("--restart", help="Drop what lies here and begin anew.")] = False,
    restart_if_changed: Annotated[
        bool, typer.Option("--restart-if-changed", help="The same, but only if another config or teacher left it.")
    ] = False,
    watch: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT",
            help="Evaluate each snapshot on this split (train.snapshots of them, 4 if unsaid) and show its mAP; weights"
            " stay the same. A terminal shows the tune split of runs with snapshots unasked.",
        ),
    ] = None,
) -> None:
    """Train a run, plain or distilled; the same command resumes it.

    A terminal shows a live line: step, loss, mAP of the last snapshot or evaluation, share of waiting for data, ETA.
    """
    from bevkd.config import load_run, run_dir
    from bevkd.errors import OtherRunError

    config, out = load_run(run, scale, seed, overrides), run_dir(run, scale, seed, runs)
    if watch is not None and config.train.snapshots < 2:
        config = load_run(run, scale, seed, [*(overrides or []), f"train.snapshots={_WATCHED}"])
    if watch is None and progress.shown() and config.train.snapshots > 1:
        watch = config.data.tune_split
    before = content_stamp(out / "model.pt")
    from bevkd.train import train as train_run  # takes seconds, a typo should not

    look = _watcher(watch)
    try:
        model = train_run(config, out, restart=restart, watch=look)
    except OtherRunError as error:
        if not restart_if_changed:
            raise
        logger.warning("beginning anew: %s", error)
        model = train_run(config, out, restart=True, watch=look)
    _say_trained(model, before == content_stamp(model))
    again = command("predict", run=run, split=config.data.report_split, scale=scale, seed=seed, runs=runs)
    say(f"next: {again}")


def _say_trained(model: Path, up_to_date: bool) -> None:
    """What lies there now."""
    from bevkd.train.log import read_log

    lines = read_log(model.parent / "log.jsonl")
    about = f", {lines[-1]['step']} steps, loss {lines[-1]['losses']['total']:.3f}" if lines else ""
    say(f"{model} is up to date{about}" if up_to_date else f"trained {model}{about}")


def _watcher(split: str | None) -> Watch | None:
    """What looks at snapshots; None where nobody would see what it finds."""
    if split is None and not progress.shown():
        return None
    from bevkd.report.main_metric import last_known, main_metric
    from bevkd.train import evaluate_run

    def look(folder: Path, step: int | None) -> str:
        if step is None:
            return last_known(folder)
        if split is None:
            return ""
        try:
            found = main_metric(evaluate_run(folder, split))
        except BevkdError as error:  # a training is not lost for a look at it
            logger.warning("snapshot after step %d not evaluated: %s", step, error)
            return ""
        if not progress.shown():
            say(f"step {step}: {found} ({split})")
        return f"{found} ({split}, step {step})"

    return look


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
    runs: RunsRoot = RUNS,
    reader: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN:SEED", help="Trainings that read it; default: all of its audience that do."),
    ] = None,
    audience: Annotated[
        str | None,
        typer.Option(
            metavar="PAPER-TIER",
            help="With --name: for the rows of one paper and tier; default: the first that read it.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say about how large it will be.")] = False,
) -> None:
    """Build the teacher cache that a distilled run reads: what the rows of its paper and tier tap, in one pass."""
    from bevkd.config import load_run, run_dir
    from bevkd.distill.cache_key import audience_of, cache_name, reader_of, readers_of
    from bevkd.distill.sizes import estimate_cache_bytes

    if (run is None) == (name is None):
        raise ConfigError("give one of --run and --name")
    if name is not None and overrides:
        raise ConfigError("--set belongs to --run")
    if name is None and audience is not None:
        raise ConfigError("--audience belongs to --name")
    config = load_run(run, scale, seed, overrides) if run is not None else reader_of(str(name), scale, audience)
    known = [] if overrides else readers_of(config)
    readers = [_reader(one, scale) for one in reader or []] or known
    if dry_run:
        size = estimate_cache_bytes(config, readers)
        typer.echo(f"{cache_name(config)}: about {size / 1e6:.1f} MB for {len(readers) or 1} trainings")
        return
    from bevkd.io import write_json
    from bevkd.train import ensure_cache

    made = ensure_cache(config, run_dir(config.run, scale, config.seed, runs), readers)
    if not reader and known:
        write_json(made.folder / f"{audience_of(config)}.json", {"trainings": [f"{r.run}:{r.seed}" for r in known]})
    say(f"teacher cache: {made.folder}")


@app.command()
def predict(
    run: Run,
    split: Split,
    scale: Scale = "sim",
    seed: Seed = 0,
    snapshot: Annotated[int | None, typer.Option(min=1, help="Its weights after so many parts of training.")] = None,
    index: Annotated[Path | None, typer.Option(help="Another index than that of the run (`bevkd convert`).")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data set of that index.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Other data (data.version=v1.0-test, data.max_range=50) or decoding (model.decode.*); repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; default: beside the model, or a folder there for other data."),
    ] = None,
    runs: RunsRoot = RUNS,
) -> None:
    """Detect on a split with a trained run: what the benchmark's server takes, and metrics where there are labels."""
    from bevkd.config.applied import changes

    plain = changes(overrides or [], *(None if path is None else str(path) for path in (index, root)))
    folder = trained(run, scale, seed, runs)
    from bevkd.cli.evaluation import show
    from bevkd.train.predict import apply_run
    from bevkd.train.snapshots import snapshot_folder

    found = apply_run(folder if snapshot is None else snapshot_folder(folder, snapshot), split, plain, out)
    if found.metrics is None or found.file is None:
        say(f"{found.frames} frames", f"no labels: results only, {found.results}")
    else:
        say(f"results: {found.results}")
        show(found.metrics, found.file)


@app.command()
def response(
    run: Run,
    split: Split,
    scale: Scale = "sim",
    seed: Seed = 0,
    out: Measured = None,
    runs: RunsRoot = RUNS,
) -> None:
    """How high the class scores of a trained run are on objects, in their borders and in the background."""
    from bevkd.report.runs import response_file

    folder = trained(run, scale, seed, runs)
    from bevkd.train.response import measure_response

    file = response_file(run, scale, seed, split, runs) if out is None else out
    measure_response(folder, split, file)
    say(f"wrote {file}")


@app.command()
def gates(
    run: Run,
    split: Split,
    scale: Scale = "sim",
    seed: Seed = 0,
    out: Measured = None,
    runs: RunsRoot = RUNS,
) -> None:
    """Which share of the sensors' maps lies in objects and on roads, before and after the gates of a trained run."""
    folder = trained(run, scale, seed, runs)
    from bevkd.train.gates import measure_gates

    found, file = measure_gates(folder, split, out)
    why = found.get("roads_missing")
    say(*[f"no roads: {why}"] * bool(why), f"wrote {file}")


@app.command()
def attention(
    run: Run,
    split: Split,
    scale: Scale = "sim",
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help=".npz file; default: the one that tables read.")] = None,
    runs: RunsRoot = RUNS,
) -> None:
    """Where a trained run looks: spatial attention of the map before its head, in every frame of a split."""
    folder = trained(run, scale, seed, runs)
    from bevkd.eval.attention import summary
    from bevkd.train.attention import measure_attention

    found = measure_attention(folder, split, out)
    of = summary(found)
    shares = f"{100 * of['near']:.1f} % on the {100 * of['centre_area']:.1f} % of the area at the vehicle"
    say(f"entropy {100 * of['entropy']:.1f} % of a uniform map, {shares}", f"wrote {found.file}")


@app.command()
def matches(
    run: Run,
    split: Split,
    scale: Scale = "sim",
    seed: Seed = 0,
    out: Measured = None,
    runs: RunsRoot = RUNS,
) -> None:
    """What a trained run finds object by object, with as many detections as the split has annotations."""
    folder = trained(run, scale, seed, runs)
    from bevkd.train.matches import find_matches

    found, file = find_matches(folder, split, out)
    counts = f"{found['annotated']} annotations, {found['found']} found, {found['false']} false detections"
    say(counts, f"wrote {file}")


@app.command()
def breakdown(
    run: Run,
    split: Split,
    scale: Scale = "sim",
    seed: Seed = 0,
    range_bins: Annotated[
        str | None, typer.Option(metavar="METRES", help="Borders of the groups by range; default: data.range_bins.")
    ] = None,
    out: Measured = None,
    runs: RunsRoot = RUNS,
) -> None:
    """Metrics of a trained run by range, weather and lighting (nuScenes), from what `bevkd predict` has detected."""
    from bevkd.cli.evaluation import metres
    from bevkd.config import load_run
    from bevkd.report.shown import shown_groups

    folder = trained(run, scale, seed, runs)
    bins = load_run(run, scale, seed).data.range_bins if range_bins is None else metres(range_bins)
    from bevkd.train.breakdown import break_down_run

    found, file = break_down_run(folder, split, bins, out)
    say(shown_groups(found), f"breakdown: {file}")
