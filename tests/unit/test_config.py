from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bevkd.config import config_dir, load_rows, load_run, merge, parse, to_plain
from bevkd.config.identity import differences, identity
from bevkd.config.load import parse_override
from bevkd.config.protocols import trained_starts
from bevkd.config.schema import RunConfig, TrainConfig
from bevkd.errors import ConfigError
from bevkd.report.spec import load_claims, load_figures, load_tables, pool

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("baseline_tuning", "simdistill_schedule")  # tables that show what a changed setting gives


@pytest.mark.parametrize("scale", ["smoke", "sim", "paper"])
def test_every_row_resolves_at_every_scale(scale: str) -> None:
    for run, row in load_rows().items():
        config = load_run(run, scale, row.seeds[0])
        assert config.row.id == run
        assert config.train.steps > 0 or config.train.epochs > 0
        assert parse(RunConfig, to_plain(config), "round trip") == config


def test_sources_override_in_order() -> None:
    base = load_run("camera_base", "sim", 0)
    reweighted = load_run("scratch_reweighted", "sim", 0)
    assert reweighted.model.loss.heatmap_weight == 2 * base.model.loss.heatmap_weight
    assert load_run("camera_base", "sim", 0, ["train.steps=7"]).train.steps == 7


def test_reweighting_controls_double_the_tuned_weight() -> None:
    for sensor, base in (("camera", "camera_further"), ("lidar", "lidar_further"), ("scratch", "camera_base")):
        a, b = load_run(f"{sensor}_reweighted", "sim", 0).model, load_run(base, "sim", 0).model
        assert a.loss.heatmap_weight == 2 * b.loss.heatmap_weight


def test_a_grid_that_cannot_be_cut_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"model\.grid"):
        load_run("camera_base", "sim", 0, ["model.grid.cell=0.7"]).model.grid.build()


def test_a_misspelt_model_of_a_scale_is_refused(config_copy: Path) -> None:
    path = config_copy / "scales" / "sim.yaml"
    path.write_text(path.read_text().replace("\n  camera: {train", "\n  camra: {train"))
    with pytest.raises(ConfigError, match=r"unknown name 'camra'.*did you mean 'camera'"):
        load_run("camera_base", "sim", 0)


def test_the_paper_scale_is_the_real_data_set_with_the_published_recipe() -> None:
    camera, lidar = load_run("camera_base", "paper", 0), load_run("lidar_base", "paper", 0)
    assert (camera.train.lr, lidar.train.lr) == (2e-4, 1e-3)  # UniDistill spec, section 7
    for run in (camera, lidar):
        assert (run.data.root, run.data.version, run.data.cbgs) == ("data/nuscenes", "v1.0-trainval", True)
        assert run.data.max_range is None
        assert (run.model.loss.auto_scaling, run.model.loss.iou_weight) == (True, 5.0)


@pytest.mark.parametrize("table", SETTINGS)
def test_trials_change_one_setting_of_what_they_are_compared_with(table: str) -> None:
    """Starts and pasted objects are settings, too: a trial that lacks them tells nothing of the one that it changes."""
    for row in load_tables()[table].rows:
        if row.against is not None and row.run != row.against:
            trial, usual = (
                identity(load_run(str(run), "sim", 3 if "simdistill" in str(run) else 0))
                for run in (row.run, row.against)
            )
            changed = {found.partition(":")[0] for found in differences(trial, usual)}
            assert len(changed - {"train.epochs"}) == 1, row.run  # a length is said in steps and in epochs


@pytest.mark.parametrize("scale", ["sim", "paper"])
def test_paired_comparisons_share_model_schedule_and_labels(scale: str) -> None:
    pairs = set()
    for claim in load_claims(scale=scale).values():
        others = [claim.than, *claim.controls]
        pairs |= {(a, b) for other in others for a, b in zip(pool(claim.better), pool(other), strict=True)}
    for table in (one for one in load_tables(scale=scale).values() if one.takes_differences):
        if table.name in SETTINGS:  # a setting that is changed is what they show
            continue
        for row in table.rows:
            if row.against:
                pairs |= set(zip(pool(row.run), pool(row.against), strict=True))
    assert len(pairs) > 40
    for a, b in pairs:
        first, second = load_run(a, scale, 0), load_run(b, scale, 0)
        if b in {first.row.teacher, *(init.run for init in first.row.inits)}:  # what gives to what takes
            continue
        for name in ("steps", "epochs", "batch_size", "lr", "optimizer", "schedule"):
            assert getattr(first.train, name) == getattr(second.train, name), (a, b, name)
        if not (a.startswith("simdistill") and b in ("camera_base", "simdistill_c")):  # the network is what is compared
            assert first.row.model == second.row.model, (a, b)
        assert first.row.labelled_subset == second.row.labelled_subset, (a, b)
        if "fresh" not in a + b:  # whose starting weights are what is compared
            assert trained_starts(first.row) == trained_starts(second.row), (a, b)
        changed = {"velocity_weight": 0.0}  # by the tuning of baselines
        if "reweighted" in a + b:  # a doubled loss knows no auto-scaling
            changed |= {"heatmap_weight": 0.0, "auto_scaling": False}
        if "tune" not in a + b:
            changed = {key: value for key, value in changed.items() if hasattr(first.model.loss, key)}
            assert replace(first.model.loss, **changed) == replace(second.model.loss, **changed), (a, b)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=7", "stepz"),
        ("train.steps=many", "steps"),
        ("model.grid.reach=[1]", "reach"),
        ("nothing", "key=value"),
        ("train.lr: [", "key=value"),
    ],
)
def test_bad_overrides_name_the_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_run("camera_base", "sim", 0, [override])


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match="camera_base"):
        load_run("camera_bose", "sim", 0)
    with pytest.raises(ConfigError, match="sim"):
        load_run("camera_base", "simm", 0)


def _config_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: dict[str, Any]) -> None:
    (tmp_path / "papers" / "x").mkdir(parents=True)
    (tmp_path / "papers" / "x" / "runs.yaml").write_text(yaml.safe_dump({"runs": runs}))
    monkeypatch.setenv("BEVKD_CONFIG", str(tmp_path))


ROW = {"dataset": "nuscenes_sim", "model": "camera"}


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"a": {**ROW, "teecher": "b"}}, r"x/runs\.yaml: run 'a'.*'teecher' .*'teacher'"),
        ({"a": {**ROW, "seeds": "one"}}, r"x/runs\.yaml: run 'a': seeds: .*'one'"),
        ({"a": {**ROW, "target": "preview"}}, r"run 'a': target: .*'preview'"),
        ({"a": {**ROW, "teacher": "b", "method": {"kind": "dense"}}}, "run 'a': unknown teacher run 'b'"),
        ({"a": ROW, "b": {**ROW, "teacher": "a"}}, "run 'b': a teacher needs a method"),
        ({"a": ROW, "b": {**ROW, "teacher": "a", "teacher_seed": 9, "method": {"kind": "dense"}}}, "has no seed 9"),
        ({"a": {**ROW, "method": {"kind": "dense", "factor": 0}}}, "run 'a': method.factor: .*greater than 0"),
        (
            {"abc": ROW, "b": {**ROW, "teacher": "abc", "method": {"kind": "dense", "factor_from": "abd"}}},
            "run 'b': unknown method.factor_from run 'abd' .did you mean 'abc'",
        ),
        ({"a": ROW, "f": {"for": {"x": ["a"]}, "each": {"{x}": ROW}}}, "'a' is defined twice"),
    ],
)
def test_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: dict[str, Any], message: str) -> None:
    _config_with(tmp_path, monkeypatch, runs)
    with pytest.raises(ConfigError, match=message):
        load_rows()


def test_a_key_given_twice_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _config_with(tmp_path, monkeypatch, {})
    (tmp_path / "papers" / "x" / "runs.yaml").write_text(
        "runs:\n  a: {model: m, dataset: d}\n  a: {model: n, dataset: d}\n"
    )
    with pytest.raises(ConfigError, match=r"x/runs\.yaml.*'a' is defined twice"):
        load_rows()


def test_merge_and_override_parsing() -> None:
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert parse_override("a.b=[1, 2]") == {"a": {"b": [1, 2]}}
    assert TrainConfig().grad_clip == 0.0  # no paper's: recipes say what they want
    assert load_run("camera_base", "paper", 0).train.grad_clip == 0.1  # UniDistill spec, section 7


def test_yaml_is_plain_data() -> None:
    for path in config_dir().rglob("*.yaml"):
        assert "!!python" not in path.read_text(), path


def test_environment_yml_installs_the_project_under_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    rattler = pytest.importorskip("rattler")
    pip = environment["dependencies"][-1]["pip"]
    assert pip == ["-c constraints.txt", "-e ."]  # so that the two files cannot drift apart
    for spec in environment["dependencies"][:-1]:
        rattler.MatchSpec(spec)
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in ("#", "")]
    from packaging.requirements import Requirement

    pinned = {Requirement(line).name.lower(): Requirement(line).specifier for line in pins}
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        need = Requirement(line)
        assert need.name.lower() in pinned, f"{need.name} has no pin in constraints.txt"
        version = next(iter(pinned[need.name.lower()])).version
        assert need.specifier.contains(version), f"the pin of {need.name} breaks pyproject.toml"


def test_published_settings_of_kitti_and_waymo() -> None:
    kitti = load_run("kitti_pillar", "paper", 0)
    grid = kitti.model.grid.build().refined(2)
    assert (grid.W, grid.H, kitti.model.lidar.cell) == (432, 496, 0.16)  # PointDistiller spec, 4.1
    assert (kitti.train.epochs, kitti.train.batch_size) == (80, 6)
    assert set(kitti.data.classes) == {n for task in kitti.model.head.tasks for n in task}
    strides = {name: load_run(f"{name}_pillar", "paper", 0).data.train_stride for name in ("waymo", "waymo_d5")}
    assert strides == {"waymo": 1, "waymo_d5": 5}
    waymo = load_run("waymo_d5_pillar", "paper", 0)
    assert waymo.model.grid.build().refined(2).W == 468
    for run in ("kitti_lidar", "waymo_lidar"):  # at the published scale on the real data
        assert load_run(run, "paper", 0).data.root == f"data/{run.split('_')[0]}"
        assert load_run(run, "smoke", 0).data.root == f"data/{run.split('_')[0]}_sim/smoke"


def test_a_scale_may_want_live_teachers() -> None:
    for run in ("unidistill_p4", "camera_base"):
        assert load_run(run, "paper", 0).row.teacher_mode == "live"
        assert load_run(run, "sim", 0).row.teacher_mode == "cached"


def test_runs_stand_for_others_at_the_published_scale() -> None:
    def used(items: dict, name: str) -> set[str]:
        return {run for run, _ in items[name].needs(load_rows())}

    for scale, base, usual in (("sim", "camera_further", "camera_further"), ("paper", "s6_base", "camera_base")):
        for items in (load_tables(scale)["unidistill_s6"], load_figures(scale)["unidistill_s1"]):
            runs = {run for run, _ in items.needs(load_rows())}
            assert {"camera_base", "camera_further", "s6_base"} & runs == {base}
        assert load_claims(scale)["s6_feature_adapter_beats_baseline"].than == base
        assert usual in used(load_tables(scale), "unidistill_s1")
    # Where they do not, both would be one and the same training.
    for name, twin in (
        *(("s6_base", "camera_further"), ("s7_base", "lidar_further")),
        *(("s6_reweighted", "camera_reweighted"), ("s7_reweighted", "lidar_reweighted")),
    ):
        own, other = load_run(name, "sim", 0), load_run(twin, "sim", 0)
        assert (own.model, own.train, own.data) == (other.model, other.train, other.data)
