"""JSON schemas of the YAML files, generated from the dataclasses that read them.

usage: python workflow/schemas/generate.py [folder]
"""

from __future__ import annotations

import sys
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from bevkd.config import DataConfig, ModelConfig, RowConfig, TrainConfig
from bevkd.config.scale import Kind, Substitutes
from bevkd.config.workflow import WorkflowConfig
from bevkd.io import write_json
from bevkd.report.spec import ClaimConfig, FigureConfig, TableConfig

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Settings:
    """What datasets, models, scales and `set` may change of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True, config=_STRICT)
class Rule:
    """Settings of the rows that match, see `bevkd.config.scale`."""

    set: Settings = field(default_factory=Settings)
    teacher_mode: Literal["cached", "live"] | None = None
    runs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class Scale:
    """config/scales/*.yaml."""

    common: Settings = field(default_factory=Settings)
    models: dict[str, Settings] = field(default_factory=dict)
    datasets: dict[str, Settings] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    instead: dict[Kind, Substitutes] = field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class Claims:
    """config/claims.yaml."""

    claims: tuple[ClaimConfig, ...]


Figure = Annotated[FigureConfig, Field(discriminator="kind")]


def _schema(kind: Any, title: str) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema()
    _drop_defaults(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _drop_defaults(node: Any) -> None:
    """Defaults live in the dataclasses alone: a YAML file holds differences, and validation must not fill it up."""
    if isinstance(node, dict):
        if "type" in node or "$ref" in node or "anyOf" in node or "enum" in node:
            node.pop("default", None)
        for value in node.values():
            _drop_defaults(value)
    elif isinstance(node, list):
        for value in node:
            _drop_defaults(value)


def _experiments() -> dict[str, Any]:
    """A file of rows: `defaults` and each row are partial, only the two merged must be whole (`load_rows` checks)."""
    row = _schema(RowConfig, "row")
    definitions = row.pop("$defs", {}) | _schema(Settings, "settings").pop("$defs", {})
    settings = _schema(Settings, "settings")
    settings.pop("$defs", None)
    settings.pop("$schema")
    for key in ("$schema", "required"):
        row.pop(key, None)
    row["properties"]["set"] = settings
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {**definitions, "row": row},
        "title": "config/experiments/*.yaml",
        "type": "object",
        "additionalProperties": False,
        "required": ["runs"],
        "properties": {
            "defaults": {"$ref": "#/$defs/row"},
            "runs": {"type": "array", "items": {"$ref": "#/$defs/row", "required": ["id"]}},
        },
    }


def schemas() -> dict[str, dict[str, Any]]:
    """All schemas by file stem."""
    return {
        "config": _schema(WorkflowConfig, "config/config.yaml"),
        "experiments": _experiments(),
        "models": _schema(Settings, "config/models/*.yaml"),
        "datasets": _schema(Settings, "config/datasets/*.yaml"),
        "scales": _schema(Scale, "config/scales/*.yaml"),
        "tables": _schema(TableConfig, "config/tables/*.yaml"),
        "figures": _schema(Figure, "config/figures/*.yaml"),
        "claims": _schema(Claims, "config/claims.yaml"),
    }


def main(folder: Path) -> None:
    """Write every schema as `<stem>.schema.json`."""
    for stem, schema in schemas().items():
        write_json(folder / f"{stem}.schema.json", schema, indent=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
