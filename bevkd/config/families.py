"""What lets a YAML file say many things once: words in braces, families (products of words), and `like`.

    runs:
      widths:
        for: {model: [pillar, voxel], size: {half: {factor: 0.5}, quarter: {factor: 0.25}}}
        each:
          "{model}_{size}": {model: "lidar_{model}_{size}", doc: "{size} the channels"}

A family is a mapping of `for` and `each`: its entries come once for every combination of words, the last axis fastest.
An axis is a list of words, or a mapping from words to further words that go with them. A string that is nothing but one
word in braces becomes that word's value, whatever its type. This is substitution, not code: there is no arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

from bevkd.config.plain import check_keys, merge
from bevkd.errors import ConfigError, nearest

Words = Mapping[str, Any]
_WORD = re.compile(r"\{(\w+)\}")


def fill(content: Any, words: Words, where: str = "") -> Any:
    """Content with the words in braces replaced, in keys too. With `where`, every word must be known.

    Raises:
        ConfigError: a word is not known; the message begins with `where`.
    """
    if isinstance(content, dict):
        return {fill(key, words, where): fill(value, words, where) for key, value in content.items()}
    if isinstance(content, list):
        return [fill(value, words, where) for value in content]
    if not isinstance(content, str):
        return content

    def value(name: str) -> Any:
        if name in words:
            return words[name]
        if where:
            raise ConfigError(f"{where}: nothing says what {{{name}}} is{nearest(name, words)}")
        return f"{{{name}}}"

    whole = _WORD.fullmatch(content)
    return value(whole[1]) if whole else _WORD.sub(lambda found: str(value(found[1])), content)


def _combinations(axes: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(axes, dict):
        raise ConfigError(f"{where}: `for` wants a mapping from axes to their words")
    choices = []
    for axis, values in axes.items():
        pairs = list(values.items()) if isinstance(values, dict) else [(value, {}) for value in values]
        for word in [axis, *(word for word, _ in pairs), *(key for _, more in pairs for key in more or {})]:
            if isinstance(word, bool):
                raise ConfigError(f"{where}: for: YAML reads on, off, yes and no as {word}: put the word into quotes")
        choices.append([{axis: word, **(more or {})} for word, more in pairs])
    return [{key: value for part in parts for key, value in part.items()} for parts in product(*choices)]


def is_family(content: Any) -> bool:
    """Whether something is a family rather than an entry."""
    return isinstance(content, dict) and "each" in content


def _spelt_out(content: Any, written: Any, where: str) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Name, content and place of every entry; `written` is the same mapping before words were replaced."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: wants a mapping from names to entries")
    for (name, entry), key in zip(content.items(), written, strict=False):
        if not is_family(entry):
            yield name, entry, (str(key),)
            continue
        check_keys(entry, ("for", "each"), f"{where}: {name}")
        for words in _combinations(entry["for"], f"{where}: {name}"):
            inner = _spelt_out(fill(entry["each"], words), written[key]["each"], f"{where}: {name}")
            yield from ((found, value, (str(key), "each", *at)) for found, value, at in inner)


def entries(content: Any, where: str) -> dict[str, Any]:
    """The entries of a mapping, families spelt out.

    Raises:
        ConfigError: no mapping, a family with other keys, or two entries of one name.
    """
    out: dict[str, Any] = {}
    for name, entry, _ in _spelt_out(content, content, where):
        if name in out:
            raise ConfigError(f"{where}: {name!r} is defined twice")
        out[name] = entry
    return out


def places(content: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Keys that lead to each entry of `entries` as it stands in the file."""
    return {name: at for name, _, at in _spelt_out(content, content, where)}


def items(content: list[Any], where: str) -> list[Any]:
    """The entries of a list, families spelt out."""
    out = []
    for entry in content:
        if is_family(entry):
            check_keys(entry, ("for", "each"), where)
            for words in _combinations(entry["for"], where):
                out += items(fill(entry["each"], words), where)
        else:
            out.append(entry)
    return out


def likes(entry: Mapping[str, Any]) -> list[str]:
    """Names of what an entry is like."""
    found = entry.get("like", [])
    return [found] if isinstance(found, str) else list(found)


def inherited(name: str, known: Callable[[str], dict[str, Any]], where: str, above: tuple[str, ...] = ()) -> Any:
    """An entry merged over those that it is `like`, in their order; lists and scalars of the later one replace.

    Args:
        name: the entry.
        known: finds an entry by name.

    Raises:
        ConfigError: an entry is like itself.
    """
    if name in above:
        raise ConfigError(f"{where}: {' is like '.join((*above, name))}")
    entry = dict(known(name))
    out: dict[str, Any] = {}
    for other in likes(entry):
        out = merge(out, inherited(other, known, where, (*above, name)))
    return merge(out, {key: value for key, value in entry.items() if key != "like"})
