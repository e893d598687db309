"""Teacher caches hold what is read: entries, extension, the same bits whatever else is asked for."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_data import GRID, Frames, ToyTeacher, collate, make_batch
from torch import Tensor

from bevkd.config import MethodConfig
from bevkd.data.batch import Batch
from bevkd.distill import SCORE_THRESHOLD, TeacherCache, Wanted, build_cache, method_settings
from bevkd.distill.cache import ENTRIES, MANIFEST, DamagedCacheError
from bevkd.distill.cache_build import all_entries, companies
from bevkd.errors import DataError
from bevkd.models.outputs import BEVOutputs

TOKENS, LABELLED = [f"t{k}" for k in range(1, 7)], np.array([True, False, True, True, False, True])
FRAMES = Frames(TOKENS, LABELLED, [2, 3, 1, 2, 2, 4])
SOME = [(0, 1), (1, 2), (5, 3)]
MORE = [(1, 0), (2, 0), (5, 0), (5, 2)]


class Sociable(ToyTeacher):
    """A teacher whose numbers depend on the place in the batch, as last bits do."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        self.batches.append(len(batch))
        out = super().forward(batch, until)
        place: Tensor = 1 + torch.arange(len(batch)).view(-1, 1, 1, 1) / 64
        for head in out.heads:
            head.heatmap = head.heatmap * place
        return out


def wanted() -> Wanted:
    return method_settings(MethodConfig("dense")).cached()


def build(out: Path, asked: Any, teacher: ToyTeacher | None = None, **options: Any) -> TeacherCache:
    settings = {"teacher_digest": "abc", "collate": collate, "together": 4} | options
    return build_cache(wanted(), teacher or Sociable(), FRAMES, out, asked, **settings)


def rows(cache: TeacherCache, entry: tuple[int, int]) -> dict[str, np.ndarray]:
    token, labelled = TOKENS[entry[0]], bool(LABELLED[entry[0]])
    return cache.reader(wanted(), GRID, SCORE_THRESHOLD).read(token, entry[1], labelled)


def test_companies_are_stretches_of_all_entries() -> None:
    entries = all_entries(FRAMES)
    assert len(entries) == 14
    assert list(companies(entries, entries, 4)) == [
        (entries[k : k + 4], list(range(len(entries[k : k + 4])))) for k in range(0, 14, 4)
    ]
    assert list(companies(entries, [(1, 2), (0, 1), (1, 2)], 4)) == [
        (entries[:4], [1]),
        (entries[4:8], [0]),
    ]
    assert list(companies(entries, SOME, 1)) == [([entry], [0]) for entry in SOME]


def test_only_what_is_asked_for_is_computed_and_stored(tmp_path: Path) -> None:
    teacher = Sociable()
    cache = build(tmp_path / "some", SOME, teacher)
    assert teacher.batches == [4, 4, 2]  # the third stretch of four is not needed
    assert cache.entries.tolist() == [list(entry) for entry in SOME]
    assert cache.missing(all_entries(FRAMES)) == [e for e in all_entries(FRAMES) if e not in SOME]
    with pytest.raises(DataError, match="lacks variant 0"):
        rows(cache, (0, 0))
    alone = Sociable()
    build(tmp_path / "alone", SOME, alone, together=1)
    assert alone.batches == [1, 1, 1]  # nothing else is paid for


def test_an_entry_has_the_same_bits_whatever_else_is_asked_for(tmp_path: Path) -> None:
    whole, some = build(tmp_path / "whole", all_entries(FRAMES)), build(tmp_path / "some", SOME)
    for entry in SOME:
        one, other = rows(whole, entry), rows(some, entry)
        assert one.keys() == other.keys()
        for name, values in one.items():
            assert np.array_equal(values, other[name]), name


def test_an_extended_cache_holds_old_and_new(tmp_path: Path) -> None:
    old = build(tmp_path / "cache", SOME)
    before = {entry: rows(old, entry) for entry in SOME}
    new = build(tmp_path / "cache", [*SOME, *MORE], extend=old)
    assert new.entries.tolist() == [list(entry) for entry in [*SOME, *MORE]]
    assert new.missing([*MORE, *SOME]) == []
    whole = build(tmp_path / "whole", all_entries(FRAMES))
    for entry in [*SOME, *MORE]:
        for name, values in rows(whole, entry).items():
            assert np.array_equal(rows(new, entry)[name], values), name
    for entry, known in before.items():  # who had mapped the old one still reads it
        for name, values in known.items():
            assert np.array_equal(rows(old, entry)[name], values)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_failed_extension_leaves_the_old_one(tmp_path: Path) -> None:
    old, broken = build(tmp_path / "cache", SOME), Sociable()
    with torch.no_grad():
        broken.scale.fill_(torch.nan)
    with pytest.raises(DataError, match="not finite"):
        build(tmp_path / "cache", MORE, broken, extend=old)
    assert TeacherCache.open(tmp_path / "cache").entries.tolist() == [list(entry) for entry in SOME]


def test_another_process_opens_the_files_and_gets_no_copy(tmp_path: Path) -> None:
    cache = build(tmp_path / "cache", all_entries(FRAMES))
    reader = cache.reader(wanted(), GRID, SCORE_THRESHOLD)
    sent = pickle.dumps(reader)
    assert len(sent) < 2000
    again = pickle.loads(sent)
    for name, values in reader.read("t2", 1, False).items():
        assert np.array_equal(again.read("t2", 1, False)[name], values)


def test_only_the_columns_of_a_method_are_read(tmp_path: Path) -> None:
    all_of_it = method_settings(MethodConfig("unidistill"))
    feature = method_settings(MethodConfig("unidistill", {"weights": {"relation": 0, "response": 0}}))
    cache = build_cache(
        all_of_it.cached(), ToyTeacher(), FRAMES, tmp_path / "c", SOME, teacher_digest="", collate=collate
    )
    reader = cache.reader(feature.wanted(), GRID, SCORE_THRESHOLD)
    assert set(reader.read("t1", 1, True)) == {"feature", "boxes"}
    assert len(make_batch(["t1"], [1], [True]).boxes) == len(reader.read("t1", 1, True)["feature"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries, made: entries.__setitem__((0, 1), 300_000_000), "a variant that there cannot be"),
        (lambda entries, made: made.pop("grid"), "does not say what it was made for"),
        (lambda entries, made: made.update(taps=3), "does not say what it was made for"),
    ],
)
def test_a_damaged_description_is_told_and_takes_no_memory(tmp_path: Path, change: Any, message: str) -> None:
    folder = build(tmp_path / "some", SOME).folder
    entries, manifest = np.load(folder / ENTRIES), json.loads((folder / MANIFEST).read_text())
    change(entries, manifest["made_for"])
    np.save(folder / ENTRIES, entries)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DamagedCacheError, match=message):
        TeacherCache.open(folder)
