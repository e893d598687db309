"""Which settings make a run that run, and that a default is not changed without the runs that rely on it."""

from __future__ import annotations

import json
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.dataclasses import dataclass as pydantic_dataclass

from bevkd import registry
from bevkd.config import (
    ModelConfig,
    RunConfig,
    compose,
    identity,
    identity_digest,
    load_rows,
    load_run,
    stored_run,
    to_plain,
)
from bevkd.config.identity import field_facts
from bevkd.models.lidar.pillar_settings import PillarSettings
from bevkd.report import tables
from bevkd.report.misfits import table_file
from bevkd.report.spec import load_tables

GOLDEN = Path(__file__).parents[1] / "golden" / "defaults.json"


def settings_classes() -> dict[str, type]:
    """Every settings class by a name that says where it stands: those of `RunConfig`, and those of all kinds."""
    found: dict[str, type] = {}

    def add(name: str, cls: type) -> None:
        found[name] = cls
        for field_name, default, _ in field_facts(cls):
            stage = hasattr(default, "kind") and not isinstance(default, ModelConfig)
            if is_dataclass(default) and not isinstance(default, type) and not stage:
                add(f"{name}.{field_name}", type(default))

    add("run", RunConfig)
    for name in ("row", "model", "data", "train"):
        add(name, type(getattr(load_run("unidistill_p1", "sim", 0), name)))
    for kind in registry._PACKAGES:
        owner = registry._ATTRIBUTE.get(kind, (kind, ""))[0]
        for name in registry.names(owner):
            cls = registry.settings(kind, name)
            if cls.__module__.startswith("bevkd.") and cls is not registry.NoSettings:  # not the stubs of other tests
                add(f"{kind}:{name}", cls)
    for kind in ("tap", "cellset"):  # they are their own settings
        for name in registry.names(kind):
            cls = registry.lookup(kind, name)
            if cls.__module__.startswith("bevkd."):  # not one of another test
                found[f"{kind}:{name}"] = cls
    return found


def defaults_of(cls: type) -> dict[str, Any]:
    """Defaults of the fields of a class that hold no settings of their own, as JSON would have them."""
    out: dict[str, Any] = {"edition": getattr(cls, "edition", 1)}
    for name, default, _ in field_facts(cls):
        if not is_dataclass(default) and isinstance(default, str | int | float | bool | tuple | dict | None):
            out[name] = json.loads(json.dumps(default))
    return out


def test_no_default_changes_without_its_edition() -> None:
    golden = json.loads(GOLDEN.read_text())
    now = {name: defaults_of(cls) for name, cls in settings_classes().items()}
    for name in sorted(golden.keys() | now.keys()):
        known, here = set(golden.get(name, {})), set(now.get(name, {}))
        assert known <= here, f"{name}: {known - here} went; upgrade.py must still read files that have them"
        assert here <= known, f"{name}: {here - known} is new: write the golden file anew, so that it is watched"
    for name, known in golden.items():
        for key, value in known.items():
            assert now[name][key] == value, (
                f"{name}.{key}: the default {value!r} became {now[name][key]!r}. Runs that rely on it are others now:"
                f" count up `edition` of the class, and write the golden file anew"
            )


def test_a_new_setting_is_not_a_new_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {scale: identity_digest(load_run("unidistill_p4", scale, 0)) for scale in ("smoke", "sim", "paper")}
    lidar = identity_digest(load_run("unidistill_p1", "sim", 0))

    @pydantic_dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
    class Grown(PillarSettings):
        inert: int = 3

    monkeypatch.setitem(registry._SETTINGS["lidar_encoder"], "pillar", Grown)
    compose._as_configured.cache_clear()  # runs are resolved once per process
    try:
        run = load_run("unidistill_p1", "sim", 0)
        assert run.model.lidar.inert == 3
        assert identity_digest(run) == lidar
        assert {scale: identity_digest(load_run("unidistill_p4", scale, 0)) for scale in before} == before
        assert identity_digest(load_run("unidistill_p1", "sim", 0, ["model.lidar.inert=4"])) != lidar
    finally:
        compose._as_configured.cache_clear()


def test_a_higher_edition_is_a_new_run_of_those_that_read_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    lidar, camera = (identity_digest(load_run(run, "sim", 0)) for run in ("lidar_base", "camera_base"))
    monkeypatch.setattr(PillarSettings, "edition", 2, raising=False)
    assert identity_digest(load_run("lidar_base", "sim", 0)) != lidar
    assert identity_digest(load_run("camera_base", "sim", 0)) == camera


@pytest.mark.parametrize(
    ("run", "setting", "counts"),
    [
        ("lidar_base", "data.image_mean=[0.0, 0.0, 0.0]", False),
        ("lidar_base", "data.augment.image.flip=0.5", False),
        ("lidar_base", "data.radar_sweeps=1", False),
        ("lidar_base", "data.lidar_sweeps=1", True),
        ("unidistill_p3", "data.augment.image.flip=0.5", True),  # its teacher looks at images
        ("unidistill_l_to_l", "data.augment.image.flip=0.5", False),
        ("camera_base", "data.lidar_sweeps=1", False),
        ("camera_depth", "data.lidar_sweep_stride=1", True),  # its depths are those of LiDAR points
        ("camera_base", "data.augment.image.flip=0.5", True),
        ("camera_base", "train.workers=2", False),
        ("camera_base", "train.log_every=7", False),
        ("camera_base", "data.memory_cache=false", False),
        ("camera_base", "train.lr=0.1", True),
        ("camera_base", "model.camera.view.depth_max=40.0", True),
    ],
)
def test_only_what_is_read_counts(run: str, setting: str, counts: bool) -> None:
    same = identity_digest(load_run(run, "sim", 0)) == identity_digest(load_run(run, "sim", 0, [setting]))
    assert same is not counts


def test_names_and_prose_do_not_count() -> None:
    run = load_run("camera_base", "sim", 0)
    row = replace(run.row, id="other", doc="words", seeds=(0, 7), target="extended")
    assert identity(replace(run, run="other", row=row)) == identity(run)
    assert identity(replace(run, seed=1)) != identity(run)
    assert identity(replace(run, row=replace(row, labelled_subset=1))) != identity(run)
    assert identity(replace(run, row=replace(row, teacher_mode="live", teacher_batch=1))) == identity(run), "no teacher"


def test_the_factor_of_a_method_counts_where_it_is_not_one() -> None:
    run = load_run("unidistill_p4", "sim", 0)

    def of(**changed: Any) -> dict[str, Any]:
        return identity(replace(run, row=replace(run.row, method=replace(run.row.method, **changed))))

    assert of(factor=1.0, factor_from="unidistill_p2") == identity(run)
    assert of(factor=0.3) != identity(run)
    assert of(factor=0.3, factor_from="unidistill_p2") == of(factor=0.3)


def test_options_that_are_default_do_not_count() -> None:
    run = load_run("unidistill_p4", "sim", 0)
    method = replace(run.row.method, options={"legacy_transpose": False, "adapter": {"kernel": 1}})
    assert identity(replace(run, row=replace(run.row, method=method))) == identity(run)
    other = replace(method, options={"legacy_transpose": True})
    assert identity(replace(run, row=replace(run.row, method=other))) != identity(run)


@pytest.mark.parametrize("scale", ["smoke", "sim", "paper"])
def test_stored_settings_come_back(scale: str) -> None:
    for run, row in load_rows().items():
        config = load_run(run, scale, row.seeds[0])
        plain = json.loads(json.dumps(to_plain(config)))
        assert stored_run(plain, run) == config, run


@pytest.mark.committed_results
def test_committed_configurations_are_those_of_today() -> None:
    results = Path(__file__).parents[2] / "results"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = sorted((results / "configs").glob("*.yaml"))
    rows = load_rows()
    there = [spec for name, spec in load_tables("sim").items() if table_file(results, name).exists()]
    assert {spec.name for spec in there} >= {name for name, spec in load_tables("sim").items() if spec.target == "all"}
    wanted = {run for spec in there if spec.target != "tuning" for run, _ in spec.needs(rows)}
    for spec in (one for one in there if one.target == "tuning"):  # such a table names the trials that it lacks
        wanted |= {
            run for row in tables.read(spec, table_file(results, spec.name), rows).rows for run in row.run.split()
        }
    assert wanted <= {path.stem for path in files}
    for path in files:
        stored = stored_run(yaml.load(path.read_text(), Loader=loader), str(path))
        assert identity(stored) == identity(load_run(path.stem, "sim", stored.seed)), path.name


if __name__ == "__main__":  # after a default was changed on purpose, or settings were added
    content = {name: defaults_of(cls) for name, cls in settings_classes().items()}
    GOLDEN.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
