"""Where configuration is read: packaged, of a project, or of a folder that is asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from bevkd.cli import main
from bevkd.config import config_tree, load_rows, load_run, load_scale
from bevkd.config.places import ConfigTree, packaged
from bevkd.errors import ConfigError


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.delenv("BEVKD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def test_without_a_project_the_packaged_files_count(elsewhere: Path) -> None:
    assert config_tree() == ConfigTree((packaged(),))
    assert "camera_base" in load_rows()


@pytest.mark.parametrize("name", ["config.yaml", "logging.ini", "papers/notes.txt", "models/readme.md", "app/x.yaml"])
def test_a_config_folder_of_another_kind_is_none_of_ours(elsewhere: Path, name: str) -> None:
    write(elsewhere / "config" / name, {"db": "postgres"})
    assert config_tree() == ConfigTree((packaged(),))


def test_a_project_is_laid_over_the_packaged_files(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of its own are found beside those that came with the code; one of the same name wins; its papers too."""
    before = load_run("lidar_base", "smoke", 0)
    write(elsewhere / "config" / "datasets" / "mine.yaml", {"data": {"root": "here", "index": "there"}})
    rows = {"mine": {"like": "lidar_base", "dataset": "mine"}}
    write(elsewhere / "config" / "papers" / "mine" / "runs.yaml", {"runs": rows})
    assert config_tree().folders == (elsewhere / "config", packaged())
    assert main(["doctor"]) == 0
    assert f"configuration: {elsewhere / 'config'} laid over {packaged()}\n" in capsys.readouterr().out
    assert load_run("mine", "smoke", 0).data.root == "here"
    assert load_run("lidar_base", "smoke", 0) == before

    scale = yaml.safe_load((packaged() / "scales" / "smoke.yaml").read_text())
    scale["common"]["train"]["steps"] = 7
    over = write(elsewhere / "other" / "scales" / "smoke.yaml", scale)
    shutil.copytree(elsewhere / "config", over.parents[1], dirs_exist_ok=True)
    os.environ["BEVKD_CONFIG"] = "other"
    try:
        assert load_run("lidar_base", "smoke", 0).train.steps == 7
        assert load_run("mine", "smoke", 0).data.root == "here"
    finally:
        del os.environ["BEVKD_CONFIG"]


def test_single_files_of_a_paper_may_be_replaced(elsewhere: Path) -> None:
    recipe = yaml.safe_load((packaged() / "papers" / "unidistill" / "recipe.yaml").read_text())
    recipe["parts"].append({"scales": ["smoke"], "train": {"lr": 0.25}})
    write(elsewhere / "config" / "papers" / "unidistill" / "recipe.yaml", recipe)
    assert load_run("lidar_base", "smoke", 0).train.lr == 0.25


def test_a_whole_folder_stands_alone(elsewhere: Path) -> None:
    folder = Path(shutil.copytree(packaged(), elsewhere / "config"))
    shutil.rmtree(folder / "papers" / "tuning")
    (folder / "datasets" / "waymo_mini.yaml").unlink()
    assert config_tree() == ConfigTree((folder,))
    assert not any(run.startswith("tune_") for run in load_rows())
    assert "waymo_mini" not in config_tree().files("datasets")
    with pytest.raises(ConfigError, match=r"no such config file: .*datasets/waymo_mini\.yaml"):
        config_tree().named("datasets", "waymo_mini")


def test_unknown_names_are_told_the_nearest_of_all_folders(elsewhere: Path) -> None:
    write(elsewhere / "config" / "scales" / "tinier.yaml", {})
    assert load_scale("tinier").common == {}
    for typo, meant in (("tinyer", "tinier"), ("smokey", "smoke")):
        with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
            load_scale(typo)


def test_the_option_comes_first_and_is_forgotten_afterwards(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("config", "of_project"), ("env", "of_variable"), ("option", "of_option")):
        write(elsewhere / name / "datasets" / "mine.yaml", {"data": {"root": value, "index": "there"}})
        rows = {"mine": {"like": "lidar_base", "dataset": "mine"}}
        write(elsewhere / name / "papers" / "mine" / "runs.yaml", {"runs": rows})
    explain = ["config", "--run", "mine", "--scale", "smoke", "--explain", "data.root"]
    for variable, before, after, value, place in (
        (None, [], [], "of_project", "config/datasets/mine.yaml"),
        ("env", [], [], "of_variable", "env/datasets/mine.yaml"),
        ("env", ["--config-dir", "option"], [], "of_option", "option/datasets/mine.yaml"),
        ("env", [], ["--config-dir", "option"], "of_option", "option/datasets/mine.yaml"),
        ("env", [], ["--config-dir=option"], "of_option", "option/datasets/mine.yaml"),
    ):
        if variable:
            monkeypatch.setenv("BEVKD_CONFIG", variable)
        assert main([*before, *explain, *after]) == 0
        text = capsys.readouterr().out
        assert f"data.root = '{value}'" in text
        assert f" {place}:" in text
    assert os.environ["BEVKD_CONFIG"] == "env"


@pytest.mark.parametrize(
    ("folder", "message"), [("nowhere", "no such configuration folder"), ("empty", "is no configuration")]
)
def test_a_folder_that_is_asked_for_must_be_one(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: str, message: str
) -> None:
    (elsewhere / "empty").mkdir()
    assert main(["--config-dir", folder, "config", "--run", "lidar_base"]) == 2
    assert message in capsys.readouterr().err
    assert "BEVKD_CONFIG" not in os.environ
    monkeypatch.setenv("BEVKD_CONFIG", folder)
    assert main(["config", "--run", "lidar_base"]) == 2
    assert message in capsys.readouterr().err
