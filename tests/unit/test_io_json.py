"""What is written as JSON can be read by every parser, and files of older versions are read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bevkd.errors import DataError
from bevkd.io import json_text, read_json, write_json
from bevkd.report.logs import curve

VALUE = {"a": [1.5, math.nan, (math.inf, "NaN")], "b": {"c": -math.inf, "d": None}, "e": 1, "f": True}
STRICT = {"a": [1.5, None, [None, "NaN"]], "b": {"c": None, "d": None}, "e": 1, "f": True}


def refuse(word: str) -> None:
    raise AssertionError(word)


def test_json_is_strict_and_old_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, VALUE)
    assert json.loads(path.read_text(), parse_constant=refuse) == STRICT
    assert json.loads(json_text(VALUE, indent=1), parse_constant=refuse) == STRICT
    path.write_text(json.dumps(VALUE))
    assert read_json(path)["b"]["c"] == -math.inf


@pytest.mark.parametrize("word", ["null", "NaN"])
def test_a_loss_that_is_not_finite_is_one_in_either_word(tmp_path: Path, word: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1, "losses": {{"total": 1.0}}}}\n{{"step": 2, "losses": {{"total": {word}}}}}\n')
    with pytest.raises(DataError, match="loss is not finite at step 2"):
        curve(path, "total", None)
