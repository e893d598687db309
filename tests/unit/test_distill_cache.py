"""Teacher caches hold what is read: entries, extension, the same bits whatever else is asked for."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from collections.abc import Iterable
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
from bevkd.distill.cache_build import all_entries, companies
from bevkd.distill.cache_part import ENTRIES, MANIFEST, CachePart, DamagedCacheError
from bevkd.distill.tap import together
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
        out.features = {n: m * place if m.ndim == 4 and len(m) == len(batch) else m for n, m in out.features.items()}
        for head in out.heads if out.head_output is not None else ():
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


def entries_of(cache: TeacherCache, column: str) -> list[tuple[int, int]]:
    return sorted((i, v) for part in cache.of(column) for i, v in part.entries.tolist())


def test_only_what_is_asked_for_is_computed_and_stored(tmp_path: Path) -> None:
    teacher = Sociable()
    cache = build(tmp_path / "some", SOME, teacher)
    assert teacher.batches == [4, 4, 2]  # the third stretch of four is not needed
    (part,) = cache.parts
    assert part.entries.tolist() == [list(entry) for entry in SOME]
    assert part.columns == set(wanted().columns)
    rest = [entry for entry in all_entries(FRAMES) if entry not in SOME]
    every = {column: all_entries(FRAMES) for column in wanted().columns}
    assert cache.missing(every) == dict.fromkeys(wanted().columns, rest)
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
    before, files = {entry: rows(old, entry) for entry in SOME}, files_of(old.folder)
    new = build(tmp_path / "cache", [*SOME, *MORE], extend=old)
    for column in wanted().columns:
        assert entries_of(new, column) == sorted([*SOME, *MORE])
    assert new.missing({column: [*MORE, *SOME] for column in wanted().columns}) == {}
    assert files_of(new.folder).items() > files.items(), "what was there is not touched"
    whole = build(tmp_path / "whole", all_entries(FRAMES))
    for entry in [*SOME, *MORE]:
        for name, values in rows(whole, entry).items():
            assert np.array_equal(rows(new, entry)[name], values), name
    for entry, known in before.items():  # who had mapped the old one still reads it
        for name, values in known.items():
            assert np.array_equal(rows(old, entry)[name], values)
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")] == []


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


# Rows of one audience: what each taps, and the samples that it meets.
ROWS: dict[str, tuple[MethodConfig, list[tuple[int, int]]]] = {
    "dense": (MethodConfig("dense"), SOME),
    "strict": (MethodConfig("dense", {"threshold": 0.5}), [*SOME, *MORE]),
    "unidistill": (MethodConfig("unidistill"), [*SOME, *MORE]),
    "feature alone": (MethodConfig("unidistill", {"weights": {"relation": 0, "response": 0}}), MORE),
    "distillbev": (MethodConfig("distillbev"), [(0, 1), (2, 0), (5, 0)]),
    "maps": (MethodConfig("imitation", {"features": ["high", "low"]}), [(1, 2), (3, 1)]),
}


def of(name: str) -> Wanted:
    return method_settings(ROWS[name][0]).cached()


def asked_by(names: Iterable[str]) -> dict[str, set[tuple[int, int]]]:
    found: dict[str, set[tuple[int, int]]] = {}
    for name in names:
        for column in of(name).columns:
            found.setdefault(column, set()).update(ROWS[name][1])
    return found


def pass_for(names: Iterable[str], out: Path, teacher: ToyTeacher | None = None, **options: Any) -> TeacherCache:
    """What the workflow does for the rows of a paper and tier."""
    settings = {"teacher_digest": "abc", "collate": collate, "together": 4} | options
    names = list(names)
    every = together(of(name) for name in names)
    return build_cache(every, teacher or Sociable(), FRAMES, out, asked_by(names), **settings)


def targets(cache: TeacherCache, name: str) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    reader = cache.reader(method_settings(ROWS[name][0]).wanted(), GRID, SCORE_THRESHOLD)
    return {(i, v): reader.read(TOKENS[i], v, bool(LABELLED[i])) for i, v in ROWS[name][1]}


def same_targets(one: TeacherCache, other: TeacherCache, name: str) -> None:
    found, expected = targets(one, name), targets(other, name)
    for entry, values in expected.items():
        assert found[entry].keys() == values.keys()
        for target, array in values.items():
            assert found[entry][target].dtype == array.dtype
            assert found[entry][target].tobytes() == array.tobytes(), (name, entry, target)


def bytes_of(cache: TeacherCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*.npy"))


def test_one_pass_for_many_rows_gives_each_the_bits_of_a_cache_of_its_own(tmp_path: Path) -> None:
    one, apart = Sociable(), Sociable()
    united = pass_for(ROWS, tmp_path / "united", one)
    own = {name: pass_for([name], tmp_path / name, apart) for name in ROWS}
    for name, cache in own.items():
        same_targets(united, cache, name)
    assert one.batches == [4, 4, 4, 2], "once at every stretch of which a row meets a sample"
    assert len(apart.batches) > 3 * len(one.batches)
    # No column has an entry that none of its rows meets, nor any entry twice.
    for column, entries in asked_by(ROWS).items():
        assert entries_of(united, column) == sorted(entries), column
    assert bytes_of(united) < sum(map(bytes_of, own.values()))


def test_a_row_with_another_tap_adds_it_and_touches_nothing(tmp_path: Path) -> None:
    first = pass_for(["dense", "unidistill"], tmp_path / "cache")
    files, reader = files_of(first.folder), first.reader(of("unidistill"), GRID, SCORE_THRESHOLD)
    teacher = Sociable()
    later = pass_for(["distillbev", "feature alone"], tmp_path / "cache", teacher, extend=first)
    assert files_of(later.folder).items() > files.items()
    assert len(teacher.batches) == 3, "at the stretches with samples that have a new tap"
    reader.read("t1", 1, True)  # whoever reads it goes on
    nobody = Sociable()
    assert pass_for(["unidistill", "distillbev"], tmp_path / "cache", nobody, extend=later).parts == later.parts
    assert nobody.batches == []
    for name in ("dense", "unidistill", "distillbev", "feature alone"):
        same_targets(TeacherCache.open(tmp_path / "cache"), pass_for([name], tmp_path / name), name)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("place", range(4))
def test_a_crash_while_parts_appear_leaves_whole_ones_and_the_next_pass_ends_the_same(
    tmp_path: Path, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {name: content for name, (content, _) in files_of(pass_for(ROWS, tmp_path / "whole").folder).items()}
    rename, count = os.replace, itertools.count()

    def replace(source: Any, target: Any) -> None:
        if Path(target).name.startswith("part_") and next(count) == place:
            raise Killed
        rename(source, target)

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(Killed):
        pass_for(ROWS, tmp_path / "cache")
    monkeypatch.setattr("os.replace", rename)
    there = [CachePart.open(path) for path in sorted((tmp_path / "cache").glob("part_*"))]
    assert len(there) == place
    for part in there:
        part.verify()
    left, teacher = TeacherCache(tmp_path / "cache", there), Sociable()
    done = pass_for(ROWS, tmp_path / "cache", teacher, extend=left)
    assert {name: content for name, (content, _) in files_of(done.folder).items()} == whole


def test_parts_that_are_no_good_are_gone_after_the_next_pass(tmp_path: Path) -> None:
    build(tmp_path / "cache", SOME, teacher_digest="another")
    cache = build(tmp_path / "cache", SOME)
    assert TeacherCache.open(tmp_path / "cache", "abc").missing(dict.fromkeys(wanted().columns, SOME)) == {}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [part.folder.name for part in cache.parts]


def test_a_failed_extension_leaves_the_old_one(tmp_path: Path) -> None:
    old, broken = build(tmp_path / "cache", SOME), Sociable()
    files = files_of(old.folder)
    with torch.no_grad():
        broken.scale.fill_(torch.nan)
    with pytest.raises(DataError, match="not finite"):
        build(tmp_path / "cache", MORE, broken, extend=old)
    assert files_of(old.folder) == files


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
    folder = build(tmp_path / "some", SOME).parts[0].folder
    entries, manifest = np.load(folder / ENTRIES), json.loads((folder / MANIFEST).read_text())
    change(entries, manifest["made_for"])
    np.save(folder / ENTRIES, entries)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DamagedCacheError, match=message):
        TeacherCache.open(folder.parent)
