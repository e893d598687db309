from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bevkd.data.nuscenes import lighting, scene_splits, tables, weather
from bevkd.data.nuscenes.tables import read_table, records
from bevkd.errors import DataError


def write(folder: Path, name: str, value: object) -> Path:
    path = folder / f"{name}.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value, indent=0))
    return path


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 22])
def test_records_do_not_depend_on_the_chunk_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    content = [
        {"token": "a", "text": 'bracket ] brace } quote " comma, {', "x": [1, -2.5, float("nan")], "n": {"k": []}},
        {"token": "b", "text": "grüße ,\n[", "x": [], "n": None},
    ]
    path = write(tmp_path, "t", content)
    monkeypatch.setattr(tables, "_CHUNK", chunk)
    assert json.dumps(list(records(path))) == json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "closing bracket"),
        ("[", "closing bracket"),
        ('{"token": "a"}', "not a JSON array"),
        ('[{"token": "a"}, {"token": ', "not valid JSON"),
        ('[{"token": "a"}, 5]', "not a record"),
        ('[{"token": "a"}', "closing bracket"),
    ],
)
def test_malformed_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "t", text)
    with pytest.raises(DataError, match=message) as error:
        list(records(path))
    assert error.value.file == path


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        read_table(tmp_path, "t", {})


def test_columns_and_links(tmp_path: Path) -> None:
    write(tmp_path, "parent", [{"token": "p1", "v": [1, 2, 3]}, {"token": "p0", "v": [4, 5, None]}])
    write(
        tmp_path,
        "child",
        [{"token": f"c{i}", "parent": f"p{i % 2}", "next": "" if i else "c1", "tags": ["p1"] * i} for i in range(3)],
    )
    parent = read_table(tmp_path, "parent", {"v": "vec3"})
    child = read_table(tmp_path, "child", {"parent": "token", "next": "link", "tags": "links"})
    assert parent.rows_of(child, "parent").tolist() == [1, 0, 1]
    assert child.rows_of(child, "next", optional=True).tolist() == [1, -1, -1]
    assert parent.rows_of(child, "tags", optional=True).tolist() == [-1, 0, 0]
    np.testing.assert_array_equal(parent["v"], [[1, 2, 3], [4, 5, np.nan]])
    with pytest.raises(DataError) as error:
        parent.require_within("v", 1e6)
    assert (error.value.token, error.value.field, error.value.file) == ("p0", "v", tmp_path / "parent.json")
    with pytest.raises(DataError, match="refers to nothing") as error:
        parent.rows_of(child, "next")
    assert (error.value.token, error.value.field) == ("c0", "next")


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"token": "a", "n": 1, "v": [1, 2]}, "v"),
        ({"token": "a", "n": 1, "v": "xyz"}, "v"),
        ({"token": "a", "n": 1.5, "v": [1, 2, 3]}, "n"),
        ({"token": "a", "v": [1, 2, 3]}, "n"),
        ({"token": 7, "n": 1, "v": [1, 2, 3]}, "token"),
    ],
)
def test_wrong_types_name_the_record(tmp_path: Path, record: dict[str, object], field: str) -> None:
    write(tmp_path, "t", [{"token": "z", "n": 1, "v": [0, 0, 0]}, record])
    with pytest.raises(DataError) as error:
        read_table(tmp_path, "t", {"n": "count", "v": "vec3"})
    assert error.value.field == field
    assert error.value.file == tmp_path / "t.json"


def test_duplicate_tokens_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "t", [{"token": "a"}, {"token": "b"}, {"token": "a"}])
    with pytest.raises(DataError, match="twice") as error:
        read_table(tmp_path, "t", {})
    assert error.value.token == "a"


@pytest.mark.parametrize("field", ["rotation"])
def test_rotations_must_have_unit_length(tmp_path: Path, field: str) -> None:
    write(tmp_path, "t", [{"token": "a", field: [1, 0, 0, 0]}, {"token": "b", field: [0, 0, 0, 0]}])
    with pytest.raises(DataError, match="unit length") as error:
        read_table(tmp_path, "t", {field: "vec4"}).require_rotation()
    assert error.value.token == "b"


def test_official_splits() -> None:
    splits = scene_splits(Path("unused"), "v1.0-trainval")
    assert (len(splits["train"]), len(splits["tune"]), len(splits["val"])) == (630, 70, 150)
    assert not set(splits["train"]) & set(splits["tune"])
    assert splits == scene_splits(Path("unused"), "v1.0-trainval")
    mini = scene_splits(Path("unused"), "v1.0-mini")
    assert {name: len(scenes) for name, scenes in mini.items()} == {"mini_train": 8, "mini_val": 2}


@pytest.mark.parametrize(
    ("content", "field"),
    [([], None), ({"train": "scene"}, "train"), ({"train": ["a"], "val": ["a"]}, "val")],
)
def test_bad_custom_splits(tmp_path: Path, content: object, field: str | None) -> None:
    (tmp_path / "v1.0-own").mkdir()
    path = write(tmp_path / "v1.0-own", "splits", content)
    with pytest.raises(DataError) as error:
        scene_splits(tmp_path, "v1.0-own")
    assert (error.value.file, error.value.field) == (path, field)


def test_words_of_descriptions() -> None:
    assert (weather("Night, heavy rain"), lighting("Night, heavy rain")) == ("rain", "night")
    assert (weather("Rain, wait at intersection"), lighting("Parked cars")) == ("rain", "day")
    assert (weather("Train station, drain"), lighting("Knights")) == ("clear", "day")


FAULTS = {
    "a comma too much": '[{"token": "a", "x": 1},, {"token": "b", "x": 2}]',
    "no comma": '[{"token": "a", "x": 1} {"token": "b", "x": 2}]',
    "a word": '[{"token": "a", "x": 1}, {"token": "b", "x": oops}, {"token": "c", "x": 2}]',
    "cut": '[{"token": "a", "x": 1}, {"token": "b", "x"',
    "cut in a word": '[{"token": "a", "x": 1}, {"token": "bcd',
    "cut behind a record": '[{"token": "a", "x": 1},',
    "no bracket": '[{"token": "a", "x": 1}',
    "more": '[{"token": "a", "x": 1}] and more',
    "no record": '[{"token": "a", "x": 1}, 3, {"token": "b", "x": 2}]',
    "two": '[{"token": "a", "x": "one"}, {"token": "b"}, 3, {"token": "b", "x": oops}]',
    "a field": '[{"token": "a", "x": 1}, {"token": "b", "y": 2}, {"token": "c"}]',
    "a kind": '[{"token": "a", "x": 1}, {"token": "b", "x": 1.5}, {"token": 3, "x": 1}]',
    "huge": '[{"token": "a", "x": 1}, {"token": "b", "x": 123456789012345678901234567890}]',
}


@pytest.mark.parametrize("text", FAULTS.values(), ids=FAULTS.keys())
def test_what_is_said_does_not_depend_on_internal_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "log.json").write_text(text)
    said = set()
    for chunk, batch in ((1 << 22, 5000), (1, 5000), (7, 1), (1 << 22, 2), (3, 2)):
        monkeypatch.setattr(tables, "_CHUNK", chunk)
        monkeypatch.setattr(tables, "_BATCH", batch)
        with pytest.raises(DataError) as error:
            read_table(tmp_path, "log", {"x": "count"})
        said.add(str(error.value))
    assert len(said) == 1, said


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_matrices_have_three_rows_and_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(tables, "_BATCH", batch)
    square, tall = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0]] * 6
    records = [{"token": name, "k": k} for name, k in (("a", square), ("b", []), ("c", tall), ("d", square))]
    (tmp_path / "log.json").write_text(json.dumps(records))
    with pytest.raises(DataError, match=r"matrix3.*token=c"):
        read_table(tmp_path, "log", {"k": "matrix3"})
