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
        needs: names of other inputs that it is made from, with their augmentation, so that it comes after them.
        target: read by losses alone: a network that is not trained does without.
        camera_sweeps: looks up images between keyframes.
        camera_past: looks up the earlier images that the index lists for each frame.
    """

    name: ClassVar[str]
    sensors: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]] = ()
    target: ClassVar[bool] = False
    camera_sweeps: ClassVar[bool] = False
    camera_past: ClassVar[bool] = False

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
class LidarVirtual(Input):
    """What 2D masks add to the same sweeps: painted and virtual points, `Batch.extra["lidar_virtual"]`.

    Attributes:
        sweeps, stride: as of `Lidar`.
    """

    name = "lidar_virtual"
    sensors = ("lidar",)
    sweeps: int = 0
    stride: int = 1


@dataclass(frozen=True)
class RadarPoints(Input):
    """Points of all radars; `sweeps` earlier ones of each are merged."""

    sensors = ("radar",)
    sweeps: int = 0


@dataclass(frozen=True)
class Radar(RadarPoints):
    """Without what is invalid or ambiguous, `Batch.radar`."""

    name = "radar"


@dataclass(frozen=True)
class RadarFeatures(RadarPoints):
    """With the states that the sensor gives them, `Batch.extra["radar_features"]`.

    Attributes:
        filtered: leave out points that the nuScenes devkit takes for invalid or ambiguous.
        advance: move points by their age times their velocity over ground.
        released_augment: augmentation turns (rcs, vx) in place of (vx, vy), as CRKD's public code does by mistake.
    """

    name = "radar_features"
    filtered: bool = False
    advance: bool = True
    released_augment: bool = False


@dataclass(frozen=True)
class Camera(Input):
    """Images of the keyframe, `Batch.cameras`.

    Attributes:
        size: height and width (pixels).
        mean, std: of their normalisation, per RGB channel.
        crop_in_resize: compute only the pixels that are kept.
        horizon: row of the principal point as a share of the height; None: the bottom rows are kept.
    """

    name = "camera"
    sensors = ("camera",)
    size: tuple[int, int]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop_in_resize: bool = False
    horizon: float | None = None


@dataclass(frozen=True)
class CameraPast(Input):
    """One earlier set of images of the same cameras, `Batch.extra["camera_past"]`; places as of `PastConfig`.

    Attributes:
        train: first and last place that is drawn from in training.
        test: place at test time.
    """

    name = "camera_past"
    sensors = ("camera",)
    needs = ("camera",)
    camera_past = True
    train: tuple[int, int] = (2, 8)
    test: int = 5


@dataclass(frozen=True)
class Projected(Input):
    """Depths of the LiDAR points of the key sweep as the cameras see them; the nearest one per block of pixels.

    Attributes:
        stride: side of a block (pixels of the images).
    """

    sensors = ("lidar", "camera")
    needs = ("camera",)
    stride: int = 1


@dataclass(frozen=True)
class LidarImage(Projected):
    """In place of the colours of the images, `Cameras.lidar`."""

    name = "lidar_image"


@dataclass(frozen=True)
class Depth(Projected):
    """Depths to be taught, `Cameras.depth`."""

    name = "depth"
    target = True


@dataclass(frozen=True)
class Objects(Input):
    """2D boxes and a label map of the objects in the images, `Batch.extra["objects"]`.

    Attributes:
        stride: side of a cell of the label map (pixels of the images); 0: no map.
    """

    name = "objects"
    sensors = ("camera",)
    needs = ("camera",)
    target = True
    stride: int = 0


_Kind = TypeVar("_Kind", bound=Input)


@dataclass(frozen=True)
class Reads:
    """What is read of a frame: at most one declaration of each name, those that need others last."""

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
        return cls(tuple(sorted(found.values(), key=lambda one: bool(one.needs))))

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

    @property
    def camera_sweeps(self) -> bool:
        """Whether images between keyframes are looked up."""
        return any(one.camera_sweeps for one in self.inputs)

    @property
    def camera_past(self) -> bool:
        """Whether earlier images that the index lists are looked up."""
        return any(one.camera_past for one in self.inputs)

    def get(self, kind: type[_Kind]) -> _Kind | None:
        """The declaration of a kind, if there is one."""
        return next((one for one in self.inputs if isinstance(one, kind)), None)

    def check(self) -> None:
        """Whether everything is there that its inputs are made from.

        Raises:
            ConfigError: an input needs another that is not read.
        """
        for one in self.inputs:
            if missing := set(one.needs) - set(self.names):
                raise ConfigError(f"input {one.name!r} needs {min(missing)!r}, which is not read")

    def without_targets(self) -> Reads:
        """What a network reads that is not trained."""
        return Reads(tuple(one for one in self.inputs if not one.target))


def reads_of(model: ModelConfig, data: DataConfig) -> Reads:
    """What a detector of these settings reads of a frame, trained on this data: what its encoders' settings say,
    and those of a head that wants labels of its own.

    Raises:
        ConfigError: a sensor without an encoder, or two that want different things of one name.
    """
    found: list[Input] = []
    for sensor in model.sensors:
        found += model.encoder(sensor).reads(model, data).inputs
    if hasattr(model.head, "reads"):
        found += model.head.reads(model, data).inputs
    return Reads.of(*found)
