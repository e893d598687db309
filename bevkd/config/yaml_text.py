"""YAML as plain data, and nothing that YAML can do to a program: what is malformed is an error that names the line.

A key given twice is an error, where plain YAML would keep the second in silence. Aliases are read, but not what a few
lines of them blow up to; neither is a nesting that no configuration has, at which the C parser would run out of stack.
"""

from __future__ import annotations

import re
from typing import Any, cast

import yaml

from bevkd.errors import ConfigError

MOST_CHARACTERS = 4_000_000
MOST_NODES = 200_000  # with what aliases stand for spelt out
DEEPEST = 64
_HARMLESS = 2_000  # levels that the C parser has room for
_LEADING = re.compile(r"^[\s\-?:]*", re.MULTILINE)  # each of these may open a block


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, with the checks of this module.

    The workflow reads every run before it starts: libyaml does in 0.2 s what pure Python does in 2 s.
    """

    def get_single_node(self) -> Any:
        """The document, as a tree of nodes."""
        node = super().get_single_node()
        if node is not None:
            _check_size(node)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping with distinct keys."""
        if isinstance(node, yaml.MappingNode):
            seen: set[Any] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    plain = key.tag in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
                    name = key.value if plain else self.construct_object(key)
                    if name in seen:
                        raise _error(f"{key.value!r} is defined twice", key)
                    seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """What a node stands for: dates that there are not, and numbers of thousands of digits, have a line, too."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            raise _error(str(error).partition(";")[0], node) from error


def _error(problem: str, node: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_size(root: Any) -> None:
    """Depth and size of a document as it is after aliases; what is inside of itself has no end.

    Raises:
        ConstructorError: too much of it.
    """
    sizes: dict[int, int] = {}  # finished nodes: an alias is the node itself once more
    depths: dict[int, int] = {}
    open_nodes: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        key = id(node)
        if done:
            open_nodes.discard(key)
            inner = _children(node)
            sizes[key] = 1 + sum(sizes[id(one)] for one in inner)
            depths[key] = 1 + max((depths[id(one)] for one in inner), default=0)
            if sizes[key] > MOST_NODES:
                raise _error(f"aliases stand for more than {MOST_NODES} values", node)
            if depths[key] > DEEPEST:
                raise _error(f"nested in more than {DEEPEST} levels", node)
        elif key in open_nodes:
            raise _error("an alias stands for what it is part of", node)
        elif key not in sizes:
            open_nodes.add(key)
            waiting.append((node, True))
            waiting += [(one, False) for one in _children(node)]


def _check_nesting(text: str) -> None:
    """Whether the C parser, which is recursive, has room for a text.

    Raises:
        MarkedYAMLError: it has not.
    """
    openers = text.count("[") + text.count("{")
    if openers + max(len(found) for found in _LEADING.findall(text)) <= _HARMLESS:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                None, None, f"nested in more than {DEEPEST} levels", cast("yaml.error.Mark", event.start_mark)
            )


def load_yaml(text: str, where: str) -> Any:
    """Plain data of a text.

    Args:
        text: the YAML.
        where: what says so, for messages.

    Raises:
        ConfigError: no YAML, a key given twice, or more than a configuration can hold; the message names the line.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{where} is no configuration: more than {MOST_CHARACTERS} characters")
    try:
        _check_nesting(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {_in_a_line(error, text)}") from error


def _in_a_line(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        # Text itself has no bytes; the position is in characters, of UTF-8 for the C parser.
        return f"a control character, {error.character:#x}{_line_of(error.position, text)}"
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return f"{', '.join(part for part in (error.context, error.problem) if part)}{place}"


def _line_of(position: int, text: str) -> str:
    before = text.encode("utf-8", errors="replace")[:position]
    return f" in line {before.count(10) + 1}"
