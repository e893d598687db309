"""File names of tables stay within the root of the data set, also after links; other folders are named in a setting."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from bevkd.cli import main
from bevkd.data import convert_nuscenes
from bevkd.data.file_reader import FileReader
from bevkd.data.inside import Inside
from bevkd.data.options import ConvertOptions
from bevkd.data.readers.waymo import WaymoReader
from bevkd.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "samples" / "a b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root2").mkdir()
    for path in ("root/samples/a b/ü '$x'.bin", "elsewhere/x.bin", "root2/x.bin"):
        (tmp_path / path).write_bytes(b"\0" * 20)
    return tmp_path / "root"


@pytest.mark.parametrize(
    "name", ["samples/a b/ü '$x'.bin", "samples/../samples/a b/ü '$x'.bin", "samples/new.bin", "x"]
)
def test_names_within_the_root_are_paths(root: Path, name: str) -> None:
    assert Inside(root).path(name) == root / name
    (root.parent / "link").symlink_to(root)
    assert Inside(root.parent / "link").path(name) == root.parent / "link" / name


@pytest.mark.parametrize(
    "name",
    ["../elsewhere/x.bin", "../root2/x.bin", "samples/../../elsewhere/x.bin", "/etc/passwd", "..", "samples/a\0b",
     "linked/x.bin", "file.bin", "samples/../linked/x.bin", "loop/x.bin"],
)  # fmt: skip
def test_names_that_lead_out_are_errors(root: Path, name: str) -> None:
    (root / "linked").symlink_to(root.parent / "elsewhere")
    (root / "file.bin").symlink_to(root.parent / "elsewhere" / "x.bin")
    (root / "loop").symlink_to("../loop2")
    inside = Inside(root)
    for _ in range(2):  # folders are remembered
        with pytest.raises(DataError) as caught:
            inside.path(name, "token")
        assert caught.value.field == "filename"
        assert caught.value.token == "token"


def test_links_within_the_root_and_to_named_folders_are_followed(root: Path) -> None:
    (root / "sweeps").symlink_to("samples")
    (root / "linked").symlink_to(root.parent / "elsewhere")
    assert Inside(root).path("sweeps/a b/x.bin")
    assert Inside(root, [root.parent / "elsewhere"]).path("linked/x.bin").read_bytes()
    with pytest.raises(DataError):
        Inside(root, [root.parent / "else"]).path("linked/x.bin")
    assert pickle.loads(pickle.dumps(Inside(root))).path("samples/x.bin")


def test_readers_refuse_what_leads_out(root: Path) -> None:
    reader = FileReader(root, 5)
    assert len(reader.lidar("samples/a b/ü '$x'.bin", "t")) == 1
    for read in (reader.lidar, reader.image):
        with pytest.raises(DataError, match="leads out"):
            read("../elsewhere/x.bin", "t")
    (root / "linked").symlink_to(root.parent / "elsewhere")
    assert len(FileReader(root, 5, (str(root.parent / "elsewhere"),)).lidar("linked/x.bin", "t")) == 1
    with pytest.raises(DataError, match="leads out"):
        WaymoReader(root).lidar("../elsewhere/1", "t")
    with pytest.raises(DataError, match="leads out"):
        WaymoReader(root).image("../elsewhere/1/2", "t")


def _rename(folder: Path, name: str) -> None:
    """Let the first record of a camera's keyframe name another file."""
    file = folder / "v1.0-sim" / "sample_data.json"
    records = json.loads(file.read_text())
    at = next(i for i, one in enumerate(records) if one["is_key_frame"] and "CAM_FRONT/" in one["filename"])
    shutil.copy(folder / records[at]["filename"], folder.parent / "stolen.jpg")
    records[at]["filename"] = name
    file.write_text(json.dumps(records))


def test_tables_that_name_files_elsewhere_are_not_indexed(smoke_dataset, tmp_path: Path, capsys) -> None:
    for name in ("../stolen.jpg", str(tmp_path / "stolen.jpg"), "samples/../../stolen.jpg"):
        copy = tmp_path / "copy"
        shutil.copytree(smoke_dataset.root, copy)
        _rename(copy, name)
        with pytest.raises(DataError, match="leads out of the folder of the data set"):
            convert_nuscenes(copy, "v1.0-sim", tmp_path / "index")
        assert (
            main(["convert", "--dataset", "nuscenes", "--root", str(copy), "--version", "v1.0-sim", "--out", "x"]) == 3
        )
        assert capsys.readouterr().err.count("\n") == 1
        shutil.rmtree(copy)
    assert not (tmp_path / "index").exists()


def test_a_data_set_of_links_is_indexed_where_they_may_lead(smoke_dataset, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other disk"
    shutil.copytree(smoke_dataset.root, copy)
    other.mkdir()
    os.rename(copy / "samples", other / "samples")
    (copy / "samples").symlink_to(other / "samples")
    with pytest.raises(DataError, match="leads out"):
        convert_nuscenes(copy, "v1.0-sim", tmp_path / "index")
    options = ConvertOptions(link_targets=(str(other),))
    index = convert_nuscenes(copy, "v1.0-sim", tmp_path / "index", options=options)
    names = ("frames.parquet", "sensors.parquet")
    assert [(index / n).read_bytes() for n in names] == [(smoke_dataset.index / n).read_bytes() for n in names]
