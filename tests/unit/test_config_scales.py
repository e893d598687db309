"""What a row is at a scale: weights to start from that hold at some scales only, and rows that are other rows there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bevkd.config import identity_digest, load_papers, load_rows, load_run, rows_at
from bevkd.config.chain import needed_by, with_needed
from bevkd.config.papers import stand_ins_at
from bevkd.config.tiers import of_target
from bevkd.errors import ConfigError
from bevkd.report.spec import ClaimConfig, load_claims, load_figures, load_tables, pool

RUNS: dict[str, Any] = {
    "base": {"model": "camera"},
    "other": {"model": "camera"},
    "teacher": {"model": "lidar_voxel"},
    "on": {"model": "camera", "init": {"run": "base", "scales": ["sim"]}, "same_as": {"paper": "base"}},
    "arm": {"like": "on", "teacher": "teacher", "method": {"kind": "dense"}},
    "doubled": {"like": "on", "set": {"model": {"loss": {"velocity_weight": 2.0}}}},
    "own": {"like": "arm", "teacher": "base"},
    "parts": {
        "model": "camera",
        "init": [
            {"run": "base", "parts": ["camera"], "scales": ["sim", "smoke"]},
            {"run": "other", "seed": 0, "parts": ["head"], "scales": ["sim"]},
        ],
    },
    "fresh": {"model": "camera", "init": []},
}
COMPARISON = {
    "runs": {"arm": "arm", "baseline": "on", "doubled": "doubled", "own": "own"},
    "metrics": "mAP",
    "source": "s",
    "statement": "s",
}
TABLE = {"title": "T", "caption": "C", "columns": ["mAP"], "delta": "mAP", "rows": [{"comparisons": "c"}]}
TABLE |= {"show": ["baseline", "arm"], "labels": {"baseline": "B", "arm": "A"}}
FIGURE = {"kind": "dots", "title": "F", "caption": "C", "baseline": "on", "panels": {"p": {"b": "on", "a": "arm"}}}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a paper of its own, laid over no other; rows may be replaced."""

    def made(**changed: Any) -> None:
        folder = tmp_path / "papers/own"
        folder.mkdir(parents=True, exist_ok=True)
        recipe = {"parts": [{"scales": ["smoke"], "models": ["camera"], "init": {"run": "other", "parts": ["camera"]}}]}
        for name, content in {
            "runs": {"defaults": {"dataset": "nuscenes_sim", "seeds": [0, 1]}, "runs": RUNS | changed},
            "claims": {"comparisons": {"c": COMPARISON}},
            "tables": {"tables": {"t": TABLE}},
            "figures": {"figures": {"f": FIGURE}},
            "recipe": recipe if not changed.get("recipe") else changed["recipe"],
        }.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.setenv("BEVKD_CONFIG", str(tmp_path))

    return made


def starts(scale: str) -> dict[str, list[str]]:
    return {run: [init.run for init in row.inits] for run, row in rows_at(scale).items() if row.model == "camera"}


def test_starting_weights_hold_at_their_scales(write: Any) -> None:
    write(other={"model": "camera", "init": []})
    at_sim, at_paper, at_smoke = starts("sim"), starts("paper"), starts("smoke")
    assert (at_sim["on"], at_sim["parts"], at_sim["base"]) == (["base"], ["base", "other"], [])
    assert not any(at_paper.values()), "nothing is said of it"
    # Elsewhere it is as if nothing had been said, and the recipe counts; where something holds, or [] is said, it wins.
    assert (at_smoke["on"], at_smoke["base"]) == (["other"], ["other"])
    assert (at_smoke["parts"], at_smoke["fresh"]) == (["base"], [])
    rows = rows_at("sim")
    assert with_needed([("parts", 1)], rows) == [("parts", 1), ("base", 1), ("other", 0)]
    assert needed_by(rows_at("paper")["parts"], 1) == []


def test_a_run_has_the_starting_weights_of_its_scale_only(write: Any) -> None:
    write(other={"model": "camera", "init": []}, plain={"model": "camera", "init": {"run": "base"}})
    assert load_run("on", "paper", 0).row.init is None
    (init,) = load_run("on", "sim", 0).row.inits
    assert init.scales == (), "where it holds is no part of what it is"
    assert identity_digest(load_run("on", "sim", 0)) == identity_digest(load_run("plain", "sim", 0))
    assert identity_digest(load_run("on", "paper", 0)) == identity_digest(load_run("base", "paper", 0))
    assert identity_digest(load_run("on", "sim", 0)) != identity_digest(load_run("base", "sim", 0))


def test_a_factor_holds_where_its_trials_were_made(write: Any) -> None:
    plain = {"like": "on", "teacher": "teacher", "method": {"kind": "dense"}}
    chosen = plain | {"method": {"kind": "dense", "factor": 0.3, "factor_from": "arm", "factor_scales": ["sim"]}}
    write(
        other={"model": "camera", "init": []},
        plain=plain,
        chosen=chosen,
        everywhere=plain | {"method": {"kind": "dense", "factor": 0.3}},
    )
    assert identity_digest(load_run("chosen", "sim", 0)) == identity_digest(load_run("everywhere", "sim", 0))
    assert identity_digest(load_run("chosen", "paper", 0)) == identity_digest(load_run("plain", "paper", 0))
    assert identity_digest(load_run("everywhere", "paper", 0)) != identity_digest(load_run("plain", "paper", 0))
    for scale, factor in (("sim", 0.3), ("paper", 1.0)):
        method = load_rows(scale)["chosen"].method
        assert method is not None
        assert (method.factor, method.factor_scales) == (factor, ()), "as tables show it"


def test_unknown_scales_of_a_factor_are_refused(write: Any) -> None:
    method = {"kind": "dense", "factor": 0.3, "factor_scales": ["simm"]}
    write(other={"model": "camera", "init": []}, chosen={"like": "on", "teacher": "teacher", "method": method})
    with pytest.raises(ConfigError, match=r"method: factor_scales: unknown .*'simm' .*'sim'"):
        load_rows()


def test_tables_figures_and_claims_name_the_stand_ins(write: Any) -> None:
    write(other={"model": "camera", "init": []})
    for scale, base in (("sim", "on"), ("paper", "base")):
        assert load_claims(scale)["c"].than == base
        assert load_claims(scale)["c"].better == "arm"
        assert load_claims(scale)["c"].protocol == ("further" if scale == "sim" else "published")
        rows = {row.label: row for row in load_tables(scale)["t"].rows}
        assert (rows["B"].run, rows["A"].run, rows["A"].against) == (base, "arm", base)
        assert {run for run, _ in load_figures(scale)["f"].needs(load_rows())} == {base, "arm"}
    assert stand_ins_at("paper")["on"] == "base"
    assert not {"on", "base"} & set(stand_ins_at("sim"))


def test_a_row_that_is_like_it_is_itself(write: Any) -> None:
    write(other={"model": "camera", "init": []})
    rows = load_rows()
    assert rows["on"].same_as == {"paper": "base"}
    assert not any(rows[run].same_as for run in ("arm", "doubled", "own"))
    assert rows["arm"].inits == rows["on"].inits, "all else is"
    assert (rows_at("paper")["on"].target, rows_at("sim")["on"].target) == ("demand", "all")
    assert rows_at("paper")["arm"].target == "all"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"same_as": {"papr": "base"}}, r"own/runs\.yaml: run 'on': same_as: unknown key 'papr' .*'paper'"),
        ({"same_as": {"paper": "bose"}}, r"own/runs\.yaml: run 'on': same_as: unknown run 'bose' .*'base'"),
        ({"same_as": "base"}, r"own/runs\.yaml: run 'on': same_as"),
        ({"init": {"run": "bose", "scales": ["sim"]}}, r"unknown init run 'bose' .*'base'"),
        (
            {"init": {"run": "base", "scales": ["sim"], "seed": 5}},
            r"own/runs\.yaml: run '\w+': init 'base' has no seed 5",
        ),
    ],
)
def test_unknown_runs_and_scales_are_refused(write: Any, given: dict[str, Any], message: str) -> None:
    write(other={"model": "camera", "init": []}, on=RUNS["on"] | given)
    with pytest.raises(ConfigError, match=message):
        load_rows()


def test_unknown_scales_of_starting_weights_are_refused(write: Any) -> None:
    write(other={"model": "camera", "init": []}, on=RUNS["on"] | {"init": {"run": "base", "scales": ["simm"]}})
    with pytest.raises(ConfigError, match=r"init: scales: unknown .*'simm' .*'sim'"):
        load_rows()


@pytest.mark.parametrize("scale", ["smoke", "sim", "paper"])
def test_nothing_that_is_another_run_is_made_or_shown(scale: str) -> None:
    """Of the project's own rows: stand-ins are trained in their place, and so is what is shown of them."""
    names, rows = stand_ins_at(scale), rows_at(scale)
    # Small scales have one image backbone, one CenterPoint, and SimDistill's baseline and teacher from UniDistill.
    shared = {"distillbev_cp", *(f"simdistill_{name}" for name in ("c", "teacher", "resnet", "resnet_student"))}
    assert bool({run for run in names if "r50" not in run} - shared) == (scale == "paper")
    assert {rows[run].target for run in names} <= {"demand"}
    assert not set(names) & set(names.values()), "what stands for another one is itself"
    pairs = [(run, seed) for run, row in rows.items() if row.target == "all" for seed in row.seeds]
    assert not set(names) & {run for run, _ in with_needed(pairs, rows)}
    shown = [*load_tables(scale).values(), *load_figures(scale).values(), *load_claims(scale).values()]
    for item in shown:
        if item.target != "tuning":
            assert not set(names) & {run for run, _ in item.needs(rows)}, item
    for run, other in names.items():
        if run in ("simdistill_c", "simdistill_teacher"):  # other networks, of the same sensors
            assert load_run(run, scale, 0).model.sensors == load_run(other, scale, 0).model.sensors
            continue
        assert (rows[run].model, rows[run].dataset) == (rows[other].model, rows[other].dataset)
        mine, theirs = load_run(run, scale, 0), load_run(other, scale, 0)
        row = replace(mine.row, teacher=names.get(mine.row.teacher or "", mine.row.teacher))
        inits = tuple(replace(init, run=names.get(init.run, init.run)) for init in row.inits)
        init = mine.row.init if not inits else inits if isinstance(row.init, tuple) else inits[0]
        mine = replace(mine, row=replace(row, init=init))
        assert identity_digest(mine) == identity_digest(theirs), f"{run} is not {other} there"
    arms = {pool(claim.better)[0] for claim in of_target(load_claims(scale), "all").values()}
    assert arms & {run for paper in load_papers().values() for run in paper.rows}


def options_of(run: str, scale: str) -> dict[str, Any]:
    method = load_run(run, scale, 0).row.method
    assert method is not None
    return method.options


def test_a_scale_gives_options_to_methods_below_those_of_rows(config_copy: Path) -> None:
    path = config_copy / "scales" / "smoke.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["methods"] = {"crkd": {"msfd": {"r1": 9.0, "r2": 12.0}}}
    path.write_text(yaml.safe_dump(settings))
    parts = [{"kind": "dense"}, {"kind": "crkd", "options": {"reld": {"enabled": False}}, "weight": 0.5}]
    row: dict[str, Any] = {"model": "camera_radar", "dataset": "nuscenes_sim", "teacher": "crkd_teacher"}
    own = {"kind": "crkd", "options": {"msfd": {"r2": 14.0}}}
    both = {"kind": "combine", "options": {"methods": parts}}
    runs = {"own": row | {"method": own}, "both": row | {"method": both}, "other": row | {"method": {"kind": "dense"}}}
    (config_copy / "papers" / "mine" / "runs.yaml").write_text(yaml.safe_dump({"runs": runs}))
    assert options_of("own", "smoke") == {"msfd": {"r1": 9.0, "r2": 14.0}}
    assert options_of("other", "smoke") == {}
    dense, crkd = options_of("both", "smoke")["methods"]
    assert dense == {"kind": "dense"}
    assert crkd == {
        "kind": "crkd",
        "options": {"msfd": {"r1": 9.0, "r2": 12.0}, "reld": {"enabled": False}},
        "weight": 0.5,
    }
    assert options_of("own", "paper") == own["options"], "where nothing is said of it"


def test_options_of_methods_that_there_are_not_are_refused(config_copy: Path) -> None:
    path = config_copy / "scales" / "smoke.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"methods": {"crdk": {}}}))
    with pytest.raises(ConfigError, match=r"smoke.yaml: methods: .*'crdk'.*'crkd'"):
        load_run("camera_base", "smoke", 0)


def test_where_two_claims_are_one_comparison_the_first_is_left(write: Any, tmp_path: Path) -> None:
    cold = {"model": "camera", "teacher": "teacher", "method": {"kind": "dense"}, "same_as": {"paper": "arm"}}
    write(other={"model": "camera", "init": []}, cold=cold)
    further = {**COMPARISON, "runs": {"arm": "arm", "baseline": "on"}}
    scratch = {**COMPARISON, "runs": {"arm": "cold", "baseline": "base"}}
    twice = {"again": scratch | {"statement": "with other controls"}}
    written = {"c": further, "scratch": scratch, "other": scratch | {"metrics": "NDS"}, **twice}
    (tmp_path / "papers/own/claims.yaml").write_text(yaml.safe_dump({"comparisons": written}, sort_keys=False))
    assert list(of_own(None)) == ["c", "scratch", "other", "again"]
    assert list(of_own("sim")) == list(of_own(None)), (
        "what is written twice is so on purpose, for controls of another tier"
    )
    assert list(of_own("paper")) == ["c", "other"], "there `on` is `base`, and `cold` is `arm`"


def test_published_sizes_count_no_comparison_twice() -> None:
    claims = list(load_claims("paper").values())
    assert len({claim.comparison for claim in claims}) == len(claims)
    assert {"path2_map", "distillbev_scratch_mvp_map"} <= {claim.id for claim in claims}
    assert not {"scratch_path2_map", "distillbev_mvp_map"} & {claim.id for claim in claims}
    assert {"scratch_path2_map", "distillbev_mvp_map"} <= set(load_claims("sim"))


def of_own(scale: str | None) -> dict[str, ClaimConfig]:
    return {name: claim for name, claim in load_claims(scale).items() if claim.part == "own"}
