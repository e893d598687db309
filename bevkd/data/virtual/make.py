"""`make_virtual_points`: a file of virtual points beside every LiDAR sweep whose images have masks."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd import progress
from bevkd.data.augment import generator
from bevkd.data.file_reader import FileReader
from bevkd.data.index import FrameIndex, read_stamp
from bevkd.data.inside import Inside
from bevkd.data.load import open_files
from bevkd.data.virtual.files import read_virtual, virtual_name, write_virtual
from bevkd.data.virtual.places import MADE_OF, MANIFEST, folder_of
from bevkd.data.virtual.points import View, virtual_sweep
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import invert
from bevkd.instance_masks import masks_name, read_masks
from bevkd.io import read_json, write_json
from bevkd.locks import waiting_for
from bevkd.processes import mapped

log = logging.getLogger(__name__)

PER_INSTANCE = 50  # of the paper
FORMAT = 1
_CHUNK = 32  # sweeps per job


@dataclass(frozen=True)
class Recipe:
    """What decides the bytes of the files beside masks and sweeps.

    Attributes:
        per_instance: pixels of each mask.
        seed: of their choice.
    """

    per_instance: int = PER_INSTANCE
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes:
        sweeps: with a file of virtual points.
        without: sweeps of which no image has masks, and which so have no file.
        virtual: points in the files.
    """

    sweeps: int = 0
    without: int = 0
    virtual: int = 0


@dataclass(frozen=True)
class _Image:
    """An image of a sweep."""

    filename: str
    token: str
    size: tuple[int, int]
    intrinsics: NDArray[np.float64]
    global_from_sensor: NDArray[np.float64]


@dataclass(frozen=True)
class _Sweep:
    """A sweep and its images."""

    filename: str
    token: str
    global_from_sensor: NDArray[np.float64]
    images: tuple[_Image, ...]


@dataclass(frozen=True)
class _Files:
    """Where files lie."""

    root: Path
    facts: dict[str, Any]
    link_targets: tuple[str, ...]

    def inside(self) -> Inside:
        return Inside(self.root, self.link_targets)

    def reader(self) -> Any:
        return open_files(self.facts, self.root, self.link_targets)


def make_virtual_points(
    index: str | Path,
    root: str | Path,
    recipe: Recipe = Recipe(),
    *,
    workers: int = 1,
    restart: bool = False,
    link_targets: Sequence[str] = (),
) -> Made:
    """Write the virtual points of every frame of an index, those between keyframes included.

    A sweep is seen by the images of its frame: of a keyframe its own, of a frame between them the nearest in time. The
    same masks, sweeps and recipe give the same bytes, whatever `workers` is. Files that are there are kept if the index
    and the recipe are those they were made of, so that the same command goes on after a crash; masks are not compared.

    Args:
        index: of the data set.
        root: folder of the data set, which the files are written to.
        recipe: how.
        workers: processes.
        restart: make all files anew.
        link_targets: folders outside of the root that links within it may lead to.

    Returns:
        What there is, also what was there before.

    Raises:
        ConfigError: sweeps of this format are no files, or the index has no camera.
        DataError: no image has masks, a mask or sweep is damaged, or the system refuses to write.
    """
    index, root = Path(index), Path(root)
    files = _Files(root, read_stamp(index), tuple(link_targets))
    if not isinstance(files.reader(), FileReader):
        raise ConfigError(f"virtual points lie beside the files of sweeps, which {files.facts['reader']!r} has not")
    sweeps = _sweeps(index, files.facts)
    with _state(index, recipe, files.facts, restart) as (folder, keep):
        made = _make(sweeps, files, recipe, keep, workers)
        if made.sweeps == 0:
            name = masks_name(sweeps[0].images[0].filename)
            raise DataError(
                "no image has a file of instance masks (docs/virtual_points.md says how they are written)",
                file=root / name, token=sweeps[0].images[0].token,
            )  # fmt: skip
        write_json(folder / MANIFEST, asdict(recipe) | asdict(made))
    return made


@contextmanager
def _state(index: Path, recipe: Recipe, facts: dict[str, Any], restart: bool) -> Iterator[tuple[Path, bool]]:
    """The folder of what is said of the files, and whether those that are there were made of the same."""
    folder = folder_of(index)
    made_of = {"format": FORMAT, "source": facts["source"], **asdict(recipe)}
    with waiting_for(folder):
        said = folder / MADE_OF
        keep = not restart and said.exists() and read_json(said) == made_of
        if not keep and folder.exists():
            shutil.rmtree(folder)
        if not said.exists():
            write_json(said, made_of)
        yield folder, keep


def _sweeps(index: Path, facts: dict[str, Any]) -> list[_Sweep]:
    """The key sweeps of all frames of all splits, with the images of their frames."""
    frames = FrameIndex.open(
        index, "+".join(facts["splits"]), sensors=("lidar", "camera"), between=True, camera_sweeps=True
    )
    table = frames.sensors
    poses = table.global_from_ego @ table.ego_from_sensor
    out: list[_Sweep] = []
    for rows in frames.key:
        at = [table.position[row] for row in rows if row in table.position]
        images = tuple(
            _Image(table.filename[i], table.token[i], _size(table.size[i]), table.intrinsics[i], poses[i])
            for i in at
            if table.modality[i] == "camera"
        )
        lidar = next((i for i in at if table.modality[i] == "lidar"), None)
        if images and lidar is not None:
            out.append(_Sweep(table.filename[lidar], table.token[lidar], poses[lidar], images))
    if not out:
        raise ConfigError(f"index {index}: no frame has a LiDAR sweep and an image, of which virtual points are made")
    return out


def _size(size: NDArray[np.int64]) -> tuple[int, int]:
    return int(size[1]), int(size[0])


def _make(sweeps: list[_Sweep], files: _Files, recipe: Recipe, keep: bool, workers: int) -> Made:
    chunks = [sweeps[i : i + _CHUNK] for i in range(0, len(sweeps), _CHUNK)]
    task = partial(_make_some, files, recipe, keep)
    total = Made()
    with progress.bar("making virtual points", len(sweeps), "sweeps") as bar:
        for made, chunk in zip(mapped(task, chunks, workers), chunks, strict=True):
            total = Made(*(a + b for a, b in zip(asdict(total).values(), asdict(made).values(), strict=True)))
            bar.advance(len(chunk))
    return total


def _make_some(files: _Files, recipe: Recipe, keep: bool, sweeps: list[_Sweep]) -> Made:
    inside, reader = files.inside(), files.reader()
    done = without = virtual = 0
    for sweep in sweeps:
        out = inside.path(virtual_name(sweep.filename), sweep.token)
        if keep and out.exists():
            done, virtual = done + 1, virtual + len(read_virtual(out, sweep.token).virtual)
            continue
        views = [view for image in sweep.images if (view := _view(inside, sweep, image, recipe.seed)) is not None]
        if not views:
            without += 1
            continue
        made = virtual_sweep(reader.lidar(sweep.filename, sweep.token), views, recipe.per_instance)
        write_virtual(out, made)
        done, virtual = done + 1, virtual + len(made.virtual)
    return Made(done, without, virtual)


def _view(inside: Inside, sweep: _Sweep, image: _Image, seed: int) -> View | None:
    """An image as it lies beside a sweep; None where it has no masks."""
    path = inside.path(masks_name(image.filename), image.token)
    if not path.exists():
        return None
    pose = invert(sweep.global_from_sensor) @ image.global_from_sensor
    rng = generator("virtual points", seed, image.token)
    return View(pose, image.intrinsics, image.size, read_masks(path, image.size, image.token), rng)
