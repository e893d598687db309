"""Every setting of the project as frozen dataclasses: defaults are the published (paper-scale) values.

YAML files hold differences only. The JSON schema that the workflow validates with is generated from these classes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.classes import CLASSES
from bevkd.errors import ConfigError
from bevkd.geometry import Area, BEVGrid

_STRICT = ConfigDict(extra="forbid")

UNIDISTILL_TASKS: tuple[tuple[str, ...], ...] = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)


@dataclass(frozen=True, config=_STRICT)
class GridConfig:
    """BEV grid in the ego frame: half side (m), cell (m), and the height range that encoders see (m).

    A LiDAR whose labels cover one side only has another range along x or y, given by its two ends.
    """

    reach: float = Field(default=54.0, gt=0)
    x: tuple[float, float] | None = None
    y: tuple[float, float] | None = None
    cell: float = Field(default=0.6, gt=0)
    z_min: float = -3.0
    z_max: float = 5.0

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
class LidarConfig:
    """LiDAR encoder: `voxel` is CenterPoint's sparse encoder, `pillar` PointPillars' feature net."""

    encoder: str = "voxel"
    point_features: int = 5
    cell: float = 0.075  # voxel or pillar size (m)
    z_cell: float = 0.2  # voxel height (m); ignored by pillars
    channels: tuple[int, ...] = (16, 32, 64, 128)  # sparse stages, or pillar feature + strided convolutions
    max_points: int = 10  # per voxel; 0: no limit
    max_voxels: int = 120_000
    intensity_scale: float = 1.0  # the released detectors feed raw intensity; 1/255 conditions small nets better
    out_channels: int = 256
    normalise: bool = False  # bring position, offset, intensity and sweep age to order one
    dt_scale: float = 10.0  # per second, with `normalise` or `mean_age`
    mean_age: bool = False  # pillars: one more channel, the mean of dt * dt_scale - 1 over the points


@dataclass(frozen=True, config=_STRICT)
class CameraConfig:
    """Camera encoder: image backbone, neck, depth net, view transform."""

    encoder: str = "lss"
    input: Literal["rgb", "lidar"] = "rgb"  # `lidar`: depths of LiDAR points as an image (MonoDistill)
    backbone: str = "resnet"
    # Passed to the backbone's own configuration (layer type, widths, depths); empty: ResNet-50 / Swin-T.
    backbone_options: dict[str, Any] = Field(default_factory=dict)
    # Pre-trained weights: a local folder, or `hub:<name>[@<revision>]`: the library's hub, only if asked for like this.
    weights: str | None = None
    frozen_stem: bool = True
    image_size: tuple[int, int] = (256, 704)
    stride: int = 16
    neck_channels: int = 128
    depth_net: str = "conv"  # or `camera_aware` (BEVDepth)
    view_transform: str = "lift_splat"  # or `sample` (Simple-BEV), which has no depth
    heights: int = Field(default=8, ge=1)  # layers of voxels that `sample` looks at between grid.z_min and z_max
    depth_min: float = 2.0
    depth_max: float = 58.0
    depth_step: float = 0.5
    out_channels: int = 256


@dataclass(frozen=True, config=_STRICT)
class FuserConfig:
    """LiDAR-camera fusion by concatenation, optional channel gate and one convolution."""

    kind: str = "concat"
    gate: bool = True
    out_channels: int = 256


@dataclass(frozen=True, config=_STRICT)
class BEVConfig:
    """SECOND-style BEV encoder with FPN: blocks at stride 1 and 2, concatenated at stride 1."""

    kind: str = "second_fpn"
    widths: tuple[int, ...] = (128, 256)
    depths: tuple[int, ...] = (5, 5)  # convolutions after the first one of each block
    strides: tuple[int, ...] = (1, 2)
    up_channels: int = 256
    bn_eps: float = 1e-3  # these two hold for every batch norm outside the image backbone
    bn_momentum: float = 0.01


@dataclass(frozen=True, config=_STRICT)
class QueryConfig:
    """TransFusion head (UniDistill spec, 8.5): queries from the heat map, a transformer decoder, Hungarian matching."""

    proposals: int = Field(default=200, ge=1)
    channels: int = Field(default=128, ge=1)
    attention_heads: int = Field(default=8, ge=1)
    layers: int = Field(default=1, ge=1)
    feedforward: int = Field(default=256, ge=1)
    branch_channels: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    local_max: int = 3  # a query starts where its class's heat is the maximum of this window (cells)
    # Small things stand close together: every cell may start a query of theirs.
    every_cell: tuple[str, ...] = ("pedestrian", "traffic_cone")
    cost: tuple[float, float, float] = (0.15, 0.25, 0.25)  # of matching: class (focal), place (L1), overlap (3D IoU)
    class_weight: float = 1.0
    heatmap_weight: float = 1.0
    box_weight: float = 0.25


@dataclass(frozen=True, config=_STRICT)
class HeadConfig:
    """Detection head: `center` (CenterPoint) or `transfusion`."""

    kind: str = "center"
    query: QueryConfig = QueryConfig()
    tasks: tuple[tuple[str, ...], ...] = UNIDISTILL_TASKS
    shared_channels: int = 64
    branch_channels: int = 64  # 0: one convolution per branch
    iou_branch: bool = True
    targets: Literal["nine_nearest", "gaussian"] = "nine_nearest"
    min_overlap: float = 0.1
    min_radius: int = 2
    regression_cells: Literal[1, 9] = 1  # gaussian targets: regress at the centre cell or at the nine nearest


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Detection loss (UniDistill spec, 4.7)."""

    auto_scaling: bool = True
    heatmap_weight: float = 1.0
    loc_weight: float = 0.25
    iou_aware_weight: float = 1.0
    iou_weight: float = 0.0
    velocity_weight: float = 0.2
    # Branch -> width of Huber's loss instead of L1.
    huber: dict[Literal["reg", "height", "dim", "rot", "vel"], float] = Field(default_factory=dict)
    depth_weight: float = 0.0  # BEVDepth's L_Depth; 3.0 there


@dataclass(frozen=True, config=_STRICT)
class DecodeConfig:
    """Heat maps to boxes (UniDistill spec, 4.8)."""

    top_k: int = 1500  # per class
    score_threshold: float = 0.1
    centre_limit: float = 61.2
    nms: Literal["rotated", "circle"] = "rotated"
    nms_iou: float = 0.1
    # Distance (m) below which circle NMS suppresses, by class of the better box: the square roots of CenterPoint's.
    circle_radius: tuple[float, ...] = (2.0, 3.46, 3.46, 3.16, 3.16, 1.0, 0.92, 0.92, 0.42, 0.42)
    class_wise: bool = False  # NMS within each class instead of within each task
    local_max: int = 0  # odd size (cells) of the window in which a cell must be its class's maximum; 0: any cell
    per_task: int = 100
    max_boxes: int = 500
    iou_power: float = 0.65  # rank = heat^(1 - iou_power) * iou^iou_power; 0 without an IoU branch


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """A detector: its kind, sensors, stages, head."""

    kind: str = "bev"
    sensors: tuple[Literal["lidar", "camera", "radar"], ...] = ("lidar",)
    grid: GridConfig = GridConfig()
    lidar: LidarConfig = LidarConfig()
    camera: CameraConfig = CameraConfig()
    fuser: FuserConfig = FuserConfig()
    bev: BEVConfig = BEVConfig()
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    decode: DecodeConfig = DecodeConfig()

    @property
    def reads_lidar_images(self) -> bool:
        """Whether its images are LiDAR points seen by the cameras."""
        return "camera" in self.sensors and self.camera.input == "lidar"


@dataclass(frozen=True, config=_STRICT)
class ImageAugmentConfig:
    """Per-camera image augmentation of the UniDistill recipe; identity when `enabled` is false."""

    enabled: bool = True
    scale: tuple[float, float] = (0.386, 0.55)
    test_scale: float = 0.44
    rotate_deg: float = 5.4
    flip: float = 0.5


@dataclass(frozen=True, config=_STRICT)
class BEVAugmentConfig:
    """BEV augmentation: one matrix for points, boxes and camera frustum."""

    rotate_deg: float = 45.0
    scale: tuple[float, float] = (0.9, 1.1)
    translate_std: float = 0.5
    flip: bool = True  # left and right
    flip_x: bool = True  # also front and back, where `flip`; not where labels cover one side only


@dataclass(frozen=True, config=_STRICT)
class AugmentConfig:
    """Augmentation. With `variants` > 0 every sample has that many fixed, replayable augmentations (teacher caches
    need them); 0 draws a new one each epoch from (seed, epoch, sample). Unlabelled frames are many and each is seen a
    few times only: `unlabelled_variants` > 0 gives them fewer fixed augmentations than the labelled ones.
    """

    variants: int = Field(default=0, ge=0)
    unlabelled_variants: int = Field(default=0, ge=0)  # at most `variants`; 0: as many
    image: ImageAugmentConfig = ImageAugmentConfig()
    bev: BEVAugmentConfig = BEVAugmentConfig()
    gt_paste: dict[str, int] = Field(default_factory=dict)  # class -> boxes to reach per frame; LiDAR-only detectors


@dataclass(frozen=True, config=_STRICT)
class AnchorConfig:
    """Anchors of one class, two per cell, along x and along y; for anchor-based heads (the CenterPoint head has none).

    Attributes:
        size: length, width, height (m).
        bottom: height of the lower face in the ego frame (m).
        matched, unmatched: overlap in BEV from which an anchor is a positive, and below which it is a negative.
    """

    size: tuple[float, float, float]
    bottom: float
    matched: float = 0.6
    unmatched: float = 0.45


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which frames, and what of them."""

    reader: str = "nuscenes"
    root: str = "data/nuscenes"
    version: str = "v1.0-trainval"
    index: str = "data/index/nuscenes"
    train_split: str = "train"
    tune_split: str = "tune"
    report_split: str = "val"
    train_stride: int = Field(default=1, ge=1)  # train on every k-th keyframe of each scene (Waymo "D5": 5)
    lidar_sweeps: int = Field(default=10, ge=0)  # previous sweeps beside the key sweep
    lidar_sweep_stride: int = Field(default=1, ge=1)  # every k-th previous sweep: as many points over a longer time
    lidar_in_view: bool = False  # only points that a camera sees, where labels cover no others (KITTI)
    radar_sweeps: int = Field(default=6, ge=0)
    classes: tuple[str, ...] = CLASSES
    anchors: dict[str, AnchorConfig] = Field(default_factory=dict)  # by class, for heads that have anchors
    min_points: int = 1  # LiDAR + radar points a training box must have
    cbgs: bool = True
    image_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    image_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    memory_cache: bool = False  # keep decoded frames in memory: for small datasets
    max_range: float | None = None  # evaluation: cap of every class range (m); none: the official ranges
    augment: AugmentConfig = AugmentConfig()


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """Optimisation. `steps` wins over `epochs` when it is positive."""

    steps: int = Field(default=0, ge=0)
    steps_factor: float = Field(default=1.0, gt=0)  # on the schedule of any scale; applied when the run is resolved
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=20, ge=1)  # labelled frames of a global batch
    unlabelled_per_batch: int = Field(default=0, ge=0)  # beside them, so a student sees as many labels as its baseline
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.95, 0.99)
    cycle_momentum: bool = True
    warmup_fraction: float = 0.4
    div_factor: float = 10.0
    final_div_factor: float = 1e4
    grad_clip: float = 0.1
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    sync_bn: bool = True
    checkpoint_every: int = Field(default=200, ge=1)
    log_every: int = Field(default=10, ge=1)
    workers: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    reference_batch: int = 0  # > 0: lr is scaled by batch_size / reference_batch
    frames_limit: int = 0  # > 0: train on the first n frames only (over-fitting tests)

    @property
    def frames_per_batch(self) -> int:
        """Labelled and unlabelled frames of a global batch."""
        return self.batch_size + self.unlabelled_per_batch


@dataclass(frozen=True, config=_STRICT)
class MethodConfig:
    """A distillation method by its registered name; `options` are checked against the method's own dataclass."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class RowConfig:
    """One experiment row of config/experiments/*.yaml."""

    id: str
    dataset: str
    model: str
    seeds: tuple[int, ...] = (0,)
    teacher: str | None = None
    teacher_seed: int = 0
    teacher_mode: Literal["cached", "live"] = "cached"
    method: MethodConfig | None = None
    frames: Literal["labelled", "all"] = "labelled"
    labelled_subset: int = 0
    target: Literal["all", "extended", "tuning", "demand"] = "all"
    doc: str = ""
    set: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """A fully resolved run: what `bevkd train` executes and stores beside its result."""

    run: str
    scale: str
    seed: int
    row: RowConfig
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
