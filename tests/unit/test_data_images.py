from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bevkd.config.schema import ImageAugmentConfig
from bevkd.data.images import Horizon, ImageTransform, open_image, test_transform, train_transform
from bevkd.errors import DataError

identity_at_test = test_transform  # pytest would collect the library's function under its own name
del test_transform

PUBLISHED = ImageAugmentConfig(enabled=True, scale=(0.386, 0.55), test_scale=0.44, rotate_deg=5.4, flip=0.5)


def spot(size: tuple[int, int], u: float, v: float) -> Image.Image:
    """A dark image with a bright blob of radius 6 about (u, v), edge-based pixels."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    blob = 255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 18.0)
    return Image.fromarray(np.repeat(blob.astype(np.uint8)[..., None], 3, axis=2))


def noise(size: tuple[int, int]) -> Image.Image:
    """No pixel of it is black."""
    return Image.fromarray(np.random.default_rng(3).integers(60, 256, (*size, 3), dtype=np.uint8))


def centre(image: Image.Image) -> np.ndarray:
    weight = np.asarray(image, dtype=float)[..., 0]
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("crop_in_resize", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_matrix_says_where_pixels_go(seed: int, crop_in_resize: bool) -> None:
    rng = np.random.default_rng(seed)
    source, target = (90, 160), (64, 176)
    config = replace(PUBLISHED, rotate_deg=15.0)
    change = train_transform(source, target, config, rng)
    m = change.matrix()
    wanted = np.array([target[1] * rng.uniform(0.4, 0.6), target[0] * rng.uniform(0.35, 0.65), 1.0])
    u, v, _ = np.linalg.solve(m, wanted)
    if not (12 < u < source[1] - 12 and 12 < v < source[0] - 12):
        u, v = source[1] / 2, source[0] * 0.6
        wanted = m @ [u, v, 1]
    np.testing.assert_allclose(centre(change.apply(spot(source, u, v), crop_in_resize)), wanted[:2], atol=0.25)


def test_paper_numbers() -> None:
    change = identity_at_test((900, 1600), (256, 704))
    assert (change.resized, change.corner) == ((396, 704), (140, 0))
    np.testing.assert_allclose(change.matrix(), [[0.44, 0, 0], [0, 0.44, -140], [0, 0, 1]])
    rng = np.random.default_rng(0)
    scales, angles, flips = [], [], []
    for _ in range(400):
        change = train_transform((900, 1600), (256, 704), PUBLISHED, rng)
        scales.append(change.resized[1] / 1600)
        angles.append(change.rotate_deg)
        flips.append(change.flip)
        assert change.corner[0] == change.resized[0] - 256
        assert 0 <= change.corner[1] <= max(0, change.resized[1] - 704)
    assert 0.385 < min(scales) < 0.395
    assert 0.54 < max(scales) < 0.5501
    assert -5.4 <= min(angles) < -5
    assert 5 < max(angles) <= 5.4
    assert 0.4 < np.mean(flips) < 0.6


@pytest.mark.parametrize("height", [116, 80])
def test_horizons_of_all_cameras_come_to_lie_in_one_row(height: int) -> None:
    horizon = Horizon(0.5, 0.2)
    change = identity_at_test((height, 176), (64, 176), horizon)
    _, row, _ = change.matrix() @ [88, height / 2, 1]
    assert row == pytest.approx(0.2 * 64, abs=0.5)
    scales = replace(PUBLISHED, scale=(0.95, 1.1), test_scale=1.0, rotate_deg=0.0)
    for seed in range(5):
        change = train_transform((height, 176), (64, 176), scales, np.random.default_rng(seed), horizon)
        _, row, _ = change.matrix() @ [88, height / 2, 1]
        assert row == pytest.approx(0.2 * 64, abs=1.0)
    image = noise((height, 176))
    cut = np.asarray(identity_at_test((height, 176), (64, 176), horizon).apply(image))
    first = round(height / 2 - 0.2 * 64)
    kept = np.asarray(image)[first : first + 64]
    np.testing.assert_array_equal(cut[: len(kept)], kept)
    assert (cut[len(kept) :] == 0).all()


def test_narrow_images_are_padded_on_the_right() -> None:
    change = ImageTransform((90, 160), (64, 176), (64, 100), (0, 0))
    out = np.asarray(change.apply(Image.new("RGB", (160, 90), (9, 9, 9))))
    assert (out[:, :100] == 9).all()
    assert (out[:, 100:] == 0).all()


@pytest.mark.parametrize("crop_in_resize", [False, True])
def test_equal_sizes_are_left_alone(crop_in_resize: bool) -> None:
    change = identity_at_test((64, 176), (64, 176))
    np.testing.assert_array_equal(change.matrix(), np.eye(3))
    image = noise((64, 176))
    np.testing.assert_array_equal(change.apply(image, crop_in_resize), image)


@pytest.mark.parametrize(("scale", "fills"), [((0.25, 0.4), False), ((0.45, 0.55), True)])
@pytest.mark.parametrize("seed", range(4))
def test_cropping_in_the_resize_changes_the_rounding_only(seed: int, scale: tuple[float, float], fills: bool) -> None:
    image = noise((450, 800))
    config = replace(PUBLISHED, scale=scale)
    change = train_transform((450, 800), (128, 352), config, np.random.default_rng(seed))
    assert (change.resized[1] >= 352) == fills
    fast, slow = (np.asarray(change.apply(image, joint), dtype=int) for joint in (True, False))
    assert fast.shape == slow.shape == (128, 352, 3)
    np.testing.assert_array_equal((fast == 0).all(axis=-1), (slow == 0).all(axis=-1))
    assert np.abs(fast - slow).max() <= 2
    assert (fast != slow).mean() < 0.01


def test_cropping_in_the_resize_outside_of_the_image() -> None:
    """Rows above and columns beside the image are zero, and the image lies where the matrix says."""
    change = ImageTransform((90, 160), (64, 176), (45, 80), (-19, -60))
    image = Image.new("RGB", (160, 90), (9, 9, 9))
    out = np.asarray(change.apply(image, crop_in_resize=True))
    np.testing.assert_array_equal(out, np.asarray(change.apply(image)))
    u, v, _ = change.matrix() @ [0, 0, 1]
    expected = np.zeros((64, 176, 3), dtype=np.uint8)
    expected[int(v) : int(v) + 45, int(u) : int(u) + 80] = 9
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_unreadable_image(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as error:
        open_image(path, "abc")
    assert (error.value.file, error.value.token) == (path, "abc")


def test_truncated_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match="unreadable image"):
        open_image(path)
