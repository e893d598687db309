"""Boxes in the images and MonoDistill's losses on image-view levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from distill_data import CAMERAS, IMAGE, LEVELS, make_boxes, make_cameras, make_context, make_outputs, spec
from torch.nn import functional as F

from bevkd.config import MethodConfig
from bevkd.data.batch import Boxes
from bevkd.distill import build_method
from bevkd.distill.image_boxes import box_corners, image_rectangles, rectangle_mask
from bevkd.distill.methods.monodistill import MonoDistill, TopDownFusion
from bevkd.distill.pairwise import affinity
from bevkd.errors import ConfigError
from bevkd.geometry import box_corners as numpy_corners


def one_box(*values: float) -> Boxes:
    return Boxes(
        torch.tensor([values + (0.0,) * (9 - len(values))]), torch.zeros(1).long(), torch.zeros(1).long(), torch.ones(1)
    )


def method(**options: object) -> MonoDistill:
    torch.manual_seed(0)
    made = build_method(MethodConfig("monodistill", {"channels": 8, **options}), spec("camera"), spec("camera"))
    assert isinstance(made, MonoDistill)
    return made


def test_corners_are_those_of_the_data_pipeline() -> None:
    boxes = make_boxes([5])
    found = box_corners(boxes.boxes.double()).numpy()
    np.testing.assert_allclose(found, numpy_corners(boxes.boxes.numpy()), atol=1e-5)


def test_rectangle_by_hand() -> None:
    # 8 to 12 m ahead, 1 to 3 m to the left, 1 m high around the optical axis. f = 12, centre (12, 8).
    rectangle, seen = image_rectangles(one_box(10, 2, 0, 4, 2, 1, 0), make_cameras(1), torch.eye(4)[None])
    assert seen.tolist() == [[True, False]]
    want = [12 - 12 * 3 / 8, 8 - 12 * 0.5 / 8, 12 - 12 * 1 / 12, 8 + 12 * 0.5 / 8]
    assert rectangle[0, 0].tolist() == pytest.approx(want)


def test_rectangles_follow_both_augmentations() -> None:
    cameras, box = make_cameras(1), one_box(10, 2, 0, 4, 2, 1, 0)
    plain, _ = image_rectangles(box, cameras, torch.eye(4)[None])
    # The world turned by 90 degrees and flipped: the box turns with it, the picture stays.
    turn = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    turned, seen = image_rectangles(one_box(-2, 10, 0, 4, 2, 1, math.pi / 2), cameras, turn[None])
    assert seen[0, 0]
    assert turned[0, 0].tolist() == pytest.approx(plain[0, 0].tolist(), abs=1e-5)
    # The picture scaled by a half and shifted.
    aug = torch.tensor([[0.5, 0, 2], [0, 0.5, 1], [0, 0, 1]])
    cameras.image_aug = aug.expand(1, CAMERAS, 3, 3)
    moved, _ = image_rectangles(box, cameras, torch.eye(4)[None])
    assert torch.allclose(moved[0, 0], 0.5 * plain[0, 0] + torch.tensor([2, 1, 2, 1]))


def test_boxes_beside_and_behind_are_not_seen() -> None:
    cameras, still = make_cameras(1), torch.eye(4)[None]
    for place in ((0, 30, 0), (3, 30, 0), (0.5, -20, 0)):
        _, seen = image_rectangles(one_box(*place, 1, 1, 1, 0.3), cameras, still)
        assert not seen.any()
    # Around the camera: it fills the picture.
    rectangle, seen = image_rectangles(one_box(1, 0, 0, 6, 2, 2, 0), cameras, still)
    assert seen[0, 0]
    assert rectangle[0, 0].tolist() == [0, 0, IMAGE[1], IMAGE[0]]


def test_cells_touched_by_rectangles() -> None:
    rectangles = torch.tensor([[[3.9, 0.0, 8.0, 4.1]], [[20.0, 12.0, 21.0, 13.0]]])
    mask = rectangle_mask(rectangles, torch.tensor([[True], [True]]), torch.tensor([0, 1]), 2, (4, 6), IMAGE)
    assert mask.shape == (2, 1, 4, 6)
    assert mask[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert mask[1, 0].nonzero().tolist() == [[3, 5]]
    none = rectangle_mask(rectangles, torch.tensor([[False], [True]]), torch.tensor([0, 1]), 2, (4, 6), IMAGE)
    assert not none[0].any()


def test_affinity_is_the_dot_product_of_cells() -> None:
    level = torch.randn(2, 3, 4, 6)
    whole = affinity(level, (4, 6))
    assert whole.shape == (2, 24, 24)
    assert whole[1, 7, 20].item() == pytest.approx((level[1, :, 1, 1] * level[1, :, 3, 2]).sum().item(), rel=1e-5)
    pooled = affinity(level, (2, 3))
    small = F.avg_pool2d(level, 2).flatten(2)
    assert torch.allclose(pooled, small.transpose(1, 2) @ small, atol=1e-6)


def test_losses_by_the_formula() -> None:
    made, context = method(), make_context([3, 0, 2])
    student, teacher = make_outputs(3, 1), make_outputs(3, 2)
    targets = made.targets(teacher, context)
    losses = made.losses(student, targets, context)
    assert context.cameras is not None
    assert context.bev_aug is not None
    rectangles, seen = image_rectangles(context.boxes, context.cameras, context.bev_aug)
    fused = made.fusion([level.flatten(0, 1) for level in student.image])
    feature = pairs = 0.0
    for k, (level, adapter) in enumerate(zip(fused, made.adapters, strict=True)):
        own, wanted = adapter(level).unflatten(0, (3, CAMERAS)), teacher.image[k]
        mask = rectangle_mask(rectangles, seen, context.boxes.frame, 3, tuple(own.shape[-2:]), IMAGE)  # type: ignore[arg-type]
        for b in range(3):
            error = 0.5 * (own[b] - wanted[b]).square().mean(dim=1)[mask[b]]
            feature += error.mean().item() / 3 if len(error) else 0.0
        size = tuple(student.image[-1].shape[-2:])
        difference = affinity(own.flatten(0, 1), size) - affinity(wanted.flatten(0, 1), size)  # type: ignore[arg-type]
        pairs += difference.abs().mean().item()
    assert losses["image_feature"].item() == pytest.approx(feature, rel=1e-4)
    assert losses["image_affinity"].item() == pytest.approx(pairs, rel=1e-4)


def test_cells_where_the_teacher_is_zero_do_not_count() -> None:
    made, context = method(), make_context([4])
    teacher = make_outputs(1, 2)
    before = made.targets(teacher, context)["cell0"].values
    assert len(before) > 1
    cell = int(before[0])
    area = teacher.image[0].shape[-1] * teacher.image[0].shape[-2]
    teacher.image[0].flatten(-2)[0, cell // area, :, cell % area] = 0
    assert made.targets(teacher, context)["cell0"].values.tolist() == before[1:].tolist()


def test_frames_without_boxes_give_zero_with_a_graph() -> None:
    made, context = method(), make_context([0, 0])
    student = make_outputs(2, 1, grad=True)
    losses = made.losses(student, made.targets(make_outputs(2, 2), context), context)
    assert losses["image_feature"] == 0
    losses["image_feature"].backward(retain_graph=True)


def test_fusion_keeps_shapes_and_mixes_from_above() -> None:
    torch.manual_seed(0)
    fusion = TopDownFusion(LEVELS, 8)
    levels = [torch.randn(2, width, 8 >> k, 12 >> k) for k, width in enumerate(LEVELS)]
    out = fusion(levels)
    assert [o.shape for o in out] == [level.shape for level in levels]
    changed = fusion([*levels[:2], levels[2] + 1])
    assert not torch.equal(changed[0], out[0])  # the coarsest level reaches the finest
    changed = fusion([levels[0] + 1, *levels[1:]])
    assert torch.equal(changed[2], out[2])  # but not the other way


def test_a_teacher_without_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="image levels"):
        method(levels=4)
    made, context = method(), make_context([2])
    teacher = make_outputs(1, 2)
    teacher.features = {name: value for name, value in teacher.features.items() if not name.startswith("image")}
    with pytest.raises(ConfigError, match="image backbone"):
        made.targets(teacher, context)
