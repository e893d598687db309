"""The detector of 2D boxes: targets, loss, decoding, and the names that BEV detectors start from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from models_batch import model_config

from bevkd.classes import CLASSES
from bevkd.config import TrainConfig, load_run
from bevkd.data.batch import Batch, Boxes, Cameras
from bevkd.data.inputs.objects import KEY, UNKNOWN, ImageObjects
from bevkd.data.reads import reads_of
from bevkd.errors import ConfigError
from bevkd.models.detector import Detector, build_detector
from bevkd.models.heads.image_center import ImageCenterHead, ImageOutput
from bevkd.train.optim import build_optimizer
from bevkd.train.parts import covers

BOXES = torch.tensor([[10.0, 20, 30, 50], [100, 8, 160, 60], [12, 22, 27, 47], [4, 4, 6, 7]])
LABELS, IMAGE = torch.tensor([0, 3, 8, 9]), torch.tensor([0, 0, 1, 1])


def batch(images: int = 2, stride: int = 8, matrix: torch.Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    maps = torch.zeros(images, 64 // stride, 176 // stride, dtype=torch.uint8)
    maps[0, 3:6, 2:4], maps[0, 1:7, 13:20], maps[1, 0] = 1, 4, UNKNOWN
    cameras = Cameras(
        torch.randn(images, 1, 3, 64, 176, generator=generator),
        torch.eye(3).repeat(images, 1, 1, 1),
        torch.eye(4).repeat(images, 1, 1, 1),
        (torch.eye(3) if matrix is None else matrix).repeat(images, 1, 1, 1),
    )
    for box, label, image in zip(BOXES, LABELS, IMAGE, strict=True):  # painted, so that there is something to see
        x0, y0, x1, y1 = box.int().tolist()
        cameras.images[image, 0, :, y0:y1, x0:x1] = float(label) - 4.0
    out = Batch(
        tokens=[str(i) for i in range(images)],
        variants=[0] * images,
        labelled=torch.ones(images, dtype=torch.bool),
        bev_aug=torch.eye(4).repeat(images, 1, 1),
        boxes=Boxes.empty(),
        cameras=cameras,
    )
    out.extra[KEY] = ImageObjects(BOXES, LABELS, IMAGE, maps)
    return out


def detector(model: str = "image", **over: object) -> Detector:
    torch.manual_seed(0)
    return build_detector(model_config(model, "smoke", **over))


def head_of(network: Detector) -> ImageCenterHead:
    head = network.head
    assert isinstance(head, ImageCenterHead)
    return head


@pytest.mark.parametrize(("image", "camera"), [("image", "camera"), ("image_swin", "camera_swin")])
def test_backbone_and_neck_are_those_of_the_camera_detector(image: str, camera: str) -> None:
    def parts(network: Detector) -> dict[str, torch.Size]:
        names = ("camera.backbone", "camera.neck")
        return {k: v.shape for k, v in network.state_dict().items() if any(covers(name, k) for name in names)}

    mine, theirs = parts(detector(image)), parts(build_detector(model_config(camera, "smoke")))
    assert mine == theirs
    assert len(mine) > 20


def test_targets_against_a_naive_look() -> None:
    network = detector()
    cell = head_of(network).cell
    assert cell == 8
    shape = torch.Size((2, 10, 64 // cell, 176 // cell))
    target = network.criterion.targets(batch().extra[KEY], shape)
    peaks = {tuple(place) for place in (target.heatmap == 1).nonzero().tolist()}
    expected, cells = set(), {}
    for box, label, image in zip(BOXES.tolist(), LABELS.tolist(), IMAGE.tolist(), strict=True):
        u, v = (box[0] + box[2]) / 2 / cell, (box[1] + box[3]) / 2 / cell
        expected.add((image, label, int(v), int(u)))
        size = [(box[2] - box[0]) / cell, (box[3] - box[1]) / cell]
        code = [math.log(size[0]), math.log(size[1]), u - int(u), v - int(v)]
        cells[(image * shape[2] + int(v)) * shape[3] + int(u)] = code
    assert peaks == expected
    assert target.cell.tolist() == sorted(cells)
    assert torch.allclose(target.box, torch.tensor([cells[at] for at in sorted(cells)]))
    assert float(target.count) == 4
    # Of two objects with one centre the smaller one is learnt; both have their peak.
    nested = torch.tensor([[8.0, 8, 24, 24], [0, 0, 32, 32]])
    both = ImageObjects(nested, torch.tensor([1, 2]), torch.zeros(2).long(), None)
    target = network.criterion.targets(both, shape)
    assert torch.allclose(target.box, torch.tensor([[math.log(2), math.log(2), 0.0, 0.0]]))
    assert float(target.count) == 2


def test_classes_that_the_head_has_not_are_not_learnt() -> None:
    network = detector(head={"tasks": [["truck", "car"]]})
    shape = torch.Size((2, 2, 8, 22))
    target = network.criterion.targets(batch().extra[KEY], shape)
    assert (target.heatmap == 1).nonzero()[:, 1].tolist() == [1]  # the car is the second class
    losses = network.loss(network(batch()), batch())
    assert all(torch.isfinite(value) for value in losses.values())


def test_decoding_undoes_the_targets() -> None:
    network = detector()
    head, matrix = head_of(network), torch.tensor([[-0.5, 0.0, 90.0], [0.0, 0.5, 5.0], [0.0, 0.0, 1.0]])
    shape = torch.Size((2, 10, 8, 22))
    target = network.criterion.targets(batch().extra[KEY], shape)
    maps = torch.zeros(2, 8, 22, 4).flatten(0, 2)
    maps[target.cell] = target.box
    heat = torch.where(target.heatmap == 1, 6.0, -9.0)
    cameras = batch(matrix=matrix).cameras
    assert cameras is not None
    output = ImageOutput(heat, maps.unflatten(0, (2, 8, 22)).movedim(-1, 1), None, cameras, head.decode)
    found = output.boxes()
    assert found.frame.tolist() == sorted(found.frame.tolist())
    expected = {(int(i), int(k)): box for i, k, box in zip(IMAGE, LABELS, BOXES, strict=True)}
    assert len(found) == 4
    for box, label, image in zip(found.boxes, found.labels, found.frame, strict=True):
        x0, y0, x1, y1 = expected[int(image), int(label)].tolist()  # in pixels of the network's image
        source = torch.tensor([(90 - x1) / 0.5, (y0 - 5) / 0.5, (90 - x0) / 0.5, (y1 - 5) / 0.5])
        assert torch.allclose(box, source, atol=1e-3)


def test_one_batch_is_learnt() -> None:
    network, data = detector(), batch()
    optimizer = build_optimizer(network.named_parameters(), TrainConfig(lr=5e-3))
    first: dict[str, float] = {}
    for _ in range(60):
        losses = network.loss(network(data), data)
        first = first or {name: float(value.detach()) for name, value in losses.items()}
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert set(first) == {"total", "heatmap", "size", "offset", "classes"}
    assert all(float(value.detach()) < 0.5 * first[name] for name, value in losses.items())


def test_pixels_that_nobody_knows_are_not_learnt() -> None:
    network, data = detector(), batch()
    before = network.loss(network(data), data)["classes"]
    other = batch()
    other.extra[KEY] = replace(data.extra[KEY], classes=torch.full_like(data.extra[KEY].classes, UNKNOWN))
    assert float(network.loss(network(other), other)["classes"]) == 0.0
    assert float(before) > 0
    without = detector(head={"classes_fineness": 0})
    assert "classes" not in without.loss(without(data), data)


def test_batches_without_objects_have_a_gradient() -> None:
    network, data = detector(), batch()
    none = torch.zeros(0)
    data.extra[KEY] = ImageObjects(none.reshape(0, 4), none.long(), none.long(), data.extra[KEY].classes)
    losses = network.loss(network(data), data)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    assert float(losses["size"]) == 0.0


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="image2d wants sensors"):
        build_detector(replace(model_config("camera", "smoke"), kind="image2d"))
    with pytest.raises(ConfigError, match=r"head\.fineness must divide camera\.stride 16"):
        detector(head={"fineness": 3})


def test_labels_are_read_in_training_alone() -> None:
    run = load_run("image_weights", "smoke", 0)
    reads = reads_of(run.model, run.data)
    assert reads.names == ("camera", "objects")
    assert reads.without_targets().names == ("camera",)
    assert len(run.data.classes) == len(CLASSES)
