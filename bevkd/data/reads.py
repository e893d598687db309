"""What a network reads of a frame, as declarations: they drive index, loader and batch.

Every declaration belongs to a reader of the same name in `bevkd.data.inputs`, which knows how to load, augment and
collate it. A new kind of input is a new declaration and a new reader. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from bevkd.errors import ConfigError

if TYPE_CHECKING:
    from bevkd.config.schema import DataConfig, ModelConfig


@dataclass(frozen=True)
class Input:
    """One thing to read of a frame.

    Attributes:
        name: of the reader.
        sensors: modalities of which every frame must have a record.
        derived: made from other inputs and their augmentation, so read after them.
        target: read by losses alone: a network that is not trained does without.
    """

    name: ClassVar[str]
    sensors: ClassVar[tuple[str, ...]]
    derived: ClassVar[bool] = False
    target: ClassVar[bool] = False

    @property
    def looks_up(self) -> tuple[str, ...]:
        """Further modalities whose records it looks up."""
        return ()


@dataclass(frozen=True)
class Lidar(Input):
    """Points of the key sweep and of earlier ones, `Batch.points`.

    Attributes:
        sweeps: earlier sweeps to merge.
        stride: take every k-th earlier sweep.
        in_view: drop points that no camera of the frame sees.
    """

    name = "lidar"
    sensors = ("lidar",)
    sweeps: int = 0
    stride: int = 1
    in_view: bool = False

    @property
    def looks_up(self) -> tuple[str, ...]:
        """Where the cameras stand, for points in view."""
        return ("camera",) if self.in_view else ()


@dataclass(frozen=True)
class Radar(Input):
    """Points of all radars, `Batch.radar`; `sweeps` earlier ones of each are merged."""

    name = "radar"
    sensors = ("radar",)
    sweeps: int = 0


@dataclass(frozen=True)
class Camera(Input):
    """Images of the keyframe at a size (height, width) in pixels, `Batch.cameras`."""

    name = "camera"
    sensors = ("camera",)
    size: tuple[int, int]


@dataclass(frozen=True)
class LidarImage(Input):
    """Depths of the LiDAR points of the key sweep at the pixels of the images, `Cameras.lidar`."""

    name = "lidar_image"
    sensors = ("lidar", "camera")
    derived = True


@dataclass(frozen=True)
class Depth(Input):
    """Depth targets from the LiDAR points of the key sweep, one per block of `stride` pixels, `Cameras.depth`."""

    name = "depth"
    sensors = ("lidar", "camera")
    derived = True
    target = True
    stride: int


_Kind = TypeVar("_Kind", bound=Input)


@dataclass(frozen=True)
class Reads:
    """What is read of a frame: at most one declaration of each name, derived ones last."""

    inputs: tuple[Input, ...] = ()

    @classmethod
    def of(cls, *inputs: Input) -> Reads:
        """These inputs together.

        Raises:
            ConfigError: two of them want different things of one name.
        """
        found: dict[str, Input] = {}
        for one in inputs:
            if found.setdefault(one.name, one) != one:
                raise ConfigError(f"one frame cannot be read both as {found[one.name]} and as {one}")
        return cls(tuple(sorted(found.values(), key=lambda one: one.derived)))

    def __or__(self, other: Reads) -> Reads:
        return Reads.of(*self.inputs, *other.inputs)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(one.name for one in self.inputs)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Modalities of which every frame must have a record."""
        return tuple(dict.fromkeys(sensor for one in self.inputs for sensor in one.sensors))

    @property
    def records(self) -> tuple[str, ...]:
        """Modalities whose records are looked up."""
        return tuple(dict.fromkeys((*self.sensors, *(sensor for one in self.inputs for sensor in one.looks_up))))

    def get(self, kind: type[_Kind]) -> _Kind | None:
        """The declaration of a kind, if there is one."""
        return next((one for one in self.inputs if isinstance(one, kind)), None)

    def without_targets(self) -> Reads:
        """What a network reads that is not trained."""
        return Reads(tuple(one for one in self.inputs if not one.target))


def reads_of(model: ModelConfig, data: DataConfig) -> Reads:
    """What a detector of these settings reads of a frame, trained on this data: what its encoders' settings say.

    Raises:
        ConfigError: two of them want different things of one name.
    """
    parts: list[Reads] = [getattr(model, sensor).reads(model, data) for sensor in model.sensors]
    return Reads.of(*(one for part in parts for one in part.inputs))
