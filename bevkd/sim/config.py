"""Settings of the simulator. Defaults are the `sim` scale without `conditions`; `SCALES` holds the named scales."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

from bevkd.errors import ConfigError

# Lighting and weather of the scenes of `conditions`, in turn: (night, rain).
COMBINATIONS = tuple(product((False, True), (False, True)))


@dataclass(frozen=True)
class SplitConfig:
    """Number of scenes per split and the keyframes in each.

    Few keyframes per scene keep the frames diverse, which is what a small training set needs most.

    Attributes:
        conditions: a further split to report on, of the nuScenes layout alone: as many scenes by day and by night, on
            dry roads and in rain, in every combination. Its scenes follow all others, which are the same without it.
    """

    train: int = 200
    tune: int = 50
    val: int = 75
    keyframes_per_scene: int = 4
    keyframe_hz: float = 2.0
    conditions: int = 0

    @property
    def scenes(self) -> dict[str, int]:
        """Split -> number of its scenes, in the order in which they are simulated; without splits that have none."""
        counts = {"train": self.train, "tune": self.tune, "val": self.val, "conditions": self.conditions}
        return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True)
class LidarConfig:
    """A spinning LiDAR. `sweeps` scans, `1 / rate_hz` apart, precede every keyframe; 9 fill the time between two."""

    rings: int = 16
    azimuths: int = 256
    elevation_deg: tuple[float, float] = (-30.67, 10.67)
    range_m: float = 60.0
    drop: float = 0.15  # probability that a return is lost at zero range ...
    drop_at_60m: float = 0.25  # ... and what 60 m add to it
    rain_drop: float = 0.05  # what rain adds to it
    noise_m: float = 0.02
    rate_hz: float = 20.0
    sweeps: int = 9


@dataclass(frozen=True)
class CameraConfig:
    """Six pinhole cameras. `horizon` is the row of the principal point as a fraction of the height. `sweeps` earlier
    images are written before every keyframe and, in nuScenes layout, those of `bevkd.sim.past` in any case.
    """

    height: int = 64
    width: int = 176
    horizon: float = 0.42
    fov_deg: float = 70.0
    fov_back_deg: float = 110.0
    jpeg_quality: int = 92
    brightness: tuple[float, float] = (0.6, 1.1)
    noise: tuple[float, float] = (0.005, 0.025)
    rate_hz: float = 12.0
    sweeps: int = 0


@dataclass(frozen=True)
class RadarConfig:
    """Five radars; `sweeps` earlier scans are written before every keyframe."""

    rays: int = 240  # around the full circle; those outside the field of view are not used
    fov_deg: float = 120.0
    range_m: float = 70.0
    range_noise_m: float = 0.15
    azimuth_noise_deg: float = 0.8
    speed_noise: float = 0.1
    miss: float = 0.15
    clutter: float = 4.0  # ghost detections per scan (mean)
    rate_hz: float = 13.0
    sweeps: int = 2


@dataclass(frozen=True)
class WorldConfig:
    """What a scene holds.

    Attributes:
        reach_m: objects are annotated while their centre is within this distance of the ego along x and along y.
        counts: mean number of objects placed per class (rows of barriers and cones count by piece).
        night, rain: probability of each; they are independent.
    """

    reach_m: float = 25.6
    counts: tuple[tuple[str, float], ...] = (
        ("car", 6.0),
        ("truck", 1.2),
        ("construction_vehicle", 1.0),
        ("bus", 1.0),
        ("trailer", 1.0),
        ("barrier", 2.6),
        ("motorcycle", 1.3),
        ("bicycle", 1.3),
        ("pedestrian", 5.0),
        ("traffic_cone", 3.0),
    )
    poles: tuple[int, int] = (4, 12)
    stones: tuple[int, int] = (3, 9)
    dumpsters: tuple[int, int] = (1, 5)
    vegetation: tuple[int, int] = (4, 12)
    night: float = 0.12
    rain: float = 0.2


@dataclass(frozen=True)
class LabelledConfig:
    """The published lists of labelled keyframes: how many keyframes in each of how many subsets."""

    count: int = 100
    subsets: int = 3


@dataclass(frozen=True)
class SimConfig:
    """All settings of a simulated dataset."""

    splits: SplitConfig = field(default_factory=SplitConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    lidar: LidarConfig = field(default_factory=LidarConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    radar: RadarConfig = field(default_factory=RadarConfig)
    labelled: LabelledConfig = field(default_factory=LabelledConfig)

    def record(self, seed: int) -> dict[str, Any]:
        """What `simulation.json` says: the seed and all settings."""
        config = asdict(self)
        if not self.splits.conditions:  # what had no such split before it was there keeps its bytes
            del config["splits"]["conditions"]
        return {"seed": seed, "config": config}

    def under_conditions(self, number: int) -> SimConfig:
        """The settings of a scene of `conditions`, in which lighting and weather are certain.

        Random numbers are drawn all the same: everything else is as it would be in any other scene. Each four scenes
        have the four combinations, in another order than the four before: neighbours take turns among the locations,
        and no combination is to keep to one of them.

        Args:
            number: of the scene within the split, from 0.
        """
        turn = (number + number // len(COMBINATIONS)) % len(COMBINATIONS)
        night, rain = COMBINATIONS[turn]
        return replace(self, world=replace(self.world, night=float(night), rain=float(rain)))

    def validate(self, conditions: bool = False) -> None:
        """Check the settings that would otherwise fail late.

        Args:
            conditions: whether the layout has the split of this name.

        Raises:
            ConfigError: a number is out of range; the message names it.
        """
        splits, between = self.splits, 1.0 / self.splits.keyframe_hz
        for name in ("train", "tune", "val", "keyframes_per_scene"):
            if getattr(splits, name) < 1:
                raise ConfigError(f"splits.{name} must be at least 1, got {getattr(splits, name)}")
        if splits.conditions and not conditions:
            raise ConfigError(
                f"splits.conditions must be 0, got {splits.conditions}: only nuScenes has this split here"
            )
        if splits.conditions < 0 or splits.conditions % len(COMBINATIONS):
            raise ConfigError(
                f"splits.conditions must be a multiple of {len(COMBINATIONS)} (by day and by night, dry and in rain),"
                f" got {splits.conditions}"
            )
        for name in ("lidar", "camera", "radar"):
            sensor = getattr(self, name)
            if sensor.sweeps < 0 or sensor.sweeps / sensor.rate_hz >= between:
                raise ConfigError(f"{name}.sweeps = {sensor.sweeps} do not fit between keyframes {between:.2f} s apart")
        frames = splits.train * splits.keyframes_per_scene
        if not 1 <= self.labelled.count <= frames:
            raise ConfigError(f"labelled.count = {self.labelled.count} but there are {frames} training keyframes")


_SIM = SimConfig()
_WITH_CONDITIONS = SplitConfig(conditions=32)

SCALES: dict[str, SimConfig] = {
    "smoke": replace(
        _SIM,
        splits=SplitConfig(train=8, tune=2, val=3, keyframes_per_scene=2, conditions=4),
        # With so few scenes every class has to be likely in each of them, or some seeds would miss one.
        world=replace(_SIM.world, counts=tuple((cls, max(mean, 2.0)) for cls, mean in _SIM.world.counts)),
        lidar=LidarConfig(sweeps=2),
        radar=RadarConfig(sweeps=1),
        labelled=LabelledConfig(count=12),
    ),
    "sim": replace(_SIM, splits=_WITH_CONDITIONS),
    "paper": replace(
        _SIM,
        splits=_WITH_CONDITIONS,
        world=replace(  # a larger area holds more
            _SIM.world,
            reach_m=50.0,
            counts=tuple((cls, 2 * mean) for cls, mean in _SIM.world.counts),
            poles=(10, 24),
            stones=(6, 18),
            dumpsters=(2, 10),
            vegetation=(10, 24),
        ),
        lidar=LidarConfig(rings=32, azimuths=1090, range_m=100.0, drop=0.05, drop_at_60m=0.1),
        camera=CameraConfig(height=900, width=1600, horizon=0.5, sweeps=5),
        radar=RadarConfig(rays=480, range_m=100.0),
    ),
}

# KITTI: a dense LiDAR and one camera that looks ahead, by day, on dry roads; objects are labelled farther away.
_KITTI = replace(
    _SIM,
    splits=SplitConfig(train=100, tune=25, val=50, keyframes_per_scene=2),
    world=replace(
        _SIM.world,
        reach_m=40.0,
        counts=tuple({**dict(_SIM.world.counts), "car": 16.0, "pedestrian": 12.0, "bicycle": 9.0}.items()),
        night=0.0,
        rain=0.0,
    ),
    lidar=LidarConfig(rings=24, azimuths=512, elevation_deg=(-24.8, 2.0), range_m=80.0, sweeps=0),
    # KITTI's own size: its difficulties are heights in pixels.
    camera=CameraConfig(height=375, width=1242, horizon=0.46, fov_deg=81.0),
)
KITTI_SCALES: dict[str, SimConfig] = {
    "smoke": replace(
        _KITTI,
        splits=SplitConfig(train=8, tune=2, val=3, keyframes_per_scene=2),
        lidar=replace(_KITTI.lidar, rings=16, azimuths=256),
        camera=replace(_KITTI.camera, height=188, width=621),
        labelled=LabelledConfig(count=12),
    ),
    "sim": _KITTI,
    "paper": replace(
        _KITTI,
        world=replace(
            _KITTI.world,
            reach_m=70.0,
            counts=tuple((cls, 2.5 * mean) for cls, mean in _KITTI.world.counts),
        ),
        lidar=LidarConfig(
            rings=64, azimuths=2083, elevation_deg=(-24.8, 2.0), range_m=120.0, drop=0.05, drop_at_60m=0.1, sweeps=0
        ),
    ),
}

# Waymo: LiDARs and cameras all around but at the back, ten frames a second. Frames of one segment show nearly the same:
# many short segments teach more than few long ones of as many frames.
_WAYMO = replace(
    _SIM,
    splits=SplitConfig(train=160, tune=40, val=60, keyframes_per_scene=2, keyframe_hz=10.0),
    world=replace(
        _SIM.world,
        counts=tuple({**dict(_SIM.world.counts), "car": 8.0, "pedestrian": 6.0, "bicycle": 4.0}.items()),
    ),
    lidar=LidarConfig(rings=20, azimuths=300, elevation_deg=(-17.6, 2.4), range_m=75.0, sweeps=0),
    camera=CameraConfig(height=116, width=176, horizon=0.5, fov_deg=50.0),
    radar=RadarConfig(sweeps=0),
)
WAYMO_SCALES: dict[str, SimConfig] = {
    "smoke": replace(
        _WAYMO,
        splits=replace(_WAYMO.splits, train=6, tune=2, val=3, keyframes_per_scene=3),
        lidar=replace(_WAYMO.lidar, rings=12, azimuths=200),
        camera=replace(_WAYMO.camera, height=64, width=96),
        labelled=LabelledConfig(count=12),
    ),
    "sim": _WAYMO,
    "paper": replace(
        _WAYMO,
        world=replace(
            _WAYMO.world,
            reach_m=75.0,
            counts=tuple((cls, 3 * mean) for cls, mean in _WAYMO.world.counts),
        ),
        lidar=LidarConfig(
            rings=64, azimuths=2650, elevation_deg=(-17.6, 2.4), range_m=75.0, drop=0.05, drop_at_60m=0.1, sweeps=0
        ),
        camera=CameraConfig(height=1280, width=1920, horizon=0.5, fov_deg=50.0),
    ),
}

# nuImages: images alone. Two times of each scene, two seconds apart; `val` is held out to see what was learnt.
_NUIMAGES = replace(_SIM, splits=SplitConfig(train=400, tune=0, val=60, keyframes_per_scene=2, keyframe_hz=0.5))
NUIMAGES_SCALES: dict[str, SimConfig] = {
    "smoke": replace(
        SCALES["smoke"], splits=SplitConfig(train=8, tune=0, val=3, keyframes_per_scene=2, keyframe_hz=0.5)
    ),
    "sim": _NUIMAGES,
    "paper": replace(SCALES["paper"], splits=_NUIMAGES.splits),
}
