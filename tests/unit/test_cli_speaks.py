"""What commands say: counts and paths when they are done, the command that makes what is missing, nothing with -q."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from bevkd.cli import main
from bevkd.cli.app import hoisted
from bevkd.config import config_dir, load_rows, load_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with the project's configuration."""
    monkeypatch.setenv("BEVKD_CONFIG", str(config_dir().resolve()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["nuscenes", "kitti", "waymo"])
def test_simulate_and_convert_say_what_they_wrote(
    kind: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"data/{kind}_sim/smoke"
    simulate = ["simulate", "--dataset", kind, "--scale", "smoke", "--out"]
    assert main([*simulate, root]) == 0
    wrote, following = capsys.readouterr().out.splitlines()
    splits = r"train \d+, tune \d+, val \d+" + (r", conditions \d+" if kind == "nuscenes" else "")
    assert re.fullmatch(rf"wrote {root}: \d+ scenes \({splits}\) of \d keyframes, [\d.]+ MB", wrote)
    command = following.removeprefix("next: bevkd ").split()
    assert command[-2:] == ["--out", f"data/index/{kind}_sim/smoke"], "where the configuration looks for it"
    assert main(command) == 0
    wrote = capsys.readouterr().out
    assert f"wrote data/index/{kind}_sim/smoke" in wrote
    assert re.search(r"\btrain \d+, tune \d+, val \d+\b", wrote), "frames by split"
    assert main(command) == 0
    assert f"data/index/{kind}_sim/smoke is up to date" in capsys.readouterr().out
    for quiet in (["-q", *command], [*command, "--quiet"]):
        assert main(quiet) == 0
        assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "-q", "--run", "x"], ["-q", "train", "--run", "x"]),
        (["train", "--run", "x", "--quiet", "-v"], ["--quiet", "-v", "train", "--run", "x"]),
        (["-v", "train", "--traceback"], ["-v", "--traceback", "train"]),
        (["train", "--", "-q"], ["train", "--", "-q"]),
        ([], []),
    ],
)
def test_global_options_may_stand_anywhere(arguments: list[str], expected: list[str]) -> None:
    assert hoisted(arguments) == expected


def test_quiet_keeps_errors_and_what_was_asked_for(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--run", "camera_bose", "-q"]) == 2
    assert "did you mean 'camera_base'" in capsys.readouterr().err
    assert main(["config", "--run", "camera_base", "-q"]) == 0
    assert f"steps: {load_run('camera_base', 'sim', 0).train.steps}\n" in capsys.readouterr().out
    assert main(["-q", "-v", "version"]) == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "messages"),
    [
        (["train", "--run", "scratch_p2"], 2, ["`bevkd train --run fusion_base --scale smoke`", "run_fusion_base"]),
        (
            ["train", "--run", "scratch_p2", "--runs", "/tmp/nowhere/runs"],
            2,
            ["`bevkd train --run fusion_base --scale smoke --runs /tmp/nowhere/runs`"],
        ),
        (
            ["train", "--run", "camera_base"],
            2,
            [
                "starts from run 'image_weights', which is not trained yet",
                "`bevkd train --run image_weights --scale smoke`",
                "`snakemake --cores all run_image_weights --config scale=smoke`",
            ],
        ),
        (
            ["train", "--run", "image_weights"],
            3,
            [
                "`bevkd simulate --dataset nuimages --scale smoke --out data/nuimages_sim/smoke`",
                "`bevkd convert --dataset nuimages --root data/nuimages_sim/smoke --out data/index/nuimages_sim/smoke`",
            ],
        ),
        (
            ["train", "--run", "camera_fresh"],
            3,
            [
                "`bevkd simulate --dataset nuscenes --scale smoke --out data/nuscenes_sim/smoke`",
                "`bevkd convert --dataset nuscenes --root data/nuscenes_sim/smoke --version v1.0-sim"
                " --out data/index/nuscenes_sim/smoke`",
            ],
        ),
        (["train", "--run", "waymo_lidar"], 3, ["`bevkd simulate --dataset waymo --scale smoke"]),
        (
            ["train", "--run", "kitti_lidar", "--set", "data.root=/data/kitti", "--set", "data.index=k"],
            3,
            ["no data set in /data/kitti: put it there", "`bevkd convert --dataset kitti --root /data/kitti --out k`"],
        ),
        (
            ["predict", "--run", "lidar_base", "--split", "val", "--seed", "2"],
            2,
            [
                "has not been trained at scale 'smoke' with seed 2",
                "`bevkd train --run lidar_base --scale smoke --seed 2`",
            ],
        ),
        (["response", "--run", "lidar_base", "--split", "val"], 2, ["`bevkd train --run lidar_base --scale smoke`"]),
        (["breakdown", "--run", "lidar_base", "--split", "val"], 2, ["`bevkd train --run lidar_base --scale smoke`"]),
        (["table", "unidistill_s1"], 3, ["has not been trained", "`bevkd train --run"]),
    ],
)
def test_what_is_missing_names_what_makes_it(
    arguments: list[str], code: int, messages: list[str], elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--scale", "smoke"]) == code
    error = capsys.readouterr().err
    for message in messages:
        assert message in error
    assert len(error.strip().splitlines()) == 1


def listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert main(["list", *arguments, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_lists_are_complete(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bevkd.registry import names
    from bevkd.report.spec import load_claims, load_figures, load_tables

    config = config_dir()
    expected = {
        "run": list(load_rows()),
        "model": sorted(path.stem for path in (config / "models").glob("*.yaml")),
        "dataset": sorted(path.stem for path in (config / "datasets").glob("*.yaml")),
        "method": names("method"),
        "table": list(load_tables("sim")),
        "figure": list(load_figures("sim")),
        "claim": list(load_claims("sim")),
    }
    for key, known in expected.items():
        assert [entry[key] for entry in listed([f"{key}s"], capsys)] == known
    methods = {str(entry["method"]): entry for entry in listed(["methods"], capsys)}
    assert str(methods["dense"]["doc"]).startswith("Dense: class-wise response on every cell")
    assert methods["dense"]["runs"] == sum(
        bool(row.method and row.method.kind == "dense") for row in load_rows().values()
    )


def test_runs_are_listed_with_what_is_trained(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete = ("smoke/camera_base/seed0/model.pt", "sim/camera_base/seed2/model.pt", "sim/gone/seed0/model.pt")
    begun = ("sim/camera_base/seed1/checkpoint.pt", "sim/camera_base/seed2/checkpoint.pt")
    for path in (*complete, *begun):
        file = elsewhere / "results/runs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (entry,) = [one for one in listed(["runs", "camera_base"], capsys) if one["run"] == "camera_base"]
    assert entry["trained"] == {"sim": {"1": False, "2": True}, "smoke": {"0": True}}
    assert main(["list", "runs", "CAMERA_BASE"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split("\t")[:2] == ["run", "trained"]
    assert next(line for line in lines if line.startswith("camera_base\t")).split("\t")[1] == "sim: (1) 2; smoke: 0"
    (lost,) = listed(["runs", "gone"], capsys)
    assert lost["doc"] == "trained, but not in config/papers"
    assert main(["list", "runs", "no such text"]) == 0
    assert capsys.readouterr().out == ""


def test_tables_and_verdicts_are_those_that_were_made(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not any(entry["made"] for entry in listed(["tables"], capsys))
    for name in ("tables/unidistill_s1.md", "tables/unidistill_s1.csv", "ledger/unidistill.csv"):
        file = elsewhere / "results" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((ROOT / "results" / name).read_bytes())
    assert [entry["table"] for entry in listed(["tables"], capsys) if entry["made"]] == ["unidistill_s1"]
    verdicts = {str(entry["claim"]): entry["verdict"] for entry in listed(["claims"], capsys)}
    with (ROOT / "results" / "ledger" / "unidistill.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert {line["claim"]: line["verdict_holm"] for line in lines}.items() <= verdicts.items(), "after the correction"
    assert any(line["verdict"] != line["verdict_holm"] for line in lines)
    assert verdicts["crkd_before_map"] == ""


def test_a_typo_of_what_to_list(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "runz"]) == 2
    assert "did you mean 'runs'" in capsys.readouterr().err
    assert main(["list", "runs", "--scale", "simm"]) == 2
    assert "did you mean 'sim'" in capsys.readouterr().err
    for arguments in (["trian"], ["evaluate", "nuscnes"], ["train", "--rum", "x"]):
        assert main(arguments) == 2
        assert re.search("Did you mean|Possible options", capsys.readouterr().err)


def test_a_narrow_terminal_gets_the_columns_in_front_and_the_words() -> None:
    from bevkd.cli.listing import fitting

    columns = ["run", "trained", "model", "teacher", "doc"]
    lines = [["camera_base", "sim: 0 1 2", "camera", "lidar_base", "a detector " * 9]]
    assert fitting(columns, lines, 200) == columns
    assert fitting(columns, lines, 70) == ["run", "trained", "model", "doc"]
    assert fitting(columns, lines, 20) == ["run", "trained", "doc"]
    assert fitting(["model", "runs"], [["camera", "3"]], 5) == ["model", "runs"]
    assert fitting([], [], 80) == []


def test_a_narrow_terminal_folds_words_and_no_heads(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    assert main(["list", "datasets", "--scale", "smoke"]) == 0
    head = capsys.readouterr().out.splitlines()[1]
    assert re.sub(r"\x1b\[[0-9;]*m", "", head).split() == ["dataset", "format", "root", "runs"]


def test_an_interrupted_command_says_so(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bevkd.sim

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    _, scales = bevkd.sim.WRITERS["kitti"]
    monkeypatch.setitem(bevkd.sim.WRITERS, "kitti", (interrupted, scales))
    assert main(["simulate", "--dataset", "kitti", "--scale", "smoke", "--out", "x"]) == 4
    assert capsys.readouterr().err.strip() == "bevkd: interrupted"
