"""Settings that belong to a stage: parsed by whatever is registered under the `kind` that they name."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from bevkd.errors import nearest
from bevkd.names import WANTED
from bevkd.registry import is_known, names, settings

_SHOWN = 100  # characters of a value in a message
NESTED = "nested"  # type of an error that holds those of the settings within


@dataclass(frozen=True)
class Stage:
    """Annotation of a field that holds the settings of one stage.

    Attributes:
        slot: kind in the registry, such as `lidar_encoder`.
        default: the `kind` that is meant where none is named.
        optional: whether a network may be without it.
    """

    slot: str
    default: str
    optional: bool = False

    def parse(self, value: Any) -> Any:
        """Settings from plain data; settings that are parsed already, and None where it may be, stay as they are."""
        if (value is None and self.optional) or is_dataclass(value):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("stage", "settings of a stage are a mapping")
        return parse_settings(settings(self.slot, str(value.get("kind", self.default))), value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        plain = core_schema.plain_serializer_function_ser_schema(to_plain)
        return core_schema.no_info_plain_validator_function(self.parse, serialization=plain)


@dataclass(frozen=True)
class Registered:
    """Annotation of a name that something is registered under.

    Attributes:
        slot: kind in the registry, such as `reader`.
    """

    slot: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if not is_known(self.slot, name):
            known = names(self.slot)
            raise ValueError(f"unknown {self.slot}{nearest(name, known)}; known: {', '.join(known)}")
        return name


@dataclass(frozen=True)
class Part:
    """Annotation of a field whose settings another field decides: plain data until its owner parses them.

    Attributes:
        slot: kind in the registry, such as `loss`.
    """

    slot: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        plain = core_schema.plain_serializer_function_ser_schema(to_plain)
        return core_schema.any_schema(serialization=plain)


def default_stage(slot: str, kind: str) -> Any:
    """Default of a field of a dataclass: the stage's own defaults, looked up when they are first needed."""
    return Field(default_factory=lambda: settings(slot, kind)())


def parse_settings(cls: type, value: dict[str, Any], at: str = "") -> Any:
    """Settings of a known class, inside of those of another, which has them under the key `at`.

    Raises:
        PydanticCustomError: of type `NESTED`, with a line per key at fault.
    """
    try:
        return adapter(cls).validate_python(value)
    except ValidationError as error:
        lines = [_within([at] if at else [], line) for line in error_lines(cls, error)]
        raise PydanticCustomError(NESTED, "{lines}", {"lines": "\n".join(lines)}) from None


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """The pydantic adapter of a type; making one takes milliseconds, and every run parses a dozen."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_plain(config: Any) -> Any:
    """A config dataclass as JSON-like plain data."""
    return None if config is None else adapter(type(config)).dump_python(config, mode="json")


def error_lines(kind: Any, error: ValidationError) -> list[str]:
    """`key.of.setting: what is wrong` for every error; an unknown key is told the nearest known one."""
    lines = []
    for e in error.errors():
        where = [str(part) for part in e["loc"] if part != "dataclass"]
        if e["type"] == NESTED:
            lines += [_within(where, line) for line in e["ctx"]["lines"].splitlines()]
        elif e["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            lines.append(f"{'.'.join(where)}: unknown key{nearest(where[-1], _keys_at(kind, where[:-1]))}")
        else:
            value = e.get("input")
            shown = f", not {_short(value)}" if isinstance(value, str | int | float) else ""
            lines.append(_within(where, f": {_words(e)}{shown}"))
    return lines


def _within(where: list[str], line: str) -> str:
    """A line about settings inside of others; one about all of them begins with a colon."""
    if line.startswith(": "):
        return f"{'.'.join(where)}{line}"
    return ".".join([*where, line])


def _words(e: Any) -> str:
    """What is wrong with a value."""
    if e["type"] == "value_error":
        return str(e["ctx"]["error"])
    if e["type"] == "string_pattern_mismatch":
        return f"wants {WANTED.get(e['ctx']['pattern'], 'text without control characters')}"
    return str(e["msg"])


def _short(value: str | int | float) -> str:
    """A value as it is shown; one of a thousand digits is not."""
    try:
        text = repr(value)
    except ValueError:  # an integer that Python refuses to write
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _keys_at(kind: Any, path: list[str]) -> list[str]:
    """Keys of the dataclass that `path` leads to from another; none where it leads elsewhere."""
    from typing import get_type_hints

    for name in path:
        if not is_dataclass(kind):
            return []
        kind = get_type_hints(kind).get(name)
    return [f.name for f in fields(kind)] if is_dataclass(kind) else []
