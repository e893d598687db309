"""The training loop on simulated data: paired seeds, resuming bit for bit, and what bad input gets."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from train_case import folder, tiny_model, tiny_run

from bevkd.config import RunConfig, load_run, parse, to_plain
from bevkd.distill import method_settings
from bevkd.errors import CheckpointError, ConfigError, DataError, Interrupted
from bevkd.io import file_digest
from bevkd.models.detector import build_detector
from bevkd.train import TrainingError, ensure_cache, load_detector, train
from bevkd.train import setup as training_setup
from bevkd.train.archive import pack
from bevkd.train.checkpoint import content_digest, load_checkpoint, read_model, save_model
from bevkd.train.log import read_log
from bevkd.train.setup import build_student


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["model"]
    return state


def assert_same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert list(a) == list(b)
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def losses(out: Path) -> list[tuple[int, dict[str, float]]]:
    return [(line["step"], line["losses"]) for line in read_log(out / "log.jsonl")]


def distilled(dataset: Any, name: str, **options: Any) -> RunConfig:
    settings = {"model": tiny_model("camera"), "teacher": "teacher", "method": "unidistill"} | options
    return tiny_run(dataset, name, **settings)


def test_a_run_leaves_what_it_promises(smoke_dataset: Any, trained: Path) -> None:
    run = tiny_run(smoke_dataset, "teacher")
    out = folder(trained, run)
    assert {p.name for p in out.iterdir() if not p.name.startswith(".")} == {
        "model.pt",
        "config.yaml",
        "log.jsonl",
        "provenance.json",
        "tb",
    }
    assert parse(RunConfig, yaml.safe_load((out / "config.yaml").read_text()), "config.yaml") == run
    assert [line["step"] for line in read_log(out / "log.jsonl")] == list(range(1, 7))
    for line in read_log(out / "log.jsonl"):
        assert {"total", "det", "heatmap", "loc"} <= line["losses"].keys()
        assert line["losses"]["total"] == line["losses"]["det"] > 0
        assert line["samples_per_s"] > 0
        assert line["compute_s"] > 0
    detector, loaded = load_detector(out / "model.pt")
    assert loaded == run
    assert not detector.training
    assert_same_bits(dict(detector.state_dict()), weights(out / "model.pt"))
    first = read_log(out / "log.jsonl")[0]["losses"]["total"]
    assert read_log(out / "log.jsonl")[-1]["losses"]["total"] < first


def test_complete_run_is_left_alone(smoke_dataset: Any, trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tiny_run(smoke_dataset, "teacher")
    path = folder(trained, run) / "model.pt"
    before = path.stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        assert train(run, folder(trained, run)) == path
    assert path.stat().st_mtime_ns == before
    assert "nothing to do" in caplog.text


@pytest.mark.parametrize("kind", ["plain", "distilled"])
def test_interrupted_training_ends_with_the_same_bits(smoke_dataset: Any, trained: Path, kind: str) -> None:
    def make(name: str) -> RunConfig:
        if kind == "plain":
            return tiny_run(smoke_dataset, name, model=tiny_model("lidar", "camera"), log_every=4)
        return distilled(smoke_dataset, name, frames="all", unlabelled_per_batch=1, log_every=4)

    whole, parts = make(f"{kind}_whole"), make(f"{kind}_parts")
    expected = weights(train(whole, folder(trained, whole)))
    out = folder(trained, parts)
    for stop, at in ((1, 1), (2, 3), (1, 4)):
        with pytest.raises(Interrupted, match=f"step {at} of 6"):
            train(parts, out, stop_after=stop)
        state = load_checkpoint(out)
        assert state is not None
        assert state["step"] == at
    assert_same_bits(weights(train(parts, out)), expected)
    assert losses(out) == losses(folder(trained, whole))
    assert [step for step, _ in losses(out)] == [4, 6]
    assert not list(out.glob("checkpoint*"))


def test_paired_seeds(smoke_dataset: Any, trained: Path) -> None:
    """One seed: same initial weights and same first batch with or without a teacher; another seed: another start."""
    plain = tiny_run(smoke_dataset, "camera_plain", model=tiny_model("camera"), steps=1)
    taught = distilled(smoke_dataset, "camera_taught", steps=1)
    other = tiny_run(smoke_dataset, "camera_plain", model=tiny_model("camera"), steps=1, seed=1)
    for run in (plain, taught, other):
        train(run, folder(trained, run))
    assert_same_bits(dict(build_student(plain).state_dict()), dict(build_student(taught).state_dict()))
    (_, a), (_, b), (_, c) = (losses(folder(trained, run))[0] for run in (plain, taught, other))
    assert a["det"] == b["det"] == a["total"]
    assert b["total"] > a["total"]
    assert c["det"] != a["det"]


def test_adapters_are_trained_and_kept_out_of_the_model(smoke_dataset: Any, trained: Path) -> None:
    run = distilled(smoke_dataset, "adapted", model=tiny_model("camera"), method="unidistill", checkpoint_every=1)
    # Path (4) has no adapters by default; the row switches them on.
    method = {"kind": "unidistill", "options": {"adapter": {"enabled": True}}}
    plain = json.loads(json.dumps(to_plain(run)))
    plain["row"]["method"] = method
    run = parse(RunConfig, plain, "test")
    out = folder(trained, run)
    seen = []
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(run, out, stop_after=1)
        state = load_checkpoint(out)
        assert state is not None
        seen.append(state["adapters"])
    assert seen[0]
    assert any(not torch.equal(seen[0][k], seen[1][k]) for k in seen[0])
    train(run, out)
    assert set(weights(out / "model.pt")) == set(build_student(run).state_dict())


def test_cached_teacher_equals_live_teacher(smoke_dataset: Any, trained: Path) -> None:
    options: dict[str, Any] = {"frames": "all", "unlabelled_per_batch": 1, "steps": 1}
    lines = []
    for mode in ("cached", "live"):
        run = distilled(smoke_dataset, f"teacher_{mode}", teacher_mode=mode, **options)
        train(run, folder(trained, run))
        lines.append(losses(folder(trained, run))[0][1])
    assert lines[0].keys() == lines[1].keys()
    for name, value in lines[0].items():
        assert value == pytest.approx(lines[1][name], rel=2e-3, abs=1e-6), name  # the cache holds float16
    assert lines[0]["kd_feature"] > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(smoke_dataset: Any, trained: Path, tmp_path: Path, workers: int) -> None:
    """Also where a training goes on with another number of them than it began with."""
    run = tiny_run(smoke_dataset, "teacher", workers=workers)
    with pytest.raises(Interrupted):
        train(run, folder(tmp_path, run), stop_after=2)
    run = replace(run, train=replace(run.train, workers=3 - workers))
    assert_same_bits(weights(train(run, folder(tmp_path, run))), weights(folder(trained, run) / "model.pt"))


def test_another_configuration_is_refused_unless_restarted(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, steps=3)
    out = folder(tmp_path, run)
    with pytest.raises(Interrupted):
        train(run, out, stop_after=1)
    changed = tiny_run(smoke_dataset, steps=3, lr=2e-3)
    with pytest.raises(CheckpointError, match=r"train.lr: 0.003 -> 0.002.*--restart") as caught:
        train(changed, out)
    assert caught.value.exit_code == 2
    train(run, out)  # the refusal left the checkpoint usable
    with pytest.raises(CheckpointError, match=r"model.pt was written with another configuration"):
        train(changed, out)
    train(changed, out, restart=True)
    assert len(losses(out)) == 3
    same = tiny_run(smoke_dataset, steps=3, lr=2e-3, log_every=2, checkpoint_every=7)  # does not change the result
    train(same, out)


def test_the_head_must_know_the_classes_of_the_data(smoke_dataset: Any, tmp_path: Path) -> None:
    run = load_run("kitti_pillar", "sim", 0)  # a row for the published scale, which names its classes
    with pytest.raises(ConfigError, match=r"lacks cyclist of data\.classes"):
        train(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_teacher_is_refused(smoke_dataset: Any, trained: Path, tmp_path: Path) -> None:
    teacher = tiny_run(smoke_dataset, "teacher", steps=1)
    run = distilled(smoke_dataset, "student", steps=2, method="imitation")
    with pytest.raises(ConfigError, match="not trained yet"):
        train(run, folder(tmp_path, run))
    train(teacher, folder(tmp_path, teacher))
    with pytest.raises(Interrupted):
        train(run, folder(tmp_path, run), stop_after=1)
    better = tiny_run(smoke_dataset, "teacher", steps=2)
    train(better, folder(tmp_path, teacher), restart=True)
    with pytest.raises(CheckpointError, match="teacher: "):
        train(run, folder(tmp_path, run))
    train(run, folder(tmp_path, run), restart=True)  # and the cache of the old teacher was replaced


def test_broken_checkpoints(smoke_dataset: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tiny_run(smoke_dataset, steps=5, checkpoint_every=1)
    out, whole = folder(tmp_path, run), folder(tmp_path / "whole", run)
    expected = weights(train(run, whole))
    with pytest.raises(Interrupted):
        train(run, out, stop_after=3)
    content = (out / "checkpoint.pt").read_bytes()
    (out / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(Interrupted, match="step 3 of 5"):
        train(run, out, stop_after=1)  # from step 2, the one before
    assert "unreadable checkpoint" in caplog.text
    for name in ("checkpoint.pt", "checkpoint.prev.pt"):
        (out / name).write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"no readable checkpoint .*checkpoint\.pt.*--restart"):
        train(run, out)
    assert_same_bits(weights(train(run, out, restart=True)), expected)


def test_a_kill_after_the_weights_leaves_no_checkpoint(smoke_dataset: Any, tmp_path: Path) -> None:
    """A run removes its checkpoints after it has written its weights; who is killed in between cannot."""
    run = tiny_run(smoke_dataset, steps=3, checkpoint_every=1)
    out = folder(tmp_path, run)
    with pytest.raises(Interrupted):
        train(run, out, stop_after=2)
    left = {name: (out / name).read_bytes() for name in ("checkpoint.pt", "checkpoint.prev.pt")}
    whole = train(run, out).read_bytes()
    for name, content in left.items():
        (out / name).write_bytes(content)
    assert train(run, out).read_bytes() == whole
    assert not list(out.glob("checkpoint*"))


def test_other_threads_are_said(smoke_dataset: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tiny_run(smoke_dataset, steps=4, checkpoint_every=1)
    out = folder(tmp_path, run)
    with pytest.raises(Interrupted):
        train(run, out, stop_after=1)
    assert "before" not in json.loads((out / "provenance.json").read_text())
    with pytest.raises(Interrupted):
        train(run, out, stop_after=1)
    assert "since step" not in caplog.text
    train(replace(run, train=replace(run.train, threads=2)), out)
    assert "threads: 1 -> 2 since step 2: the last bits are not those" in caplog.text
    made = json.loads((out / "provenance.json").read_text())
    assert made["threads"] == 2
    assert [before["threads"] for before in made["before"]] == [1]


def test_a_teacher_that_is_trained_again_is_the_same(smoke_dataset: Any, trained: Path, tmp_path: Path) -> None:
    teacher = tiny_run(smoke_dataset, "teacher")
    run = distilled(smoke_dataset, "student_again", steps=2, method="imitation")
    mine = folder(trained, teacher) / "model.pt"
    again = train(replace(teacher, train=replace(teacher.train, checkpoint_every=3)), folder(tmp_path, teacher))
    once = train(teacher, folder(tmp_path / "another" / "place", teacher))
    assert once.read_bytes() == mine.read_bytes()
    assert content_digest(again) == content_digest(mine)
    student = train(run, folder(tmp_path, run))
    before = student.read_bytes()
    again.write_bytes(once.read_bytes())
    assert train(run, folder(tmp_path, run)).read_bytes() == before
    # A student that knows its teacher by the digest of its file, as those of older versions do.
    state = load_checkpoint(folder(tmp_path, run)) or read_model(student)
    student.write_bytes(pack(state | {"teacher": file_digest(again)}))
    assert train(run, folder(tmp_path, run)) == student
    student.write_bytes(pack(state | {"teacher": "0" * 64}))
    with pytest.raises(CheckpointError, match="teacher: 0000"):
        train(run, folder(tmp_path, run))


def test_a_damaged_cache_is_made_anew(smoke_dataset: Any, trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = distilled(smoke_dataset, "reads_damaged", steps=2, method="imitation")
    cache = ensure_cache(run, folder(trained, run))
    # Others may have asked this teacher for more: what they read is not looked at here.
    (column,) = set(method_settings(run.row.method).cached().columns) - {"boxes"}
    (part,) = cache.of(column)
    path = part.folder / f"{column}.npy"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "made anew" not in caplog.text
    ensure_cache(run, folder(trained, run))
    assert f"teacher cache {cache.folder} is made anew: damaged" in caplog.text
    assert path.read_bytes() == good
    caplog.clear()
    ensure_cache(run, folder(trained, run))
    assert not caplog.text


def test_a_model_needs_nothing_of_what_its_training_started_from(smoke_dataset: Any, tmp_path: Path) -> None:
    model = tiny_model("camera")
    detector = build_detector(model)
    for started in ("hub:no/such-model", "/no/such/folder"):
        camera = replace(model.camera, backbone=replace(model.camera.backbone, weights=started))
        run = tiny_run(smoke_dataset, "r", model=replace(model, camera=camera))
        path = save_model(tmp_path, detector.state_dict(), run, 1, "")
        loaded, again = load_detector(path)
        assert again == run
        assert_same_bits(dict(loaded.state_dict()), dict(detector.state_dict()))


def test_model_of_another_architecture(smoke_dataset: Any, trained: Path, tmp_path: Path) -> None:
    path = folder(trained, tiny_run(smoke_dataset, "teacher")) / "model.pt"
    state = torch.load(path, weights_only=True)
    plain = json.loads(state["config"])
    plain["model"]["head"]["shared_channels"] = 20
    torch.save(state | {"config": json.dumps(plain)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"another architecture: head\S+ has shape"):
        load_detector(tmp_path / "model.pt")
    torch.save({"weights": state["model"]}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="cannot be read as a model"):
        load_detector(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="no trained model at"):
        load_detector(tmp_path / "none.pt")


def test_non_finite_loss_stops_before_the_step(
    smoke_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(smoke_dataset, checkpoint_every=1)
    out = folder(tmp_path, run)

    def poisoned(run: RunConfig) -> Any:
        detector = build_student(run)
        honest, calls = detector.loss, []

        def loss(outputs: Any, batch: Any) -> dict[str, Tensor]:
            calls.append(batch)
            terms = honest(outputs, batch)
            return terms if len(calls) < 3 else terms | {"total": terms["total"] * math.nan}

        monkeypatch.setattr(detector, "loss", loss)
        return detector

    monkeypatch.setattr(training_setup, "build_student", poisoned)
    with pytest.raises(TrainingError, match=r"not finite at step 2: total=nan, det=nan, grad_norm=nan; samples"):
        train(run, out)
    report = json.loads((out / "failed_batch.json").read_text())
    assert report["step"] == 2
    assert len(report["tokens"]) == 2
    assert report["losses"]["heatmap"] > 0
    state = load_checkpoint(out)
    assert state is not None
    assert state["step"] == 2
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_bad_data_is_named_also_from_a_worker(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, data={"root": str(tmp_path / "nowhere")}, workers=1)
    with pytest.raises(DataError, match="file=") as caught:
        train(run, folder(tmp_path, run))
    assert caught.value.file is not None
    assert caught.value.exit_code == 3


def test_unusable_settings(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, unlabelled_per_batch=1)
    with pytest.raises(ConfigError, match="unlabelled"):
        train(run, folder(tmp_path, run))
    run = tiny_run(smoke_dataset, precision="fp16")
    with pytest.raises(ConfigError, match="GPU"):
        train(run, folder(tmp_path, run))
    wider = distilled(smoke_dataset, "wider")
    plain = json.loads(json.dumps(to_plain(wider)))
    plain["model"]["grid"]["reach"] = 51.2
    teacher = tiny_run(smoke_dataset, "teacher", steps=1)
    train(teacher, folder(tmp_path, teacher))
    with pytest.raises(ConfigError, match="one BEV grid"):
        train(parse(RunConfig, plain, "test"), folder(tmp_path, wider))


def test_second_process_is_kept_out(smoke_dataset: Any, tmp_path: Path) -> None:
    from bevkd.train.runtime import exclusive

    run = tiny_run(smoke_dataset)
    with exclusive(folder(tmp_path, run)), pytest.raises(ConfigError, match="another process"):
        train(run, folder(tmp_path, run))


def test_frames_limit_trains_on_the_first_frames_only(smoke_dataset: Any) -> None:
    from bevkd.train.stream import batch_plan, training_frames

    run = tiny_run(smoke_dataset, frames_limit=3)
    plan = batch_plan(run, training_frames(run))
    assert {index for step in range(9) for index, _ in plan.batch(step)} == {0, 1, 2}


def test_bf16_training_stays_close_to_fp32(smoke_dataset: Any, trained: Path, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, "teacher", precision="bf16")
    train(run, folder(tmp_path, run))
    reference = losses(folder(trained, run))
    for (step, ours), (_, exact) in zip(losses(folder(tmp_path, run)), reference, strict=True):
        assert ours["total"] == pytest.approx(exact["total"], rel=0.03), step
    assert losses(folder(tmp_path, run)) != reference
