"""Augmentation parameters from (seed, epoch, token) or from a token's fixed variants, and what they do to boxes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevkd.config.schema import AugmentConfig, BEVAugmentConfig
from bevkd.geometry import wrap_angle

Array = NDArray[np.float64]

# Streams of random numbers that must not be the same although their other seeds are.
_FRESH, _VARIANT, _CHOICE = 1, 2, 3


@dataclass(frozen=True)
class BEVTransform:
    """`Flip @ Trans @ Scale @ Rot`: one matrix for points, boxes and camera frustum.

    Attributes:
        rotate: counter-clockwise (rad).
        scale: factor of all lengths.
        translate: metres along x, y, z.
        flip_x, flip_y: negate x, negate y.
    """

    rotate: float = 0.0
    scale: float = 1.0
    translate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flip_x: bool = False
    flip_y: bool = False

    def matrix(self) -> Array:
        """Augmented ego from ego, (4, 4)."""
        cos, sin = np.cos(self.rotate), np.sin(self.rotate)
        m = np.eye(4)
        m[:3, :3] = self.scale * np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        m[:3, 3] = self.translate
        return np.diag([-1.0 if self.flip_x else 1.0, -1.0 if self.flip_y else 1.0, 1.0, 1.0]) @ m

    def boxes(self, boxes: Array) -> Array:
        """Boxes (N, 9) in the augmented frame."""
        m = self.matrix()
        out = np.array(boxes, dtype=np.float64)
        out[:, :3] = boxes[:, :3] @ m[:3, :3].T + m[:3, 3]
        out[:, 3:6] *= self.scale
        yaw = boxes[:, 6] + self.rotate
        if self.flip_x:
            yaw = np.pi - yaw
        if self.flip_y:
            yaw = -yaw
        out[:, 6] = wrap_angle(yaw)
        out[:, 7:9] = boxes[:, 7:9] @ m[:2, :2].T
        return out


def generator(*key: int | str) -> np.random.Generator:
    """A generator that depends on nothing but `key`."""
    words = [
        int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
        if isinstance(part, str)
        else part
        for part in key
    ]
    return np.random.default_rng(words)


def own_stream(rng: np.random.Generator, name: str) -> np.random.Generator:
    """A stream for a part of a sample called `name`: it depends on what `rng` was seeded with, not on what was drawn
    from it, and leaves its draws as they are. So parts that are new move none that were there before.
    """
    seed = rng.bit_generator.seed_seq
    assert isinstance(seed, np.random.SeedSequence)
    word = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")
    return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, word)))


def fresh_generator(seed: int, epoch: int, token: str) -> np.random.Generator:
    """Source of the augmentation of a frame in one epoch."""
    return generator(_FRESH, seed, epoch, token)


def variant_generator(token: str, variant: int) -> np.random.Generator:
    """Source of a fixed variant of a frame: the same in every run, so that teacher caches can be shared."""
    return generator(_VARIANT, variant, token)


def variant_of(seed: int, epoch: int, token: str, variants: int) -> int:
    """Which of the fixed variants a frame uses in an epoch."""
    return int(generator(_CHOICE, seed, epoch, token).integers(variants))


def flips_only(config: BEVAugmentConfig) -> bool:
    """Whether the BEV augmentation consists of flips and nothing else."""
    return config.rotate_deg == 0 and tuple(config.scale) == (1.0, 1.0) and config.translate_std == 0


def draw_bev(config: BEVAugmentConfig, rng: np.random.Generator) -> BEVTransform:
    """A random BEV transform."""
    angle = np.deg2rad(config.rotate_deg)
    rotate = float(rng.uniform(-angle, angle))
    scale = float(rng.uniform(*config.scale))
    x, y, z = rng.normal(0.0, config.translate_std, 3) if config.translate_std > 0 else np.zeros(3)
    flip_x, flip_y = (rng.random(2) < 0.5) & (config.flip and config.flip_x, config.flip)
    return BEVTransform(rotate, scale, (float(x), float(y), float(z)), bool(flip_x), bool(flip_y))


def variant_bev(config: AugmentConfig, variant: int, rng: np.random.Generator) -> BEVTransform:
    """BEV transform of a fixed variant.

    Where flips are all there is, variant k is (flip_x, flip_y) = (k & 1, k >> 1 & 1): four variants hold every
    case once. Without flips of front and back it is flip_y = k & 1.
    """
    if flips_only(config.bev):
        flip = config.bev.flip
        if not config.bev.flip_x:
            return BEVTransform(flip_y=flip and bool(variant & 1))
        return BEVTransform(flip_x=flip and bool(variant & 1), flip_y=flip and bool(variant >> 1 & 1))
    return draw_bev(config.bev, rng)
