"""Names of settings as they are typed: which there are, and which one a typo meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def setting_names(plain: Any, at: str = "") -> Iterator[str]:
    """`train.lr` and the like, for every setting within plain data, groups (`train`) included."""
    if isinstance(plain, dict):
        for key, value in plain.items():
            name = f"{at}.{key}" if at else str(key)
            yield name
            yield from setting_names(value, name)


def nearest_setting(name: str, known: Iterable[str]) -> str:
    """' (did you mean "train.lr"?)' for the setting that a name most likely meant, or ''.

    The last word tells most: `lr` and `trian.lr` mean `train.lr`, whatever stands in front.
    """
    names = list(known)
    last = {one: one.rpartition(".")[2] for one in names}
    word = name.rpartition(".")[2]
    same = [one for one in names if last[one] == word]
    close = difflib.get_close_matches(word, list(last.values()), n=3, cutoff=0.75)
    alike = [one for one in names if last[one] in close]
    for among in (same, difflib.get_close_matches(name, names, n=3), alike):
        if among:
            best = max(among, key=lambda one: (_likeness(one, name), -len(one)))
            return f" (did you mean {best!r}?)"
    return ""


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def override_advice(problem: str, overrides: Sequence[str], plain: Any) -> str:
    """What to add to a message about settings that overrides may have caused; "" where they did not.

    Args:
        problem: the message about all settings.
        overrides: `key=value` of the command line.
        plain: the same run without them.
    """
    names = list(setting_names(plain))
    advice = []
    for text in overrides:
        key = text.partition("=")[0].strip()
        parts = key.split(".")
        above = [".".join(parts[: n + 1]) for n in range(len(parts))]
        if key not in names and any(f"{one}: unknown key" in problem for one in above):
            advice.append(f"--set {text}: there is no setting {key!r}{nearest_setting(key, names)}")
        elif key in names and f" {key}: " in problem:
            within = [name for name in names if name.startswith(f"{key}.") and "." not in name[len(key) + 1 :]]
            if within:
                advice.append(f"{key} is a group of settings: {', '.join(within)}")
            else:
                advice.append(f"{key} is {_value(plain, parts)!r} without --set")
    return "".join(f"; {one}" for one in advice)


def _value(plain: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        plain = plain[key]
    return plain
