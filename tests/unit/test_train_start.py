"""Starting from trained weights: what is taken, what is not, and what does not fit."""

from __future__ import annotations

import logging

import pytest
import torch
from models_batch import model_config

from bevkd.config.training import WHOLE
from bevkd.models.detector import Detector, build_detector
from bevkd.train.checkpoint import weights_digest
from bevkd.train.parts import covers, known_parts
from bevkd.train.start import MisfitError, Start, apply_start


def network(model: str, seed: int, **over: object) -> Detector:
    torch.manual_seed(seed)
    return build_detector(model_config(model, "smoke", **over))


def start_of(detector: Detector) -> Start:
    weights = {name: value.clone() for name, value in detector.state_dict().items()}
    return Start(weights, weights_digest(weights), "there/model.pt")


def taken_from(student: Detector, before: dict[str, torch.Tensor], start: Start) -> set[str]:
    """Parameters that now equal those of the start, and no longer their own of before."""
    now = student.state_dict()
    changed = {name for name in now if not torch.equal(now[name], before[name])}
    assert all(torch.equal(now[name], start.weights[name]) for name in changed)
    return changed


def test_the_whole_network(caplog: pytest.LogCaptureFixture) -> None:
    student, start = network("fusion", 0), start_of(network("fusion", 1))
    with caplog.at_level(logging.INFO):
        record = apply_start(student, start, (WHOLE,))
    assert weights_digest(student.state_dict()) == start.digest == record["digest"]
    assert record["taken"] == list(student.state_dict())
    assert record["values"] == sum(value.numel() for value in student.state_dict().values())
    assert record["fresh"] == record["unused"] == []
    total = len(student.state_dict())
    assert f"{total} of {total} tensors taken (all), 0 keep their fresh values, 0 were not used" in caplog.text


@pytest.mark.parametrize(
    ("parts", "prefixes"),
    [
        (("camera",), ("encoders.camera.",)),
        (("lidar", "bev"), ("encoders.lidar.", "bev.")),
        (("camera.backbone",), ("encoders.camera.backbone.",)),
        (("fuser", "head"), ("fuser.", "head.")),
    ],
)
def test_parts(parts: tuple[str, ...], prefixes: tuple[str, ...]) -> None:
    student, start = network("fusion", 0), start_of(network("fusion", 1))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    record = apply_start(student, start, parts)
    changed = taken_from(student, before, start)
    assert changed
    assert all(name.startswith(prefixes) for name in changed)
    assert set(record["taken"]) == {name for name in before if name.startswith(prefixes)}
    assert set(record["fresh"]) == set(record["unused"]) == set(before) - set(record["taken"])


def test_task_heads_behind_a_shared_convolution_of_another_width() -> None:
    """DistillBEV's `inherit_head`: maps before the head differ in width, what follows the shared layer does not."""
    tasks = [["car"], ["truck", "bus"], ["pedestrian"]]
    wide = {"head": {"tasks": tasks}, "bev": {"up_channels": 40}}
    student, start = network("camera", 0, head={"tasks": tasks}), start_of(network("lidar_pillar", 1, **wide))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    record = apply_start(student, start, ("head.tasks",))
    assert set(record["taken"]) == {name for name in before if name.startswith("head.tasks.")}
    assert {name.split(".")[2] for name in record["taken"]} == {"0", "1", "2"}
    assert all(torch.equal(student.state_dict()[name], start.weights[name]) for name in record["taken"])
    assert torch.equal(student.state_dict()["head.shared.0.weight"], before["head.shared.0.weight"])
    with pytest.raises(MisfitError, match=r"head\.shared"):
        apply_start(student, start, ("head",))


def test_a_camera_detector_gives_its_encoder_to_a_fusion_detector() -> None:
    student, start = network("fusion", 0), start_of(network("camera", 1))
    record = apply_start(student, start, ("camera",))
    for name, value in student.encoders["camera"].state_dict().items():
        assert torch.equal(value, start.weights[f"encoders.camera.{name}"])
    assert "fuser.conv.weight" not in record["taken"]
    assert all(not name.startswith("encoders.camera.") for name in record["unused"])


def test_misfits_name_the_parameters() -> None:
    student = network("fusion", 0)
    before = weights_digest(student.state_dict())
    with pytest.raises(MisfitError, match=r"no part 'camera.backbne' .*'camera.backbone'"):
        apply_start(student, start_of(network("fusion", 1)), ("camera.backbne",))
    with pytest.raises(MisfitError, match=r"there/model.pt does not fit \(parts: lidar\): encoders.lidar.* is missing"):
        apply_start(student, start_of(network("camera", 1)), ("lidar",))
    with pytest.raises(MisfitError, match=r"\(parts: all\).* is missing there.* and \d+ more"):
        apply_start(student, start_of(network("camera", 1)), (WHOLE,))
    with pytest.raises(MisfitError, match="is unknown here"):
        apply_start(network("camera", 0), start_of(network("fusion", 1)), (WHOLE,))
    wide = start_of(network("fusion", 1, bev={"widths": [24, 32]}))
    with pytest.raises(MisfitError, match=r"bev\.\S+ has shape \(32,.*not \(24,"):
        apply_start(student, wide, ("bev",))
    assert weights_digest(student.state_dict()) == before  # nothing was taken


def test_layers_that_a_later_stage_adds_stay_fresh() -> None:
    student, start = network("camera_radar", 0, radar={"calibration": 3}), start_of(network("camera_radar", 1))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    record = apply_start(student, start, (WHOLE,), ("radar.calibration",))
    taken_from(student, before, start)
    added = {name for name in before if name.startswith("encoders.radar.calibration.")}
    assert added
    assert set(record["fresh"]) == added
    assert set(record["taken"]) == set(start.weights)


def test_fresh_parts_are_in_one_of_the_networks_alone() -> None:
    plain, calibrated = network("camera_radar", 0), network("camera_radar", 1, radar={"calibration": 3})
    with pytest.raises(MisfitError, match=r"init.fresh: the network has no part 'radar.calibration'"):
        apply_start(plain, start_of(network("camera_radar", 1)), (WHOLE,), ("radar.calibration",))
    with pytest.raises(MisfitError, match=r"encoders.radar.calibration.* is no fresh parameter, it is there"):
        apply_start(calibrated, start_of(calibrated), (WHOLE,), ("radar.calibration",))
    with pytest.raises(MisfitError, match=r"encoders.radar.calibration.* is missing there"):
        apply_start(calibrated, start_of(plain), (WHOLE,))


def test_the_digest_is_of_the_weights() -> None:
    a = {"x": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
    assert weights_digest(a) == weights_digest(dict(reversed(a.items())))
    assert weights_digest(a) == weights_digest({"x": a["x"].T.contiguous().T, "n": a["n"]})
    changed = (
        {"x": a["x"], "n": torch.tensor(4)},
        {"x": a["x"].reshape(3, 2), "n": a["n"]},
        {"x": a["x"].double(), "n": a["n"]},
        {"y": a["x"], "n": a["n"]},
        {"x": a["x"]},
    )
    assert len({weights_digest(one) for one in (a, *changed)}) == 6


def test_parts_by_name() -> None:
    assert covers("camera", "encoders.camera.neck.weight")
    assert covers("encoders.camera", "encoders.camera.neck.weight")
    assert covers("head", "head.weight")
    assert not covers("head", "heads.weight")
    assert not covers("camera", "cameras.weight")
    assert covers("*bias", "head.bias")
    names = ["encoders.camera.neck.weight", "head.bias"]
    assert known_parts(names) == ["camera", "camera.neck", "head"]
