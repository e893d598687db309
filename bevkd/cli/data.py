"""Commands on data sets: `simulate`, `convert`, `virtual-points`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bevkd.cli.common import Classes, Workers, app, content_stamp, known_seed, own_categories, say
from bevkd.errors import ConfigError, nearest
from bevkd.io import check_output

if TYPE_CHECKING:
    from bevkd.data.options import ConvertOptions


WorldSeed = Annotated[int, typer.Option(callback=known_seed, help="Of the world: same seed, same bytes.")]


@app.command()
def simulate(
    dataset: Annotated[str, typer.Option(help="Format to write: nuscenes, kitti, waymo or nuimages.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    scale: Annotated[str, typer.Option(help="How much: smoke, sim (default) or paper.")] = "sim",
    seed: WorldSeed = 0,
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
    splits = scales[scale].splits
    shares = ", ".join(f"{name} {count}" for name, count in splits.scenes.items())
    scenes = sum(splits.scenes.values())
    say(
        f"wrote {out}: {scenes} scenes ({shares}) of {splits.keyframes_per_scene} keyframes, {_megabytes(out)}",
        f"next: {_convert_command(dataset, out)}",
    )


def _megabytes(folder: Path) -> str:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:,.1f} MB"


def _convert_command(dataset: str, root: Path) -> str:
    from bevkd.hints import command
    from bevkd.sim.nuscenes import VERSION

    # Where the configuration looks for the index of a data set that lies where it looks for that; else beside it.
    ours = root.parts[:2] == ("data", f"{dataset}_sim")
    index = Path("data", "index", *root.parts[1:]) if ours else root.with_name(f"{root.name}_index")
    return command("convert", dataset=dataset, root=root, version=VERSION if dataset == "nuscenes" else None, out=index)


MissingLabels = Annotated[
    Literal["error", "unlabelled"],
    typer.Option(help="What a frame of a labelled set without a label file (KITTI, Waymo) is."),
]
LinkTargets = Annotated[
    list[Path] | None,
    typer.Option("--link-target", help="A folder outside that links in the data set may lead to; may be repeated."),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Single sensor files may be missing: index what is there, and count the rest.")
]
PointColumns = Annotated[
    int | None,
    typer.Option(min=3, max=100, help="32-bit numbers per LiDAR point, where it is not 5 (nuScenes) or 4 (KITTI)."),
]
RescaleImages = Annotated[
    bool, typer.Option("--rescale-images", help="Images were resized: scale the intrinsics with them.")
]


def _options(
    missing_labels: Literal["error", "unlabelled"],
    partial: bool,
    point_columns: int | None,
    rescale_images: bool,
    classes: Path | None,
    link_targets: list[Path] | None,
) -> ConvertOptions:
    from bevkd.data.options import ConvertOptions

    targets = tuple(str(target) for target in link_targets or ())
    return ConvertOptions(missing_labels, partial, point_columns, rescale_images, own_categories(classes), targets)


@app.command()
def convert(
    dataset: Annotated[str, typer.Option(help="Format to read: nuscenes, kitti, waymo or nuimages.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Folder of the Parquet index.")],
    version: Annotated[str | None, typer.Option(help="nuScenes: default v1.0-trainval. nuImages: default all.")] = None,
    workers: Workers = 1,
    missing_labels: MissingLabels = "error",
    partial: Partial = False,
    point_columns: PointColumns = None,
    rescale_images: RescaleImages = False,
    classes: Classes = None,
    link_targets: LinkTargets = None,
) -> None:
    """Index a data set (Parquet); sensor data stay where they are. Prints what the index holds."""
    from bevkd.data.summary import summarise
    from bevkd.registry import lookup

    reader = lookup("reader", dataset)
    options = _options(missing_labels, partial, point_columns, rescale_images, classes, link_targets)
    unusual = {"options": options} if options.facts() or options.link_targets else {}
    before = content_stamp(out / "frames.parquet")
    reader.convert(root, version, out, workers, **unusual)
    done = f"{out} is up to date" if content_stamp(out / "frames.parquet") == before else f"wrote {out}"
    say(done, summarise(out))


@app.command("virtual-points")
def virtual_points(
    index: Annotated[Path, typer.Option(help="Folder of the Parquet index.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set, where masks lie and virtual points are put.")],
    per_instance: Annotated[int, typer.Option(min=1, max=10_000, help="Pixels of each mask.")] = 50,
    seed: Annotated[int, typer.Option(callback=known_seed, help="Of the choice of pixels.")] = 0,
    workers: Workers = 1,
    restart: Annotated[bool, typer.Option("--restart", help="Make files anew that are there.")] = False,
    link_targets: LinkTargets = None,
) -> None:
    """Make virtual points of LiDAR sweeps and 2D instance masks, for the model `mvp`.

    Masks of a simulated data set are made first; those of a real one come from a detector of yours.
    """
    from bevkd.data.index import read_stamp
    from bevkd.data.virtual.make import Recipe, make_virtual_points
    from bevkd.sim.masks import is_simulated, simulate_masks

    version = str(read_stamp(index).get("version", ""))
    if is_simulated(root, version):
        images = simulate_masks(root, version, workers=workers, restart=restart)
        say(f"masks of {images} simulated images lie beside them")
    targets = [str(target) for target in link_targets or ()]
    made = make_virtual_points(
        index, root, Recipe(per_instance, seed), workers=workers, restart=restart, link_targets=targets
    )
    without = f"; {made.without} sweeps have no image with masks" if made.without else ""
    say(f"{made.virtual} virtual points beside {made.sweeps} sweeps{without}")


@app.command()
def doctor(
    root: Annotated[Path | None, typer.Option(help="A data set folder to look at.")] = None,
    version: Annotated[str | None, typer.Option(help="Its version; default: every one that lies there.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the findings as JSON too.")] = None,
    missing_labels: MissingLabels = "error",
    partial: Partial = False,
    point_columns: PointColumns = None,
    rescale_images: RescaleImages = False,
    classes: Classes = None,
    link_targets: LinkTargets = None,
) -> None:
    """What is installed, which fast paths are active, and all that is wrong with a data set folder."""
    from bevkd.doctor import examine, render

    options = _options(missing_labels, partial, point_columns, rescale_images, classes, link_targets)
    if json_out is not None:
        check_output(json_out)
    findings = examine(root, version, options)
    typer.echo(render(findings))
    if json_out is not None:
        from bevkd.io import write_json

        write_json(json_out, findings)
    if findings["problems"]:
        raise typer.Exit(3)
