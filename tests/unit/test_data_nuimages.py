"""Reading nuImages: its index, what bad tables get, and frames as a training sees them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bevkd.classes import CLASSES
from bevkd.config import DataConfig, ModelConfig, load_run
from bevkd.data import FrameDataset, collate
from bevkd.data.image_frames import ImageFrames, open_frames
from bevkd.data.index import read_stamp
from bevkd.data.inputs.objects import BOXES, KEY, LABELS, MAP, UNKNOWN, label_map, moved_boxes, moved_map
from bevkd.data.nuimages.convert import convert_nuimages
from bevkd.data.nuimages.objects import Objects
from bevkd.data.options import ConvertOptions
from bevkd.data.summary import summarise
from bevkd.doctor import examine_dataset
from bevkd.errors import ConfigError, DataError
from bevkd.geometry.rle import decode_mask

Records = list[dict[str, Any]]
TRAIN, VAL = "v1.0-train", "v1.0-val"


@pytest.fixture
def copy(smoke_images: Any, tmp_path: Path) -> Path:
    """A copy of the tables beside hard links to the images, which are replaced, never written to."""
    root = tmp_path / "data"
    for version in (TRAIN, VAL):
        shutil.copytree(smoke_images.root / version, root / version)
    shutil.copytree(smoke_images.root / "samples", root / "samples", copy_function=os.link)
    return root


def edit(root: Path, name: str, change: Callable[[Records], Any], version: str = VAL) -> None:
    path = root / version / f"{name}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def image_run(dataset: Any, **data: Any) -> tuple[DataConfig, ModelConfig]:
    run = load_run("image_weights", "smoke", 0)
    return replace(run.data, root=str(dataset.root), index=str(dataset.index), **data), run.model


def frames(dataset: Any, split: str = "train", train: bool = True, **data: Any) -> ImageFrames:
    config, model = image_run(dataset, **data)
    found = open_frames(config, model, split, train=train, seed=0)
    assert isinstance(found, ImageFrames)
    return found


def test_the_index_holds_what_the_tables_say(smoke_images: Any) -> None:
    for split, version in (("train", TRAIN), ("val", VAL)):
        tables = {
            name: json.loads((smoke_images.root / version / f"{name}.json").read_text())
            for name in ("sample_data", "object_ann", "category")
        }
        names = {row["token"]: row["name"] for row in tables["category"]}
        found = frames(smoke_images, split, train=False)
        assert sorted(found.tokens) == sorted(row["token"] for row in tables["sample_data"])
        for i in (0, len(found) // 2, len(found) - 1):
            rows = [row for row in tables["object_ann"] if row["sample_data_token"] == found.tokens[i]]
            boxes, labels = found.labels_2d(i)
            assert boxes.tolist() == [row["bbox"] for row in rows]
            kinds = {"construction": "construction_vehicle", "trafficcone": "traffic_cone", "rigid": "bus"}
            last = [names[row["category_token"]].split(".") for row in rows]
            expected = ["pedestrian" if "pedestrian" in name else kinds.get(name[-1], name[-1]) for name in last]
            assert [CLASSES[label] for label in labels] == expected
            masks = found.objects.get(i).masks
            for mask, row in zip(masks, rows, strict=True):
                assert np.array_equal(mask, decode_mask(row["mask"]))  # type: ignore[arg-type]


def test_one_version_or_all(smoke_images: Any, tmp_path: Path) -> None:
    assert read_stamp(smoke_images.index)["splits"] == ["train", "val"]
    one = convert_nuimages(smoke_images.root, VAL, tmp_path / "val")
    assert read_stamp(one)["splits"] == ["val"]
    with pytest.raises(DataError, match=r"no nuImages tables 'v1\.0-mini' here"):
        convert_nuimages(smoke_images.root, "v1.0-mini", tmp_path / "mini")
    before = (smoke_images.index / "frames.parquet").stat().st_mtime_ns
    convert_nuimages(smoke_images.root, None, smoke_images.index)
    assert (smoke_images.index / "frames.parquet").stat().st_mtime_ns == before  # up to date
    assert "vehicle.car" in summarise(one)


@pytest.mark.parametrize(
    ("table", "change", "field", "message"),
    [
        ("object_ann", lambda rows: rows[3].pop("bbox"), "bbox", "lacks a field"),
        ("object_ann", lambda rows: rows[3].update(bbox=[1, 2, 3]), "bbox", "not of kind vec4"),
        ("object_ann", lambda rows: rows[3].update(bbox=[9, 2, 3, 8]), "bbox", "wants xmin < xmax"),
        ("object_ann", lambda rows: rows[3].update(bbox=[1, 2, float("nan"), 8]), "bbox", "not a finite number"),
        ("object_ann", lambda rows: rows[3].update(mask="x"), "mask", "not of kind mask"),
        ("object_ann", lambda rows: rows[3]["mask"].update(size=[64, 177]), "mask", "not that of the image"),
        ("object_ann", lambda rows: rows[3].update(category_token="x"), "category_token", "refers to nothing"),
        ("object_ann", lambda rows: rows[3].update(sample_data_token="x"), "sample_data_token", "refers to nothing"),
        ("sample_data", lambda rows: rows[3].update(width=0), "width", "no size"),
        ("sample_data", lambda rows: rows[3].update(filename="samples/none.jpg"), "filename", "missing or empty"),
        ("calibrated_sensor", lambda rows: rows[3].update(rotation=[2, 0, 0, 0]), "rotation", "unit length"),
        ("sample", lambda rows: rows[3].update(log_token="x"), "log_token", "refers to nothing"),
    ],
)
def test_a_bad_record_is_named(
    copy: Path, tmp_path: Path, table: str, change: Callable[[Records], Any], field: str, message: str
) -> None:
    token = json.loads((copy / VAL / f"{table}.json").read_text())[3]["token"]
    edit(copy, table, change)
    with pytest.raises(DataError, match=message) as error:
        convert_nuimages(copy, None, tmp_path / "index")
    assert (error.value.token, error.value.field, error.value.exit_code) == (token, field, 3)
    assert not (tmp_path / "index").exists()


def test_a_damaged_mask_is_named_when_it_is_read(copy: Path, smoke_images: Any, tmp_path: Path) -> None:
    rows = json.loads((copy / TRAIN / "object_ann.json").read_text())
    edit(copy, "object_ann", lambda rows: rows[0]["mask"].update(counts="UFhu"), TRAIN)
    index = convert_nuimages(copy, None, tmp_path / "index")
    found = frames(replace(smoke_images, root=copy, index=index))
    with pytest.raises(DataError, match=r"do not add up|damaged") as error:
        found.get(found.tokens.index(rows[0]["sample_data_token"]), 0)
    assert (error.value.token, error.value.field) == (rows[0]["token"], "mask")


def test_parts_of_the_real_data_set(copy: Path, smoke_images: Any, tmp_path: Path) -> None:
    """Images between keyframes, LiDAR files, objects without a mask, other categories, and versions without objects."""

    def more(rows: Records) -> None:
        rows.append({**rows[0], "token": "a" * 32, "is_key_frame": False, "filename": "sweeps/CAM_BACK/none.jpg"})

    edit(copy, "sample_data", more)
    edit(copy, "object_ann", lambda rows: rows[0].update(mask=None))
    edit(copy, "surface_ann", lambda rows: rows.append({"token": "b" * 32}))
    edit(copy, "category", lambda rows: rows.append({"token": "c" * 32, "name": "vehicle.ego", "description": ""}))
    edit(copy, "object_ann", lambda rows: rows[1].update(category_token="c" * 32))
    shutil.copytree(copy / VAL, copy / "v1.0-test")
    edit(copy, "object_ann", lambda rows: rows.clear(), "v1.0-test")
    edit(copy, "sample_data", lambda rows: [row.update(token=row["token"][::-1]) for row in rows], "v1.0-test")
    shutil.copytree(copy / VAL, copy / "v1.0-mini")  # the same images again: left out
    index = convert_nuimages(copy, None, tmp_path / "index")
    data = replace(smoke_images, root=copy, index=index)
    val, test = frames(data, "val", train=False), frames(data, "test", train=False)
    assert val.has_annotations
    assert not test.has_annotations
    assert len(val) == len(test) == len(frames(smoke_images, "val", train=False))
    assert -1 in val.objects.labels
    with pytest.raises(DataError, match="no image has an object of a class"):
        frames(data, "test").require_targets()
    row = json.loads((copy / VAL / "object_ann.json").read_text())[0]
    sample = frames(data, "val").get(val.tokens.index(row["sample_data_token"]), 0)
    assert (sample.extra[MAP] == UNKNOWN).any()  # nobody outlined it
    # An image that is not there; the test version names the same files.
    shutil.rmtree(copy / "samples")
    shutil.copytree(smoke_images.root / "samples", copy / "samples")
    (copy / json.loads((copy / TRAIN / "sample_data.json").read_text())[0]["filename"]).unlink()
    with pytest.raises(DataError, match="convert --partial"):
        convert_nuimages(copy, None, tmp_path / "index")
    partial = convert_nuimages(copy, None, tmp_path / "index", options=ConvertOptions(partial=True))
    assert read_stamp(partial)["frames"] == len(val) * 2 + len(frames(smoke_images, "train")) - 1


def test_doctor_says_what_it_is(smoke_images: Any) -> None:
    found = examine_dataset(smoke_images.root, None)
    assert (found.format, found.problems) == ("nuimages", [])
    assert "construction_vehicle" in found.contents[0]


def test_data_and_detectors_of_two_kinds_do_not_mix(smoke_images: Any, smoke_dataset: Any) -> None:
    data, _ = image_run(smoke_images)
    camera = load_run("camera_base", "smoke", 0).model
    with pytest.raises(ConfigError, match=r"it wants model\.kind image2d, not 'bev'"):
        open_frames(data, camera, "train", train=True, seed=0)
    run = load_run("image_weights", "smoke", 0)
    other = replace(run.data, kind="nuscenes", root=str(smoke_dataset.root), index=str(smoke_dataset.index))
    with pytest.raises(DataError, match="has no 2D labels"):  # and images with boxes in 3D for the one in 2D
        open_frames(other, run.model, "train", train=True, seed=0)
    with pytest.raises(ConfigError, match="is of nuscenes, which has no 2D labels"):
        open_frames(replace(other, kind="nuimages"), run.model, "train", train=False, seed=0)
    with pytest.raises(ConfigError, match="images with 2D labels: there is nothing in 3D"):  # whoever draws scenes
        FrameDataset(data, camera, "val", train=False, seed=0)


def test_samples_are_replayable_and_match_a_naive_look(smoke_images: Any) -> None:
    """Augmented labels: each cell of the map has the class of the source pixel under its middle, and boxes that are
    wholly in the image are around the moved corners.
    """
    from bevkd.config.schema import ImageAugmentConfig

    images = ImageAugmentConfig(enabled=True, scale=(0.9, 1.4), flip=0.5, rotate_deg=4.0)
    config, _ = image_run(smoke_images)
    found = frames(smoke_images, augment=replace(config.augment, image=images))
    again = frames(smoke_images, augment=replace(config.augment, image=images))
    stride, flipped = 16 // 2, 0
    for i in range(0, len(found), 7):
        sample = found.get(i, 3)
        assert np.array_equal(sample.cameras.images, again.get(i, 3).cameras.images)  # type: ignore[union-attr]
        got, matrix = sample.extra, sample.cameras.image_aug[0]  # type: ignore[union-attr]
        assert np.array_equal(got[MAP], again.get(i, 3).extra[MAP])
        flipped += matrix[0, 0] < 0
        source = label_map(found.objects.get(i), (64, 176))
        back = np.linalg.inv(matrix)
        for row, column in np.ndindex(*got[MAP].shape):
            x, y, _ = back @ np.array([(column + 0.5) * stride, (row + 0.5) * stride, 1.0])
            inside = 0 <= x < 176 and 0 <= y < 64
            assert got[MAP][row, column] == (source[int(y), int(x)] if inside else UNKNOWN)
        boxes, labels = found.labels_2d(i)
        for box in boxes:
            corners = [matrix @ np.array([x, y, 1.0]) for x in box[[0, 2]] for y in box[[1, 3]]]
            u, v = ([corner[k] for corner in corners] for k in (0, 1))
            moved = np.array([min(u), min(v), max(u), max(v)])
            if (moved[:2] >= 0).all() and moved[2] <= 176 and moved[3] <= 64 and min(moved[2:] - moved[:2]) >= 1:
                assert np.isclose(got[BOXES], moved, atol=1e-9).all(axis=1).any()
        assert len(got[BOXES]) == len(got[LABELS]) <= len(labels)
    assert 0 < flipped < len(range(0, len(found), 7))
    batch = collate([found.get(i, 0) for i in range(3)])
    counts = [len(found.get(i, 0).extra[LABELS]) for i in range(3)]
    assert batch.extra[KEY].image.tolist() == [i for i, n in enumerate(counts) for _ in range(n)]
    assert batch.extra[KEY].classes.shape == (3, 8, 22)


def test_what_little_is_left_of_a_box_is_dropped() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [8, 0, 12, 10], [9.5, 0, 14, 10], [20, 0, 30, 10], [2, 2, 2.5, 8]])
    moved, kept = moved_boxes(boxes, np.eye(3), (10, 10))
    assert kept.tolist() == [True, True, False, False, False]
    assert moved[1].tolist() == [8, 0, 10, 10]
    assert moved_boxes(np.zeros((0, 4)), np.eye(3), (10, 10))[1].shape == (0,)


def test_resized_images_keep_their_labels(smoke_images: Any, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(smoke_images.root, root)
    plain = frames(smoke_images, "val", train=False)
    for path in (root / "samples").rglob("*.jpg"):
        Image.open(path).resize((352, 128)).save(path, quality=95, subsampling=0)
    index = convert_nuimages(root, None, tmp_path / "index", options=ConvertOptions(rescale_images=True))
    data, model = image_run(replace(smoke_images, root=root, index=index))
    # As in training, where labels are read, but without augmentation.
    twice = open_frames(data, model, "val", train=True, seed=0)
    once = frames(smoke_images, "val")
    i = next(i for i in range(len(once)) if len(plain.labels_2d(i)[1]) > 3)
    a, b = once.get(i, 0), twice.get(i, 0)
    assert np.allclose(a.extra[BOXES], b.extra[BOXES])
    assert np.array_equal(a.extra[MAP], b.extra[MAP])


def test_objects_without_masks_hide_their_boxes() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:3, 1:3] = True
    found = Objects(np.array([[1.0, 1, 3, 3], [4, 2, 7, 5], [0, 4, 2, 6]]), np.array([0, 1, -1]), [mask, None, ~mask])
    seen = label_map(replace(found, masks=[mask, None, None]), (6, 8))
    assert (seen[1:3, 1:3] == 1).all()
    assert (seen[2:5, 4:7] == UNKNOWN).all()
    assert (seen == 1).sum() == 4
    assert np.array_equal(moved_map(seen, np.eye(3), (6, 8), 1), seen)


@pytest.mark.parametrize("change", [{"size": [10**30, 5]}, {"size": [70_000, 5]}, {"counts": "\ud800"}])
def test_masks_beyond_any_are_problems(copy: Path, change: dict[str, Any]) -> None:
    edit(copy, "object_ann", lambda content: content[0].update(mask=content[0]["mask"] | change))
    assert "of a mask" in "\n".join(examine_dataset(copy, None).problems)


def test_names_longer_than_any_are_missing_files(copy: Path) -> None:
    edit(copy, "sample_data", lambda content: content[0].update(filename=f"samples/{'x' * 5000}.jpg"))
    assert "image is missing or empty" in "\n".join(examine_dataset(copy, None).problems)
