"""Reading JSON in pieces gives what one parse gives, whatever the layout."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bevkd.errors import DataError
from bevkd.eval.nuscenes import jsonio

# Strings that look like the border between two entries.
text = st.one_of(st.text(max_size=8), st.sampled_from(["}, {", '}], "a": [{', '], "b": [', '"', "\\", '\\"}, {', "{"]))
number = st.floats(allow_nan=False, allow_infinity=False)
box = st.dictionaries(text, st.one_of(number, text, st.lists(number, max_size=3), st.none()), max_size=4)
layout = st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}])


@pytest.fixture(params=[1, 7, 60, 1 << 18], autouse=True)
def piece_bytes(request, monkeypatch):
    monkeypatch.setattr(jsonio, "PIECE_BYTES", request.param)


def in_pieces(path):
    merged = {}
    rest = jsonio.read_results(path, merged.update)
    return {**rest, "results": merged}


@settings(max_examples=60, deadline=None, suppress_health_check=["function_scoped_fixture"])
@given(
    results=st.dictionaries(text, st.lists(box, max_size=4), max_size=5),
    meta=st.dictionaries(text, st.one_of(text, st.just({"results": {"a": [{}]}})), max_size=3),
    meta_first=st.booleans(),
    layout=layout,
)
def test_results(tmp_path_factory, results, meta, meta_first, layout):
    content = {"meta": meta, "results": results} if meta_first else {"results": results, "meta": meta}
    path = tmp_path_factory.mktemp("json") / "results.json"
    path.write_text(json.dumps(content, **layout), encoding="utf-8")
    assert in_pieces(path) == content


@settings(max_examples=60, deadline=None, suppress_health_check=["function_scoped_fixture"])
@given(records=st.lists(box, max_size=8), layout=layout)
def test_records(tmp_path_factory, records, layout):
    path = tmp_path_factory.mktemp("json") / "table.json"
    path.write_text(json.dumps(records, **layout), encoding="utf-8")
    assert [record for piece in jsonio.iter_records(path) for record in piece] == records


def test_nan_as_python_writes_it(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"meta": {}, "results": {"a": [{"v": [math.nan, -math.inf]}], "b": [], "c": [{}]}}))
    value = in_pieces(path)["results"]
    assert math.isnan(value["a"][0]["v"][0])
    assert value["a"][0]["v"][1] == -math.inf
    assert value["b"] == []


@pytest.mark.parametrize("cut", [1, 10, 40, 60, 75, 83])
def test_broken_text_is_refused(tmp_path, cut):
    whole = json.dumps({"results": {"a": [{"x": [1, 2]}], "b": [{"x": [3]}, {}], "c": []}, "meta": {"m": "}]"}})
    path = tmp_path / "results.json"
    path.write_text(whole)
    in_pieces(path)
    path.write_text(whole[:cut])
    with pytest.raises(DataError, match="not valid JSON"):
        in_pieces(path)
    path.write_bytes(whole[:cut].encode() + b"\xff" + whole[cut:].encode())
    with pytest.raises(DataError, match="not valid JSON"):
        in_pieces(path)


def test_an_unreadable_file(tmp_path):
    with pytest.raises(DataError, match="file is missing"):
        in_pieces(tmp_path / "nothing.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        in_pieces(tmp_path / "folder")


def said(path, read, monkeypatch):
    """What is said of a file, for pieces of any size."""
    out = set()
    for size in (1, 7, 30, 1 << 18):
        monkeypatch.setattr(jsonio, "PIECE_BYTES", size)
        with pytest.raises(DataError) as error:
            read(path)
        out.add(str(error.value))
    return out


@pytest.mark.parametrize(
    "fault",
    [
        (b'"x": 1', b'"x": one'),
        (b'}, {"y"', b'} {"y"'),
        (b'"y": 2', b'"y": 2,'),
        (b'"z"', b'"z'),
        (b'"z"', b'"\xff"'),
        (b'"y": 2', b'"\xc3\xa9": 2, "y": two'),
    ],
)
@pytest.mark.parametrize("kind", ["table", "results"])
def test_what_is_said_does_not_depend_on_the_size_of_the_pieces(tmp_path, monkeypatch, fault, kind):
    records = [{"x": 1}, {"x": "\u00e9"}, {"y": 2}, {"z": [3]}, {"x": 5}]
    content = records if kind == "table" else {"meta": {}, "results": {str(i): records for i in range(4)}}
    path = tmp_path / "file.json"
    path.write_bytes(json.dumps(content).encode())

    def read(path):
        return [*jsonio.iter_records(path)] if kind == "table" else in_pieces(path)

    read(path)
    path.write_bytes(path.read_bytes().replace(*fault, 1))
    assert len(said(path, read, monkeypatch)) == 1
    path.write_bytes(json.dumps(content).encode()[:-30])
    assert len(said(path, read, monkeypatch)) == 1


def test_a_record_that_is_none_comes_after_what_is_before_it(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    path.write_text('[{"x": 1}, {"x": 2}, {"x": 3}, 4, {"x": 5}]')
    seen = []
    for size in (1, 1 << 18):
        monkeypatch.setattr(jsonio, "PIECE_BYTES", size)
        before = []
        with pytest.raises(DataError, match="list of objects"):
            for piece in jsonio.iter_records(path):
                before += piece
        seen.append(before)
    assert seen[0] == seen[1] == [{"x": 1}, {"x": 2}, {"x": 3}]


def test_a_byte_order_mark_is_no_content(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf[{"x": 1},\r\n{"x": 2}]\r\n')
    assert [record for piece in jsonio.iter_records(path) for record in piece] == [{"x": 1}, {"x": 2}]
    path.write_bytes(b'\xef\xbb\xbf{"results": {"a": [{"x": 1}], "b": []}, "meta": {}}')
    assert in_pieces(path) == {"results": {"a": [{"x": 1}], "b": []}, "meta": {}}
