"""Starting weights of image backbones: trained on images of their own, taken by camera and fusion detectors."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_train_loop import assert_same_bits, losses, weights
from train_case import folder
from workflow_case import copy_repository, jobs, snakemake, with_fake_launcher

from bevkd.cli import main
from bevkd.config import InitConfig, RunConfig, load_run, rows_at
from bevkd.errors import ConfigError, FeatureError, Interrupted
from bevkd.train import evaluate_run, train
from bevkd.train.predict import apply_run
from bevkd.train.start import MisfitError

PARTS = ("camera.backbone", "camera.neck")


def resolved(dataset: Any, run: str, steps: int, **row: Any) -> RunConfig:
    found = load_run(
        run, "smoke", 0, [f"train.steps={steps}", f"data.root={dataset.root}", f"data.index={dataset.index}"]
    )
    return replace(found, row=replace(found.row, **row))


@pytest.fixture(scope="module")
def learnt(smoke_images: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root with trained image weights."""
    root = tmp_path_factory.mktemp("weights")
    run = resolved(smoke_images, "image_weights", 60)
    train(run, folder(root, run))
    return root


def test_images_are_learnt(smoke_images: Any, learnt: Path) -> None:
    run = resolved(smoke_images, "image_weights", 60)
    out = folder(learnt, run)
    totals = [values["total"] for _, values in losses(out)]
    assert sum(totals[-3:]) < 0.6 * sum(totals[:3])
    metrics = evaluate_run(out, "train")
    assert metrics == json.loads((out / "metrics_train.json").read_text())
    assert metrics["frames"] == 96
    assert metrics["AP50"]["bus"] > 0.05
    again = out.parent / "again"
    fresh = resolved(smoke_images, "image_weights", 60)
    with pytest.raises(Interrupted):
        train(fresh, learnt / "again" / again.relative_to(learnt), stop_after=7)
    assert_same_bits(weights(train(fresh, learnt / "again" / again.relative_to(learnt))), weights(out / "model.pt"))


def test_a_camera_detector_starts_from_them(smoke_dataset: Any, learnt: Path) -> None:
    run = resolved(smoke_dataset, "camera_base", 1)
    assert run.row.init == InitConfig(run="image_weights", seed=0, parts=PARTS)
    out = folder(learnt, run)
    train(run, out)
    record = json.loads((out / "init.json").read_text())
    names = list(weights(out / "model.pt"))
    wanted = [name for name in names if re.match(r"encoders\.camera\.(backbone|neck)\.", name)]
    assert record["taken"] == wanted
    assert len(wanted) > 20
    assert all(name.startswith("head.") for name in record["unused"])
    assert record["from"].endswith("smoke/image_weights/seed0/model.pt")


def test_a_fusion_detector_starts_from_two(smoke_dataset: Any, learnt: Path) -> None:
    """BEVFusion's way: each branch from a detector of its own."""
    lidar = resolved(smoke_dataset, "lidar_base", 1)
    train(lidar, folder(learnt, lidar))
    inits = (InitConfig(run="image_weights", parts=PARTS), InitConfig(run="lidar_base", parts=("lidar",)))
    run = replace(resolved(smoke_dataset, "fusion_base", 1, init=inits), run="fusion_of_two")
    out = folder(learnt, run)
    with pytest.raises(Interrupted):
        train(replace(run, train=replace(run.train, steps=2)), folder(learnt, replace(run, run="other")), stop_after=1)
    train(run, out)
    records = json.loads((out / "init.json").read_text())
    taken = [name for record in records for name in record["taken"]]
    assert len(taken) == len(set(taken)) > 30
    assert {name.split(".")[1] for name in taken} == {"camera", "lidar"}
    twice = replace(run, run="twice", row=replace(run.row, init=(inits[1], replace(inits[1], parts=("lidar", "head")))))
    with pytest.raises(MisfitError, match=r"encoders\.lidar\.\S+; .* of both .*lidar_base.* and .*lidar_base"):
        train(twice, folder(learnt, twice))


def test_what_wants_boxes_in_3d_says_so(
    smoke_images: Any, smoke_dataset: Any, learnt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder(learnt, resolved(smoke_images, "image_weights", 60))
    token = json.loads((smoke_images.root / "v1.0-val" / "sample_data.json").read_text())[0]["token"]
    shared = ["--run", "image_weights", "--scale", "smoke", "--runs", str(out.parents[2])]
    for command in (
        ["view", *shared, "--frame", token, "--out", str(learnt / "v")],
        ["response", *shared, "--split", "val"],
        ["matches", *shared, "--split", "val"],
        ["gates", *shared, "--split", "val"],
        ["attention", *shared, "--split", "val"],
    ):
        assert main([*command, *(["--out", str(learnt / "r.json")] if command[0] == "response" else [])]) == 2
        assert re.search(r"nothing in 3D|no dense maps|gates no map|no BEV map 'high'", capsys.readouterr().err)
    with pytest.raises(ConfigError, match="the run reads nuimages"):
        apply_run(out, "val", {"data": {"index": str(smoke_dataset.index), "root": str(smoke_dataset.root)}})
    # As a teacher of a detector in 3D it has nothing to show.
    method = load_run("unidistill_p4", "smoke", 0).row.method
    student = resolved(smoke_dataset, "camera_base", 1, teacher="image_weights", method=method)
    with pytest.raises((ConfigError, FeatureError)):
        train(replace(student, run="taught"), folder(learnt, replace(student, run="taught")))


def test_the_plan_reaches_them(tmp_path: Path) -> None:
    """A recipe that names them is enough for all of its detectors with a camera, but where weights are public."""
    folder = with_fake_launcher(copy_repository(tmp_path))

    def plan(run: str, scale: str = "smoke") -> str:
        return snakemake(folder, f"run_{run}", "--dry-run", "--cores", "2", "--config", f"scale={scale}", "seeds=1")

    def trained(said: str) -> set[str]:
        return set(re.findall(r"output: results/runs/smoke/(\w+)/seed\d+/model.pt", said))

    camera = plan("camera_base")
    assert (jobs(camera)["simulate"], jobs(camera)["convert"]) == (2, 2)
    assert trained(camera) == {"camera_base", "image_weights"}
    assert "output: data/nuimages_sim/smoke" in camera
    assert re.search(r"input: .*results/runs/smoke/image_weights/seed0/model.pt", camera)
    assert re.search(r"estimated cost: \d of \d trainings to do, about \d+ CPU minutes", camera)
    fresh = plan("camera_fresh")
    assert (jobs(fresh)["simulate"], trained(fresh)) == (1, {"camera_fresh"})
    recipe = folder / "config" / "papers" / "unidistill" / "recipe.yaml"
    content = yaml.safe_load(recipe.read_text())
    init = {"run": "image_weights", "seed": 0, "parts": list(PARTS)}
    content["parts"].append({"scales": ["smoke"], "models": ["lidar_pillar"], "init": init})
    recipe.write_text(yaml.safe_dump(content))
    assert "image_weights/seed0/model.pt" in plan("lidar_base")
    assert "image_weights/" not in plan("lidar_base", "sim")
    assert rows_at("smoke")["camera_base"].inits[0].run == "image_weights"
    assert rows_at("paper")["camera_base"].inits == ()
