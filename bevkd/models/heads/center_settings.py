"""Settings of CenterPoint's head, of its loss and of its decoding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Length, OddOrNone, Score, Share, Spread, Weight, Width, WidthOrNone
from bevkd.models.heads.settings import HeadSettings
from bevkd.registry import register_settings

_STRICT = ConfigDict(extra="forbid")


@register_settings("head", "center")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CenterSettings(HeadSettings):
    """CenterPoint's head.

    Attributes:
        shared_channels: of the convolution that the tasks share.
        branch_channels: hidden width of a branch; 0: one convolution for all branches.
        iou_branch: predict the IoU of the box with its object.
        targets: heat maps of ones at UniDistill's nine cells, or Gaussian peaks.
        regression_cells: Gaussian targets: regress at the centre cell or at the nine nearest.
        regression_init: how the branches but the heat maps start: as the library's convolutions do, or from Kaiming's
            normal distribution by the width of their output, without biases.
        velocity: what is learnt of motion: m/s, or the displacement since the earlier images (m; BEVDet4D), for
            detectors that read such. What the head says is m/s either way.
    """

    kind: Literal["center"] = "center"
    shared_channels: Width = 64
    branch_channels: WidthOrNone = 64
    iou_branch: bool = True
    targets: Literal["nine_nearest", "gaussian"] = "nine_nearest"
    regression_cells: Literal[1, 9] = 1
    regression_init: Literal["library", "kaiming"] = "library"
    velocity: Literal["speed", "displacement"] = "speed"


@register_settings("loss", "center")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CenterLossSettings:
    """Detection loss (UniDistill spec, 4.7).

    Attributes:
        auto_scaling: learn the weights of heat map, boxes and IoU, in the place of the three below.
        heatmap_weight: of the heat maps.
        loc_weight: of the box errors (L1).
        iou_aware_weight: of the predicted IoU.
        iou_weight: of 1 - IoU in three dimensions; 0: not computed.
        velocity_weight: of the velocity among the box errors.
        axis_weight: of the heading without its sign (front and rear alike) among the box errors; 0: not computed. Above
            0.44 it can hold fast to the wrong front.
    """

    auto_scaling: bool = True
    heatmap_weight: Weight = 1.0
    loc_weight: Weight = 0.25
    iou_aware_weight: Weight = 1.0
    iou_weight: Weight = 0.0
    velocity_weight: Weight = 0.2
    axis_weight: Weight = 0.0
    # Branch -> width of Huber's loss instead of L1.
    huber: dict[Literal["reg", "height", "dim", "rot", "vel"], Length] = Field(default_factory=dict)


@register_settings("decode", "center")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CenterDecodeSettings:
    """Heat maps to boxes (UniDistill spec, 4.8).

    Attributes:
        score_threshold: detections with a lower score are left out.
        centre_limit: largest |x| and |y| of a centre (m).
        nms: what overlaps a better box is left out: by rotated IoU, or by distance of centres.
        nms_iou: largest IoU of two boxes that both stay.
        per_task: boxes that a task keeps.
        max_boxes: of a frame.
    """

    top_k: Annotated[int, Field(ge=1, le=100_000)] = 1500  # per class
    score_threshold: Score = 0.1
    centre_limit: Length = 61.2
    nms: Literal["rotated", "circle"] = "rotated"
    nms_iou: Share = 0.1
    # Distance (m) below which circle NMS suppresses, by class of the better box: the square roots of CenterPoint's.
    circle_radius: tuple[Spread, ...] = (2.0, 3.46, 3.46, 3.16, 3.16, 1.0, 0.92, 0.92, 0.42, 0.42)
    class_wise: bool = False  # NMS within each class instead of within each task
    local_max: OddOrNone = 0  # odd size (cells) of the window in which a cell must be its class's maximum; 0: any cell
    per_task: Annotated[int, Field(ge=1, le=100_000)] = 100
    max_boxes: Annotated[int, Field(ge=1, le=100_000)] = 500
    iou_power: Share = 0.65  # rank = heat^(1 - iou_power) * iou^iou_power; 0 without an IoU branch
