"""Damaged files of every format get a right answer or a typed error; a few fixed cases of what `make fuzz` tries."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_case import Case, cases, damaged, outcome
from fuzz_mutations import Edit, mutated
from fuzz_targets import TARGETS, Target, seed
from hypothesis import HealthCheck, given, settings


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_good_files_are_read_and_damaged_ones_are_no_surprise(target: Target, tmp_path: Path) -> None:
    damaged(target, Case(target.name, 0, ()), tmp_path / "good")
    target.read(tmp_path / "good")  # a validator that refuses good data is worse than none

    @settings(
        max_examples=target.most, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases(target))
    def run(case: Case) -> None:
        outcome(target, case)

    run()


def test_every_kind_of_edit_changes_a_file() -> None:
    for target in TARGETS:
        files = sorted(path for pattern in target.files for path in seed(target).glob(pattern) if path.is_file())
        for kind in set(target.kinds):
            changed = 0
            for value in range(12):
                content = files[value % len(files)].read_bytes()
                changed += mutated(content, files[value % len(files)].name, (Edit(kind, (value, 3), value),)) != content
            assert changed > 0, (target.name, kind)
