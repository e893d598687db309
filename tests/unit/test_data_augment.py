from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bevkd.config.schema import AugmentConfig, BEVAugmentConfig
from bevkd.data.augment import (
    BEVTransform,
    draw_bev,
    fresh_generator,
    variant_bev,
    variant_generator,
    variant_of,
)
from bevkd.geometry import box_corners, points_in_boxes

FLIPS = BEVAugmentConfig(flip=True)
PUBLISHED = BEVAugmentConfig(rotate_deg=45.0, scale=(0.9, 1.1), translate_std=0.5, flip=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_points_stay_in_their_boxes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate(
        [rng.uniform(-50, 50, (5, 2)), rng.uniform(-2, 2, (5, 1)), rng.uniform(0.4, 9, (5, 3)),
         rng.uniform(-np.pi, np.pi, (5, 1)), rng.normal(size=(5, 2))], axis=1,
    )  # fmt: skip
    points = (boxes[:, None, :3] + rng.normal(0, 3, (5, 40, 3))).reshape(-1, 3)
    bev = draw_bev(replace(PUBLISHED, rotate_deg=180, scale=(0.5, 2.0), translate_std=3.0), rng)
    m = bev.matrix()
    moved = points @ m[:3, :3].T + m[:3, 3]
    np.testing.assert_array_equal(points_in_boxes(points, boxes), points_in_boxes(moved, bev.boxes(boxes)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_heading_and_velocity_follow_the_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bev = draw_bev(replace(PUBLISHED, rotate_deg=180), rng)
    box = np.array([[3.0, -4.0, 1.0, 4.0, 2.0, 1.5, rng.uniform(-np.pi, np.pi), *rng.normal(size=2)]])
    out, m = bev.boxes(box), bev.matrix()
    front = box_corners(box)[0, [2, 3]].mean(0) @ m[:3, :3].T + m[:3, 3]  # bottom middle of the front face
    np.testing.assert_allclose(box_corners(out)[0, [2, 3]].mean(0), front, atol=1e-9)
    np.testing.assert_allclose(out[0, 7:], m[:2, :2] @ box[0, 7:], atol=1e-12)
    np.testing.assert_allclose(out[0, 3:6], box[0, 3:6] * bev.scale)


def test_order_is_rotation_scale_translation_flip() -> None:
    bev = BEVTransform(np.pi / 2, 2.0, (1.0, 2.0, 3.0), flip_x=True)
    np.testing.assert_allclose(bev.matrix() @ [1, 0, 0, 1], [-1, 4, 3, 1], atol=1e-12)
    np.testing.assert_allclose(bev.boxes(np.array([[1.0, 0, 0, 1, 1, 1, 0.3, 1, 0]]))[0, 6], np.pi / 2 - 0.3)


def test_flip_variants_are_the_bits_of_their_number() -> None:
    config = AugmentConfig(variants=4, bev=FLIPS)
    for k in range(8):
        bev = variant_bev(config, k, variant_generator("token", k))
        assert bev == BEVTransform(flip_x=bool(k & 1), flip_y=bool(k >> 1 & 1))
    np.testing.assert_array_equal(variant_bev(config, 0, variant_generator("t", 0)).matrix(), np.eye(4))
    still = AugmentConfig(variants=4, bev=BEVAugmentConfig(rotate_deg=0, scale=(1, 1), translate_std=0, flip=False))
    assert variant_bev(still, 3, variant_generator("t", 3)) == BEVTransform()


def test_variants_depend_on_token_and_number_only() -> None:
    config = AugmentConfig(variants=4, bev=PUBLISHED)
    drawn = {(t, k): variant_bev(config, k, variant_generator(t, k)) for t in ("a", "b") for k in range(3)}
    assert len(set(drawn.values())) == 6
    assert all(variant_bev(config, k, variant_generator(t, k)) == bev for (t, k), bev in drawn.items())


def test_fresh_augmentations_depend_on_seed_epoch_and_token() -> None:
    keys = [(s, e, t) for s in (0, 1) for e in (0, 1) for t in ("a", "b")]
    drawn = {key: draw_bev(PUBLISHED, fresh_generator(*key)) for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert drawn == {key: draw_bev(PUBLISHED, fresh_generator(*key)) for key in keys}


def test_ranges_of_the_recipe() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_bev(PUBLISHED, rng) for _ in range(2000)]
    rotate, scale = np.array([b.rotate for b in drawn]), np.array([b.scale for b in drawn])
    move = np.array([b.translate for b in drawn])
    assert np.abs(rotate).max() <= np.pi / 4
    assert np.abs(rotate).max() > 0.78
    assert abs(rotate.mean()) < 0.04
    assert scale.min() >= 0.9
    assert scale.max() <= 1.1
    assert abs(scale.mean() - 1) < 0.005
    np.testing.assert_allclose(move.std(axis=0), 0.5, atol=0.03)
    assert {(b.flip_x, b.flip_y) for b in drawn} == {(x, y) for x in (False, True) for y in (False, True)}


@pytest.mark.parametrize("variants", [1, 4])
def test_epochs_choose_all_variants_evenly(variants: int) -> None:
    chosen = np.array([variant_of(5, epoch, f"t{i}", variants) for epoch in range(20) for i in range(50)])
    assert np.bincount(chosen, minlength=variants).min() > 0.8 * len(chosen) / variants


def test_where_labels_cover_one_side_front_and_back_are_never_flipped() -> None:
    only_flips = BEVAugmentConfig(flip=True, flip_x=False)
    variants = [variant_bev(AugmentConfig(variants=2, bev=only_flips), k, variant_generator("a", k)) for k in (0, 1)]
    assert [(v.flip_x, v.flip_y) for v in variants] == [(False, False), (False, True)]
    rng = np.random.default_rng(0)
    drawn = [draw_bev(replace(PUBLISHED, flip_x=False), rng) for _ in range(60)]
    assert not any(v.flip_x for v in drawn)
    assert 10 < sum(v.flip_y for v in drawn) < 50
    assert not any(v.flip_y for v in [draw_bev(replace(PUBLISHED, flip=False), rng) for _ in range(20)])
