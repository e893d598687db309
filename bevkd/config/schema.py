"""The settings of a run as frozen dataclasses; those of a stage stand beside its class (`bevkd.config.stages`).

YAML files hold differences from the defaults only. A default that is changed makes other runs of those that rely on it:
`edition` of its class goes up with it (`bevkd.config.identity`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.classes import CLASSES
from bevkd.config.bounds import (
    DISTINCT,
    KNOWN_CLASSES,
    RANGE,
    Angle,
    Borders,
    Cell,
    Classes,
    Colour,
    ColourSpread,
    Count,
    Epsilon,
    Factor,
    Few,
    Length,
    Name,
    NameOrNone,
    PastPlace,
    PathText,
    Place,
    Seed,
    Share,
    Some,
    SplitNames,
    Spread,
    Words,
    check_cells,
)
from bevkd.config.classes import check_categories
from bevkd.config.marks import CAMERA, LIDAR, PAST, RADAR, VOLATILE
from bevkd.config.stages import Part, Registered, Stage, default_stage, parse_settings
from bevkd.config.tiers import RowTier
from bevkd.config.training import InitConfig, TrainConfig
from bevkd.errors import ConfigError
from bevkd.geometry import Area, BEVGrid
from bevkd.registry import settings
from bevkd.splits import split_names

_STRICT = ConfigDict(extra="forbid")
Sensor: TypeAlias = Literal["lidar", "camera", "radar"]
ENCODERS: dict[str, Stage] = {
    "lidar": Stage("lidar_encoder", "voxel", optional=True),
    "camera": Stage("camera_encoder", "lss", optional=True),
    "radar": Stage("radar_encoder", "", optional=True),  # none is the usual one: it has to be named
}
FUSER = Stage("fuser", "concat", optional=True)


def branches(encoder: Any) -> tuple[str, ...]:
    """Maps that a sensor encoder makes to be fused, by its settings or their class; none: one, named as the sensor."""
    named: tuple[str, ...] = getattr(encoder, "branches", ())
    return named


@dataclass(frozen=True, config=_STRICT)
class GridConfig:
    """BEV grid in the ego frame: half side (m), cell (m), and the height range that encoders see (m).

    A LiDAR whose labels cover one side only has another range along x or y, given by its two ends.

    Attributes:
        reach: half side of the square around the vehicle (m).
        x, y: ends of another range than that square's (m); null: as `reach` says.
        cell: side of a cell (m).
        z_min, z_max: heights that encoders look at (m).
    """

    reach: Length = 54.0
    x: Annotated[tuple[Place, Place], RANGE] | None = None
    y: Annotated[tuple[Place, Place], RANGE] | None = None
    cell: Cell = 0.6
    z_min: Place = -3.0
    z_max: Place = 5.0

    def __post_init__(self) -> None:
        if self.z_min >= self.z_max:
            raise ValueError(f"z_min {self.z_min:g} is not below z_max {self.z_max:g}")
        check_cells(self.area, self.cell)

    @property
    def area(self) -> Area:
        """What the grid covers."""
        around = (-self.reach, self.reach)
        return Area(*(self.x or around), *(self.y or around))

    def build(self) -> BEVGrid:
        """The grid of the dense BEV maps.

        Raises:
            ConfigError: the area is not a whole number of cells.
        """
        try:
            return BEVGrid.over(self.area, self.cell)
        except ValueError as error:
            raise ConfigError(f"model.grid: {error}") from None


@dataclass(frozen=True, config=_STRICT)
class NormConfig:
    """Of every batch norm outside of the image backbone, unless a stage has its own.

    Attributes:
        eps: added to variances.
        momentum: share of a batch in the running statistics.
    """

    eps: Epsilon = 1e-3
    momentum: Share = 0.01

    def of(self, stage: Any) -> NormConfig:
        """What the settings of a stage say instead: its `norm_eps` and `norm_momentum`, where they say any."""
        own = {name: getattr(stage, f"norm_{name}", None) for name in ("eps", "momentum")}
        return replace(self, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """A detector: sensors, stages, head. Each stage's settings are those of the class that its `kind` chooses.

    Attributes:
        kind: of the whole; the others are the settings of `bev`, a pipeline of stages, and of what shares them.
        sensors: that it has an encoder for, in the order of fusion.
        grid: of all dense BEV maps.
        norm: batch norms.
        lidar, camera, radar: encoders; None where the network has none.
        fuser: of several maps; None for one.
        bev: encoder of the (fused) BEV map.
        head: detection head, which also owns
        loss, decode: how its outputs are taught, and made boxes of.
    """

    kind: Annotated[Name, Registered("detector")] = "bev"
    sensors: Annotated[tuple[Sensor, ...], Field(min_length=1), DISTINCT] = ("lidar",)
    grid: GridConfig = GridConfig()
    norm: NormConfig = NormConfig()
    lidar: Annotated[Any, ENCODERS["lidar"], LIDAR] = None
    camera: Annotated[Any, ENCODERS["camera"], CAMERA] = None
    radar: Annotated[Any, ENCODERS["radar"], RADAR] = None
    fuser: Annotated[Any, FUSER] = None
    bev: Annotated[Any, Stage("bev_encoder", "second_fpn")] = default_stage("bev_encoder", "second_fpn")
    head: Annotated[Any, Stage("head", "center")] = default_stage("head", "center")
    loss: Annotated[Any, Part("loss")] = None
    decode: Annotated[Any, Part("decode")] = None

    def __post_init__(self) -> None:
        """Defaults of the encoders that there are; loss and decoding as the head has them."""
        wanted: dict[str, Any] = {}
        for sensor in self.sensors:
            if getattr(self, sensor) is None and ENCODERS[sensor].default:
                wanted[sensor] = ENCODERS[sensor].parse({})
        for name in ("loss", "decode"):
            own, value = settings(name, self.head.kind), getattr(self, name)
            if value is None or isinstance(value, dict):
                wanted[name] = parse_settings(own, value or {}, name)
            elif not isinstance(value, own):
                raise ValueError(f"{name}: head {self.head.kind!r} wants {own.__name__}, not {type(value).__name__}")
        for name, value in wanted.items():
            object.__setattr__(self, name, value)
        if len(self.maps) > 1 and self.fuser is None:
            object.__setattr__(self, "fuser", FUSER.parse({}))

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the BEV maps that are fused, in order: those of the sensors, or of the branches of an encoder."""
        return tuple(name for sensor in self.sensors for name in branches(getattr(self, sensor)) or (sensor,))

    @property
    def finer(self) -> int:
        """Cells of the map that goes into the BEV encoder per cell of the grid, along each axis."""
        return int(getattr(self.bev, "finer", 1))

    def encoder(self, sensor: str) -> Any:
        """Settings of the encoder of a sensor.

        Raises:
            ConfigError: there is none.
        """
        settings = getattr(self, sensor)
        if settings is None:
            raise ConfigError(f"model.sensors: {sensor!r} has no encoder: model.{sensor}.kind names one")
        return settings


@dataclass(frozen=True, config=_STRICT)
class ImageAugmentConfig:
    """Per-camera image augmentation; identity when `enabled` is false.

    Attributes:
        scale: range of factors, for images whose factor at test time is `test_scale`.
        rotate_deg: largest angle.
        flip: probability.
        enabled: none of it otherwise.
        test_scale: factor from an image as it is stored to the one at test time, for which `scale` was chosen.
    """

    enabled: bool = False
    scale: Annotated[tuple[Factor, Factor], RANGE] = (1.0, 1.0)
    test_scale: Factor = 1.0
    rotate_deg: Angle = 0.0
    flip: Share = 0.0

    def unread(self) -> tuple[str, ...]:
        """Settings that mean nothing beside the others."""
        return () if self.enabled else ("scale", "test_scale", "rotate_deg", "flip")


@dataclass(frozen=True, config=_STRICT)
class BEVAugmentConfig:
    """BEV augmentation: one matrix for points, boxes and camera frustum.

    Attributes:
        rotate_deg: largest angle about the z axis.
        scale: range of factors of all lengths.
        translate_std: standard deviation of a shift along each axis (m).
    """

    rotate_deg: Angle = 0.0
    scale: Annotated[tuple[Factor, Factor], RANGE] = (1.0, 1.0)
    translate_std: Spread = 0.0
    flip: bool = False  # left and right
    flip_x: bool = True  # also front and back, where `flip`; not where labels cover one side only


@dataclass(frozen=True, config=_STRICT)
class AugmentConfig:
    """Augmentation. With `variants` > 0 every sample has that many fixed, replayable augmentations (teacher caches
    need them); 0 draws a new one each epoch from (seed, epoch, sample). Unlabelled frames are many and each is seen a
    few times only: `unlabelled_variants` > 0 gives them fewer fixed augmentations than the labelled ones.

    Attributes:
        variants: fixed augmentations of every sample; 0: a new one each epoch.
        bev: of the scene: points, boxes and cameras alike.
        image: of each camera's picture.
    """

    variants: Few = 0
    unlabelled_variants: Few = 0  # at most `variants`; 0: as many
    image: Annotated[ImageAugmentConfig, CAMERA] = ImageAugmentConfig()
    bev: BEVAugmentConfig = BEVAugmentConfig()
    # Class -> boxes to reach per frame; for detectors that read nothing but LiDAR, unless paste_unseen.
    gt_paste: Annotated[dict[Words, Few], KNOWN_CLASSES, LIDAR] = Field(default_factory=dict)
    # Paste points and boxes also where other sensors are read, which show nothing of them, as BEVFusion and CRKD do.
    paste_unseen: Annotated[bool, LIDAR] = False


@dataclass(frozen=True, config=_STRICT)
class PastConfig:
    """Which earlier images cameras with a past look back at (DistillBEV spec, 3.1): places in a list of sets that are
    a quarter of a second apart, 0 the first one before the keyframe. Place k is that of the sets (k + 1) / 4 s before
    it, to the nearest quarter; where cameras recorded keyframes alone, not every place is taken.

    Attributes:
        train: first and last place; each time one of the sets there is drawn. Where none is, the nearest one.
        test: place; the set nearest to it.
    """

    train: Annotated[tuple[PastPlace, PastPlace], RANGE] = (2, 8)
    test: PastPlace = 5


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which frames, and what of them.

    Attributes:
        root: folder of the data set.
        version: nuScenes: which of its versions.
        index: what `bevkd convert` made of it.
        train_split: trained on; several are joined by `+`.
        tune_split: settings are chosen on it.
        report_split: tables report it.
        radar_sweeps: previous sweeps of each radar.
        classes: that are learnt.
        cbgs: class-balanced sampling.
        image_mean, image_std: of the normalisation, per RGB channel of 0 to 255.
        augment: of training frames.
    """

    kind: Annotated[Name, Registered("reader")] = "nuscenes"  # the reader
    root: PathText = "data/nuscenes"
    version: NameOrNone = "v1.0-trainval"
    # Folders outside of `root` that links within it may lead to.
    link_targets: Annotated[tuple[PathText, ...], VOLATILE] = ()
    index: PathText = "data/index/nuscenes"
    train_split: SplitNames = "train"
    tune_split: Annotated[SplitNames, VOLATILE] = "tune"
    report_split: Annotated[SplitNames, VOLATILE] = "val"
    train_stride: Some = 1  # train on every k-th keyframe of each scene (Waymo "D5": 5)
    lidar_sweeps: Annotated[Few, LIDAR] = 10  # previous sweeps beside the key sweep
    # Every k-th previous sweep: as many points over a longer time.
    lidar_sweep_stride: Annotated[Some, LIDAR] = 1
    # Only points that a camera sees, where labels cover no others (KITTI).
    lidar_in_view: Annotated[bool, LIDAR] = False
    radar_sweeps: Annotated[Few, RADAR] = 6
    classes: Classes = CLASSES
    # Own category names and the classes they count as (null: none); also said by a mapping in `classes`.
    categories: dict[Words, Words | None] = Field(default_factory=dict)
    # Images may have another size than their calibration was made for: intrinsics are scaled with them.
    rescale_images: Annotated[bool, CAMERA] = False
    min_points: Count = 1  # LiDAR + radar points a training box must have
    # Only boxes whose centre a camera sees, in training and (Waymo) in evaluation, where detections elsewhere are left
    # out, too: as in Waymo's camera-only challenge, whose cameras do not look back.
    boxes_in_view: bool = False
    # Training boxes that count: those with a corner in the grid's area and height and their centre in the area, or all
    # with such a corner (UniDistill spec, 3).
    box_range: Literal["centre", "corner"] = "centre"
    cbgs: bool = False
    image_mean: Annotated[tuple[Colour, Colour, Colour], CAMERA] = (123.675, 116.28, 103.53)
    image_std: Annotated[tuple[ColourSpread, ColourSpread, ColourSpread], CAMERA] = (58.395, 57.12, 57.375)
    # Row of the principal point in images that are cut to size, as a share of their height. None: the bottom rows stay;
    # cameras whose images differ in height (Waymo) then show one distance in different rows.
    image_horizon: Annotated[Share | None, CAMERA] = None
    # Compute only the pixels that are kept: faster, with other rounding of some.
    crop_in_resize: Annotated[bool, CAMERA] = False
    past: Annotated[PastConfig, PAST] = PastConfig()  # of cameras with a past
    memory_cache: Annotated[bool, VOLATILE] = False  # keep decoded frames in memory: for small datasets
    # GB of prepared samples with images that are kept on disk beside an index, of frames whose augmentations are fixed
    # and of those at test time: a run reads what another has made. 0: none.
    store_gb: Annotated[Spread, VOLATILE] = 0.0
    max_range: Length | None = None  # evaluation: cap of every class range (m); none: the official ranges
    range_bins: Annotated[Borders, VOLATILE] = (0.0, 20.0, 30.0, 50.0)  # nuScenes: groups by range of a breakdown (m)
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self) -> None:
        """Classes that categories count as are classes that are learnt."""
        if self.categories:
            try:
                check_categories(self.categories, "categories")
            except ConfigError as error:
                raise ValueError(str(error)) from None
            more = [name for name in self.categories.values() if name is not None and name not in self.classes]
            object.__setattr__(self, "classes", (*self.classes, *dict.fromkeys(more)))

    def split(self, which: str) -> str:
        """Name of the split that is reported (`report`), of the one for tuning (`tune`), or any other by its own name.

        Raises:
            ConfigError: the split is part of what is trained on.
        """
        roles = {"report": self.report_split, "tune": self.tune_split}
        name = roles.get(which, which)
        if shared := set(split_names(name)) & set(split_names(self.train_split)):
            role = f"data.{which}_split" if which in roles else "the split of a table or figure"
            raise ConfigError(
                f"data.train_split {self.train_split!r} holds {', '.join(sorted(shared))}: what is trained on says"
                f" nothing as {role}"
            )
        return name


@dataclass(frozen=True, config=_STRICT)
class MethodConfig:
    """A distillation method by its registered name; `options` are checked against the method's own settings.

    Attributes:
        kind: its name.
        options: see below.
        factor: of all its weighted losses, on top of the weights of the options, which are the paper's.
        factor_from: the row on whose trials the factor was chosen (docs/tuning.md); "" where nothing was.
        factor_scales: where the factor holds, because its trials were made there; at other scales it is 1, the paper's
            weights. None: everywhere.
    """

    kind: Name
    options: dict[Words, Any] = Field(default_factory=dict)
    factor: float = Field(default=1.0, gt=0, le=1e6)
    factor_from: Annotated[NameOrNone, VOLATILE] = ""
    factor_scales: Annotated[tuple[Name, ...], VOLATILE] = ()

    def at(self, scale: str) -> MethodConfig:
        """As it is at a scale."""
        if not self.factor_scales or scale in self.factor_scales:
            return replace(self, factor_scales=())
        return replace(self, factor=1.0, factor_from="", factor_scales=())


@dataclass(frozen=True, config=_STRICT)
class RowConfig:
    """One row of config/papers/*/runs.yaml, as it is after `like`, families and defaults.

    Attributes:
        id: the key of the row.
        dataset: a file of config/datasets.
        model: a file of config/models.
        seeds: that tables want.
        teacher: a run; none: plain training.
        teacher_seed: which of its trainings; `same`: that of the student's seed; `paired`: the teacher's seeds in turn,
            so that intervals over seeds cover teachers, too; a list: these in turn.
        teacher_mode: its targets are stored once, or computed in every step.
        method: how it teaches.
        init: trained weights to start from; several where parts of the network come from several runs. None: those of
            the recipe, if it names some; an empty list: none at all.
        frames: learn from the labelled frames, or also from the others.
        labelled_subset: which of the data set's lists of labelled frames; -1: all are labelled.
        target: `all` is made by default; `demand`: when asked for by name.
        same_as: scale -> the run that stands for this one there, in tables, figures and claims.
        doc: what the row is for.
    """

    id: Annotated[Name, VOLATILE]
    dataset: Annotated[Name, VOLATILE]
    model: Annotated[Name, VOLATILE]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), DISTINCT, VOLATILE] = (0,)
    teacher: Name | None = None
    teacher_seed: Literal["same", "paired"] | Seed | Annotated[tuple[Seed, ...], Field(min_length=1)] = 0
    teacher_mode: Literal["cached", "live"] = "cached"
    # Entries (frames under one augmentation) that its cache computes together, whichever of them are read: last bits
    # depend on the company. 1, if dearer by the piece, where students read few of them.
    teacher_batch: int = Field(default=8, ge=1, le=4_096)
    method: MethodConfig | None = None
    init: InitConfig | tuple[InitConfig, ...] | None = None
    frames: Literal["labelled", "all"] = "labelled"
    labelled_subset: Annotated[int, Field(ge=-1, le=10_000)] = 0
    target: Annotated[RowTier, VOLATILE] = "all"
    same_as: Annotated[dict[Name, Name], VOLATILE] = Field(default_factory=dict)
    doc: Annotated[Words, VOLATILE] = ""
    # Merged into the rest when a run is resolved.
    set: Annotated[dict[Words, Any], VOLATILE] = Field(default_factory=dict)

    @property
    def inits(self) -> tuple[InitConfig, ...]:
        """Where its weights come from."""
        return self.init if isinstance(self.init, tuple) else () if self.init is None else (self.init,)

    def __post_init__(self) -> None:
        if self.teacher is None and any(init.seed == "teacher" for init in self.inits):
            raise ValueError("init: seed: 'teacher' is that of a teacher, and the row has none")

    def init_seed_for(self, init: InitConfig, seed: int) -> int:
        """Seed of the weights that seed `seed` of the row starts from, of one of its `inits`."""
        if init.seed == "teacher":
            return self.teacher_seed_for(seed)
        return seed if init.seed == "same" else init.seed

    def teacher_seed_for(self, seed: int) -> int:
        """Seed of the teacher that seed `seed` of the row learns from.

        Raises:
            ConfigError: `paired`, of a row that is none of the configuration: its teacher's seeds are not known.
        """
        if isinstance(self.teacher_seed, tuple):
            return self.teacher_seed[seed % len(self.teacher_seed)]
        if self.teacher_seed == "paired":
            raise ConfigError(f"run {self.id!r}: teacher_seed 'paired' wants a row of the configuration")
        return seed if self.teacher_seed == "same" else self.teacher_seed

    @property
    def teacher_seeds(self) -> tuple[int, ...]:
        """The teacher's seeds that the row's seeds learn from, each once, in the order of the row; none without one."""
        return () if self.teacher is None else tuple(dict.fromkeys(map(self.teacher_seed_for, self.seeds)))

    def unread(self) -> tuple[str, ...]:
        """Settings that mean nothing beside the others."""
        if self.teacher is None:
            return ("teacher_seed", "teacher_mode", "teacher_batch")
        return ("teacher_batch",) if self.teacher_mode == "live" else ()


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """A fully resolved run: what `bevkd train` executes and stores beside its result."""

    run: Annotated[Name, VOLATILE]
    scale: Annotated[Name, VOLATILE]
    seed: Seed
    row: RowConfig
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = Field(default_factory=TrainConfig)

    @property
    def teacher_seed(self) -> int:
        """Which training of its teacher it learns from."""
        return self.row.teacher_seed_for(self.seed)
