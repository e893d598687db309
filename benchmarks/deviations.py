"""How large the deliberate differences from the papers' code are, as far as they can be measured without training.

Every number compares our loss, target or input with a switch on and off, or with the formula of the public code written
out here, on drawn boxes and maps or on simulated frames. docs/deviations.md says what each of them means.
Run: `python benchmarks/deviations.py`; writes `benchmarks/results/deviations.json`.
"""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from view_transform import camera_ring

from bevkd.config import MethodConfig, load_model, load_run
from bevkd.config.schema import NormConfig
from bevkd.data import FrameDataset, convert_nuscenes
from bevkd.data.batch import Boxes
from bevkd.data.images import ImageTransform
from bevkd.distill import DistillContext, FeatureSpec, build_method
from bevkd.distill.adapter_settings import AdapterConfig
from bevkd.distill.adapters import Adapter
from bevkd.distill.crucial_points import crucial_points
from bevkd.distill.heat import pooled_heat
from bevkd.distill.masks import gaussian_mask, inside_boxes
from bevkd.distill.quality_response import class_response
from bevkd.distill.regions import box_owners
from bevkd.distill.scaled_boxes import code_rectangles, growth, scaled
from bevkd.distill.taps.footprints import Footprints
from bevkd.distill.trained_fuser import TrainedFuser
from bevkd.geometry import BEVGrid, box_corners
from bevkd.io import write_json
from bevkd.models.detector import build_detector
from bevkd.models.features import FeatureInfo
from bevkd.models.layers import conv_bn_relu
from bevkd.models.ops.lift_splat import frustum_cells
from bevkd.models.ops.rotated import iou_3d
from bevkd.models.outputs import REGRESSION, BEVOutputs, CenterOutput, TaskOutput
from bevkd.sim import SCALES, simulate_nuscenes

RESULTS = Path(__file__).parent / "results" / "deviations.json"
GRID = BEVGrid.centred(54.0, 0.6)
BEVDET_GRID = BEVGrid.centred(51.2, 0.8)
# Mean length, width and height (m) of the ten classes in nuScenes, in the order of the classes.
SIZES = (
    *((4.63, 1.96, 1.74), (6.93, 2.51, 2.84), (6.37, 2.85, 3.19), (10.5, 2.94, 3.47), (12.29, 2.90, 3.87)),
    *((0.50, 2.53, 0.98), (2.11, 0.77, 1.47), (1.70, 0.60, 1.28), (0.73, 0.67, 1.77), (0.41, 0.41, 1.07)),
)
SHARES = (0.43, 0.08, 0.013, 0.014, 0.022, 0.134, 0.011, 0.01, 0.2, 0.086)  # of the annotations there, about
TASKS = (1, 2, 2, 1, 2, 2)
MEASURES: dict[str, Callable[[], dict[str, float]]] = {}


def measure(work: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
    """Take a function among those that the script runs."""
    MEASURES[work.__name__] = work
    return work


def drawn_boxes(per_frame: int, frames: int, reach: float, seed: int = 0) -> Boxes:
    """Boxes with the classes of nuScenes, evenly spread over a square, a third close to another one of their class."""
    rng = np.random.default_rng(seed)
    count = per_frame * frames
    labels = rng.choice(10, count, p=SHARES)
    places = rng.uniform(-reach, reach, (count, 2))
    near = rng.permutation(count - 1)[: count // 3]
    places[near], labels[near] = places[near + 1] + rng.normal(0, 1.5, (len(near), 2)), labels[near + 1]
    size = np.array(SIZES)[labels] * rng.uniform(0.8, 1.2, (count, 1))
    yaw, speed = rng.uniform(-math.pi, math.pi, (count, 1)), rng.normal(0, 3, (count, 2))
    boxes = np.concatenate([places, size[:, 2:] / 2, size, yaw, speed], axis=1)
    frame = torch.arange(frames).repeat_interleave(per_frame)
    return Boxes(torch.tensor(boxes).float(), torch.tensor(labels), frame, torch.ones(count))


def drawn_outputs(seed: int, frames: int, channels: int = 16, grid: BEVGrid = GRID) -> BEVOutputs:
    """Smooth random maps: noise that is averaged over 5 x 5 cells."""
    generator = torch.Generator().manual_seed(seed)
    smooth = nn.AvgPool2d(5, stride=1, padding=2)

    def maps(width: int) -> Tensor:
        return 5 * smooth(torch.randn(frames, width, grid.H, grid.W, generator=generator))

    heads = [TaskOutput(maps(k) - 4, {name: maps(width) for name, width in REGRESSION}) for k in TASKS]
    return BEVOutputs({"low": maps(channels), "high": maps(channels).relu()}, CenterOutput(heads, tuple(range(10))))


def distilled(boxes: Boxes, teacher: BEVOutputs, student: BEVOutputs, **options: object) -> dict[str, float]:
    """Unweighted losses of UniDistill on path (2), with some options."""
    spec = [FeatureSpec.of_bev(16, 16, 10, 66, sensors) for sensors in (("camera",), ("lidar", "camera"))]
    frames = len(student.low)
    context = DistillContext(GRID, frames, boxes, torch.ones(frames, dtype=torch.bool))
    method = build_method(MethodConfig("unidistill", dict(options)), *spec)
    with torch.no_grad():
        found = method.losses(student, method.targets(teacher, context), context)
    return {name: float(value) for name, value in found.items()}


@cache
def simulated() -> FrameDataset:
    """Simulated frames as a detector of the published size reads them."""
    folder = Path(tempfile.mkdtemp(prefix="bevkd-deviations-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    simulate_nuscenes(SCALES["smoke"], folder / "data", seed=0)
    index = convert_nuscenes(folder / "data", "v1.0-sim", folder / "index")
    network, _ = load_model("lidar_voxel", "paper")
    data = load_run("lidar_base", "smoke", 0).data
    data = replace(data, root=str(folder / "data"), index=str(index), lidar_sweeps=2, box_range="corner")
    return FrameDataset(data, network, "train+tune+val", train=False, seed=0)


def simulated_image() -> Image.Image:
    """A picture of the simulator."""
    files = sorted(Path(simulated().data.root).glob("samples/CAM_FRONT/*.jpg"))
    return Image.open(files[0]).convert("RGB")


@measure
def sampling_axes() -> dict[str, float]:
    """Nine points are read on the object; the public code reads them at their mirror image in the diagonal."""
    boxes = drawn_boxes(30, 4, 50.0)
    points = crucial_points(boxes.boxes)
    apart = (points - points.flip(-1)).norm(dim=-1)
    student = drawn_outputs(1, 4)
    teacher = drawn_outputs(1, 4)
    on = gaussian_mask(boxes, GRID, 4, 0.1, 2)[:, None]
    teacher.features["low"] = teacher.low + on  # they differ at objects alone, by the height of the peak
    ours = distilled(boxes, teacher, student)["feature"]
    mirrored = distilled(boxes, teacher, student, legacy_transpose=True)["feature"]
    return {"mean_distance_m": float(apart.mean()), "share_of_object_difference_seen": mirrored / ours}


@measure
def adapter_at_points() -> dict[str, float]:
    """An adapter works at the points that are read; the paper's adapts the whole map and samples that."""
    changes = []
    for seed in range(5):
        boxes, student, teacher = drawn_boxes(30, 4, 50.0, seed), drawn_outputs(seed, 4), drawn_outputs(seed + 50, 4)
        found = []
        for where in ("read", "map"):
            torch.manual_seed(seed)
            found.append(distilled(boxes, teacher, student, adapter={"enabled": True, "where": where})["feature"])
        changes.append(abs(found[0] / found[1] - 1))
    return {"mean_change_of_feature_loss": float(np.mean(changes)), "largest": float(np.max(changes))}


@measure
def adapter_kernel() -> dict[str, float]:
    """Parameters of both adapters of path (3) with 1 x 1 kernels, relative to the 3 x 3 ones of the code's draft."""

    def count(kernel: int) -> int:
        adapters = [Adapter(AdapterConfig(enabled=True, kernel=kernel), width, width) for width in (256, 512)]  # type: ignore[arg-type]
        return sum(p.numel() for one in adapters for p in one.parameters())

    return {"share_of_parameters": count(1) / count(3)}


@measure
def padded_boxes() -> dict[str, float]:
    """Frames of a batch have as many boxes as they have; the public code pads them with boxes of zeros, which draw."""
    few, many = drawn_boxes(5, 1, 50.0, 1), drawn_boxes(30, 1, 50.0, 2)
    columns = [torch.cat(pair) for pair in zip(*((b.boxes, b.labels, b.scores) for b in (few, many)), strict=True)]
    frame = torch.tensor([0] * 5 + [1] * 30)
    boxes = Boxes(columns[0], columns[1], frame, columns[2])
    zeros = torch.zeros(25, 9)
    padded = Boxes(
        *(torch.cat([boxes.boxes, zeros]), torch.cat([boxes.labels, torch.zeros(25).long()])),
        *(torch.cat([frame, torch.zeros(25).long()]), torch.ones(60)),
    )
    student, teacher = drawn_outputs(3, 2), drawn_outputs(4, 2)
    ours, theirs = (distilled(b, teacher, student)["response_reg"] for b in (boxes, padded))
    cells = [float(gaussian_mask(b, GRID, 2)[0].sum()) for b in (boxes, padded)]
    return {"change_of_response_loss": abs(theirs / ours - 1), "added_weight_in_the_frame": cells[1] / cells[0] - 1}


@measure
def response_form() -> dict[str, float]:
    """As the code has it: the teacher's logits are halved, and class scores count as much as all regression maps."""
    boxes, student, teacher = drawn_boxes(30, 4, 50.0), drawn_outputs(5, 4), drawn_outputs(6, 4)
    code = distilled(boxes, teacher, student)
    plain = distilled(boxes, teacher, student, response={"teacher_temperature": 1.0})
    return {
        "class_term_without_halving": plain["response_cls"] / code["response_cls"],
        "class_weight_if_concatenated": 1 / 67,
    }


@measure
def box_range() -> dict[str, float]:
    """Small scales: boxes count whose centre lies in the grid, too; the code's: all with a corner in it."""
    boxes = drawn_boxes(200, 100, 66.0).boxes.double().numpy()
    corners = box_corners(boxes)
    corner = ((np.abs(corners[..., :2]) <= 54.0).all(-1) & (corners[..., 2] >= -3) & (corners[..., 2] <= 5)).any(1)
    centre = (np.abs(boxes[:, :2]) < 54.0).all(1)
    return {"share_of_boxes": float((corner & ~centre).sum() / corner.sum())}


@measure
def norms() -> dict[str, float]:
    """Head and fuser at the small scales have SECOND's eps; what that of the code changes of a normalised map."""
    torch.manual_seed(0)
    x = torch.randn(4, 64, 45, 45)
    torch.manual_seed(1)
    ours = conv_bn_relu(64, 64, NormConfig(eps=1e-3)).train()
    torch.manual_seed(1)
    theirs = conv_bn_relu(64, 64, NormConfig(eps=1e-5)).train()
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    return {"mean_change": float((a - b).abs().mean() / b.abs().mean())}


@measure
def biases_before_norms() -> dict[str, float]:
    """Convolutions of the head before a batch norm have no bias, which the norm would take off again."""
    torch.manual_seed(0)
    x = torch.randn(4, 64, 45, 45)
    ours = conv_bn_relu(64, 64, NormConfig()).train()
    biased = nn.Conv2d(64, 64, 3, padding=1)
    biased.weight = ours[0].weight
    nn.init.normal_(biased.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        a, b = ours(x), torch.relu(ours[1](biased(x)))
    return {"largest_change": float((a - b).abs().max())}


@measure
def initial_weights() -> dict[str, float]:
    """Last convolutions of the regression branches start from another distribution at the small scales."""
    library = math.sqrt(1 / (3 * 64 * 9))
    return {"ratio_of_deviations_for_two_maps": math.sqrt(2 / (9 * 2)) / library}


@measure
def lower_bounds() -> dict[str, float]:
    """Frustum points are put into cells by floor; the code truncates towards zero and so takes some from below."""
    camera = load_model("camera", "paper")[0].camera
    view, size = camera.view, (16, 44)
    cameras, aug = camera_ring(1, (256, 704)), torch.eye(4)[None]
    depths = view.depth_min + view.depth_step * torch.arange(view.bins)
    wide = BEVGrid(GRID.x_min - GRID.cell, GRID.y_min - GRID.cell, GRID.cell, GRID.W + 1, GRID.H + 1)

    def count(grid: BEVGrid, low: float) -> int:
        return int((frustum_cells(cameras, aug, grid, (low, 5.0), depths, size) >= 0).sum())

    ours = count(GRID, -3.0)
    # In z one cell is 8 m high.
    return {"more_points_from_below": count(GRID, -11.0) / ours - 1, "in_all": count(wide, -11.0) / ours - 1}


def _boxes_of_the_code(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of the public L_iou: no rotation, the third size across and the second one up; no side below 1 mm."""
    low = torch.maximum(a[:, :3] - a[:, [3, 5, 4]] / 2, b[:, :3] - b[:, [3, 5, 4]] / 2)
    high = torch.minimum(a[:, :3] + a[:, [3, 5, 4]] / 2, b[:, :3] + b[:, [3, 5, 4]] / 2)
    inter = (high - low).clamp(min=1e-3).prod(1)
    return inter / (a[:, 3:6].prod(1) + b[:, 3:6].prod(1) - inter)


@measure
def iou_loss() -> dict[str, float]:
    """L_iou takes the rotated 3D overlap; the code exchanges height and width and knows no rotation."""
    truth = drawn_boxes(100, 10, 50.0).boxes
    generator = torch.Generator().manual_seed(0)
    guess = truth.clone()
    guess[:, :3] += 0.1 * truth[:, 3:6] * torch.randn(len(truth), 3, generator=generator)
    guess[:, 3:6] *= (0.1 * torch.randn(len(truth), 3, generator=generator)).exp()
    guess[:, 6] += 0.1 * torch.randn(len(truth), generator=generator)
    difference = (iou_3d(guess, truth) - _boxes_of_the_code(guess, truth)).abs()
    return {"mean_difference": float(difference.mean()), "largest": float(difference.max())}


@measure
def colour_order() -> dict[str, float]:
    """Images are RGB; the code hands BGR to weights that were trained on RGB."""
    data = simulated().data
    pixels: NDArray[np.float64] = np.asarray(simulated_image(), dtype=np.float64)
    mean, std = np.array(data.image_mean), np.array(data.image_std)
    right, wrong = (pixels - mean) / std, (pixels[..., ::-1] - mean) / std
    return {"mean_difference_in_deviations": float(np.abs(right - wrong).mean())}


@measure
def crop_in_resize() -> dict[str, float]:
    """Only pixels that are kept are computed, in float32; what that changes, of 255."""
    image = simulated_image()
    width, height = image.size
    target = (height // 2, width // 2)
    transform = ImageTransform((height, width), target, (round(height * 0.7), round(width * 0.7)), (9, 11))
    one, other = (np.asarray(transform.apply(image, crop), dtype=np.int64) for crop in (True, False))
    apart = np.abs(one - other)
    return {"largest_difference": float(apart.max()), "share_of_values": float((apart > 0).mean())}


@measure
def resampling() -> dict[str, float]:
    """Images are resized and rotated bilinearly; the code's with PIL's defaults, bicubic and nearest. Levels of 255."""
    image = simulated_image()
    resized, target = (round(image.height * 0.7), round(image.width * 0.7)), (image.height // 2, image.width // 2)
    transform = ImageTransform((image.height, image.width), target, resized, (9, 11), rotate_deg=3.0)
    theirs = image.resize(resized[::-1]).crop((11, 9, 11 + target[1], 9 + target[0])).rotate(3.0)
    one, other = (np.asarray(picture, dtype=np.float64) for picture in (transform.apply(image), theirs))
    return {"mean_difference": float(np.abs(one - other).mean())}


@measure
def ego_frame() -> dict[str, float]:
    """The grid is centred at the ego frame; the code's at the LiDAR, which nuScenes has 0.94 m ahead, 1.84 m above."""
    return {"share_of_area": 0.943713 / 108, "heights_apart_m": abs(-5 + 1.84023 - -3)}


def crkd(name: str, boxes: Boxes, teacher: BEVOutputs, student: BEVOutputs, **options: object) -> dict[str, float]:
    """Unweighted terms of one of CRKD's losses, with some options."""
    maps = sum(width for branch, width in REGRESSION) * len(TASKS)
    spec = FeatureSpec.of_bev(16, 16, 10, maps, ("camera",))
    frames, off = len(student.low), {part: {"enabled": False} for part in ("csrd", "msfd", "reld", "respd")}
    context = DistillContext(GRID, frames, boxes, torch.ones(frames, dtype=torch.bool))
    method = build_method(MethodConfig("crkd", off | {name: options}), spec, spec)
    with torch.no_grad():
        found = method.losses(student, method.targets(teacher, context), context)
    return {term: float(value) for term, value in found.items()}


@measure
def crkd_masks() -> dict[str, float]:
    """Cells under a grown box; the public code's rectangles shrink with the yaw."""
    boxes = scaled(drawn_boxes(40, 25, 45.0).boxes, Footprints())
    ours, code = (find(boxes, GRID).sum(1) for find in (inside_boxes, code_rectangles))
    return {"share_of_cells": float(code.sum() / ours.sum()), "share_of_boxes_lost": float((code == 0).float().mean())}


@measure
def crkd_growth() -> dict[str, float]:
    """Length grows with the velocity along x, as in the public code, or with that along the box."""
    boxes = drawn_boxes(40, 25, 45.0).boxes
    difference = growth(boxes, Footprints()) - growth(boxes, Footprints(velocity_frame="box"))
    return {"mean_difference_m": float(difference.abs().mean())}


@measure
def crkd_pooling() -> dict[str, float]:
    """The heat that the radar learns: mean of the scores, or in the code of the scores of mean logits of tasks."""
    logits = drawn_outputs(1, 4).heatmaps()
    ours, code = pooled_heat(logits, TASKS, "mean_paper"), pooled_heat(logits, TASKS, "mean_code")
    return {"mean_change": float(((code - ours).abs() / ours).mean())}


@measure
def crkd_features() -> dict[str, float]:
    """The feature loss: half of the square, and divided by the frames once more, in the code (here two)."""
    boxes, teacher, student = drawn_boxes(30, 2, 50.0), drawn_outputs(1, 2), drawn_outputs(2, 2)
    on = {"location": "fused"}
    ours = crkd("msfd", boxes, teacher, student, **on)["msfd_fused"]
    code = crkd("msfd", boxes, teacher, student, half_square=True, over_batch=True, **on)["msfd_fused"]
    return {"loss_of_the_code": code / ours}


@measure
def crkd_relation() -> dict[str, float]:
    """Dot products grow with the square of the features, cosines do not: both losses with maps of twice the size."""
    boxes, found = drawn_boxes(1, 2, 50.0), []
    for factor in (1.0, 2.0):
        teacher, student = drawn_outputs(1, 2), drawn_outputs(2, 2)
        for outputs in (teacher, student):
            outputs.features["low"] = factor * outputs.low
        found.append([crkd("reld", boxes, teacher, student, adapters=False, cosine=c)["reld"] for c in (True, False)])
    return {"cosines_grow_by": found[1][0] / found[0][0], "products_grow_by": found[1][1] / found[0][1]}


@measure
def crkd_weights() -> dict[str, float]:
    """Weights of the response by class; the code has one for a task, so that pedestrians count as cones."""
    boxes, teacher, student = drawn_boxes(1, 2, 50.0), drawn_outputs(1, 2), drawn_outputs(2, 2)
    ours = crkd("respd", boxes, teacher, student)
    code = crkd("respd", boxes, teacher, student, per_class=False)
    return {"heatmap_of_the_code": code["respd_heatmap"] / ours["respd_heatmap"]}


@measure
def crkd_threshold() -> dict[str, float]:
    """A task of which the teacher finds no object: the code compares its boxes on all cells, with weights near 0."""
    boxes, teacher, student = drawn_boxes(1, 2, 50.0), drawn_outputs(1, 2), drawn_outputs(2, 2)
    teacher.heads[3].heatmap.sub_(12)
    ours, code = (crkd("respd", boxes, teacher, student, least=least)["respd_box"] for least in (0.01, 0.0))
    return {"share_of_box_loss": (code - ours) / code}


def distillbev(boxes: Boxes, **options: object) -> dict[str, float]:
    """Weighted terms of DistillBEV between drawn maps before the head, with some options."""
    frames = 1 + int(boxes.frame.max())
    student, teacher = (drawn_outputs(seed, frames, grid=BEVDET_GRID) for seed in (1, 2))
    spec = FeatureSpec.of_bev(16, 16, 10, 66, ("camera",))
    context = DistillContext(BEVDET_GRID, frames, boxes, torch.ones(frames, dtype=torch.bool))
    torch.manual_seed(0)
    method = build_method(MethodConfig("distillbev", {"levels": ["high"], **options}), spec, spec)
    with torch.no_grad():
        found = method.losses(student, method.targets(teacher, context), context)
    return {term: method.weights()[term] * float(value) for term, value in found.items()}


@measure
def distillbev_cells() -> dict[str, float]:
    """Cells of objects by their centre, in the code by their corner; objects without any, at cells of 0.8 and 1.6 m."""
    boxes, none = drawn_boxes(40, 25, 45.0), 1000
    ours, code = (box_owners(boxes, BEVDET_GRID, 25, point) < none for point in ("centre", "corner"))
    missed = {}
    for name, grid in (("finer", BEVDET_GRID), ("coarser", BEVDET_GRID.scaled(2))):
        alone = replace(boxes, frame=torch.arange(none))  # whether or not another one holds its cells
        missed[name] = float((box_owners(alone, grid, none) == none).all(2).all(1).float().mean())
    return {"share_of_other_cells": float((code & ~ours).sum() / code.sum())} | {
        f"boxes_without_a_{name}_cell": share for name, share in missed.items()
    }


@measure
def distillbev_false_positives() -> dict[str, float]:
    """In the code eta is 10, and channels are weighed by the teacher's activity."""
    boxes = drawn_boxes(30, 2, 50.0)
    ours, eta = distillbev(boxes), distillbev(boxes, weights={"eta": 10})
    channels = distillbev(boxes, fp_channel_attention=True)
    return {
        "by_eta": eta["fp_high"] / ours["fp_high"],
        "by_channel_attention": abs(channels["fp_high"] / ours["fp_high"] - 1),
    }


@measure
def distillbev_imitation() -> dict[str, float]:
    """Attention imitation compares means of absolute values; the code means, behind a convolution."""
    boxes = drawn_boxes(30, 2, 50.0)
    ours, mean = distillbev(boxes)["attn_high"], distillbev(boxes, attn_pool="mean")["attn_high"]
    return {"by_mean": mean / ours}


@measure
def distillbev_scaling() -> dict[str, float]:
    """In the code cells of objects weigh at least what true negatives do: a box would have to be a thousand times as
    large as its cells are few.
    """
    boxes = drawn_boxes(30, 2, 50.0)
    ours, code = distillbev(boxes), distillbev(boxes, scaling="code")
    return {"change_of_object_term": abs(code["fg_high"] / ours["fg_high"] - 1)}


@measure
def distillbev_resampling() -> dict[str, float]:
    """With its corner cells on the teacher's a map of 32 cells a side is stretched: how far cells move, each way."""
    fine = torch.arange(128, dtype=torch.float64)
    stretched, still = fine * 31 / 127, (fine + 0.5) / 4 - 0.5
    apart = 3.2 * (stretched - still).abs()
    return {"mean_shift_m": float(apart.mean()), "largest_m": float(apart.max())}


def simdistill(boxes: Boxes, **options: object) -> dict[str, float]:
    """Unweighted losses of SimDistill between drawn networks, with some options of its parts."""
    frames = 1 + int(boxes.frame.max())
    student, teacher = (drawn_outputs(seed, frames) for seed in (1, 2))
    maps = dict.fromkeys(("camera", "lidar", "simulated"), FeatureInfo(16))
    for outputs in (student, teacher):
        outputs.features |= {name: outputs.feature("high") for name in maps}
    spec = FeatureSpec.of_bev(16, 16, 10, 66, ("camera",))
    spec = replace(spec, features=spec.features | maps)
    context = DistillContext(GRID, frames, boxes, torch.ones(frames, dtype=torch.bool))
    torch.manual_seed(0)
    method = build_method(MethodConfig("simdistill", dict(options)), spec, spec)
    with torch.no_grad():
        found = method.losses(student, method.targets(teacher, context), context)
    return {term: float(value) for term, value in found.items()}


@measure
def simdistill_missed_object() -> dict[str, float]:
    """An object that the teacher sees (score 0.99) and the student does not (0.001): loss and gradient with one
    sigmoid, and with two, where all cells of the map are counted as positive.
    """
    found = {}
    for name, double in (("ours", False), ("code", True)):
        student, teacher = (torch.full((1, 1, GRID.H, GRID.W), -6.9) for _ in range(2))
        teacher[0, 0, 90, 90] = 4.6
        loss = class_response(student.requires_grad_(), teacher, [1], double)
        loss.backward()
        assert student.grad is not None
        found |= {f"loss_{name}": float(loss.detach()), f"gradient_{name}": float(student.grad.abs().max())}
    return found


@measure
def simdistill_counts() -> dict[str, float]:
    """Positive cells are counted across the classes of a task, so that each count is a part of the whole."""
    boxes = drawn_boxes(30, 2, 50.0)
    ours, mixed = simdistill(boxes), simdistill(boxes, mmd_p={"mixed_counts": True})
    return {"class_term_of_the_code": mixed["mmd_p_cls"] / ours["mmd_p_cls"]}


@measure
def simdistill_padding() -> dict[str, float]:
    """500 boxes count in each task of each frame; where there are less, the first cell of the map stands in."""
    boxes = drawn_boxes(30, 2, 50.0)
    ours, padded = simdistill(boxes), simdistill(boxes, mmd_p={"padded_boxes": True})
    share = 1 - len(boxes) / (500 * len(TASKS) * 2)
    return {"share_of_padding": share, "box_term_of_the_code": padded["mmd_p_box"] / ours["mmd_p_box"]}


@measure
def simdistill_sines() -> dict[str, float]:
    """The sine of the yaw is taken for an angle."""
    boxes = drawn_boxes(30, 2, 50.0)
    ours, code = simdistill(boxes), simdistill(boxes, mmd_p={"sine_difference": True})
    return {"box_term_of_the_code": code["mmd_p_box"] / ours["mmd_p_box"]}


@measure
def simdistill_mask() -> dict[str, float]:
    """The mask is a sum over classes and exceeds 1 in crowds; the mean is over all cells, not over those with heat."""
    boxes = drawn_boxes(60, 2, 20.0)
    ours = simdistill(boxes)["cmd"]
    clipped, masked = (simdistill(boxes, cmd=c)["cmd"] for c in ({"mask_clip": 1}, {"mask_norm": "mask"}))
    return {"clipped": clipped / ours, "cells_with_heat": ours / masked}


@measure
def simdistill_teacher_fuser() -> dict[str, float]:
    """The teacher's fuser learns, too: what is left of the loss of fused maps after 100 of its steps at the published
    rate, towards a student that stays where it is.
    """
    torch.manual_seed(0)
    teacher = build_detector(load_model("fusion", "smoke")[0]).eval()
    fuser = TrainedFuser(teacher, ("camera", "lidar"))
    size = (teacher.grid.H, teacher.grid.W)
    maps = {name: torch.randn(4, teacher.spec.channels(name), *size).relu() for name in teacher.fused}
    with torch.no_grad():
        student = torch.randn_like(fuser(maps, heads=False).low).relu()
    optimizer = torch.optim.AdamW(fuser.fuser.parameters(), lr=2e-4)
    losses = []
    for _ in range(101):
        loss = (fuser(maps, heads=False).low - student).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"left_of_mmd_f": losses[-1] / losses[0]}


def measured() -> dict[str, dict[str, float]]:
    """All numbers, by what they are of."""
    torch.manual_seed(0)
    return {name: {key: rounded(value) for key, value in work().items()} for name, work in MEASURES.items()}


def rounded(value: float) -> float:
    """Three significant digits: more would be those of the machine."""
    return float(f"{value:.3g}")


def main() -> None:
    torch.set_num_threads(1)
    found = measured()
    write_json(RESULTS, found, indent=1)
    for name, values in found.items():
        print(f"{name:28}", ", ".join(f"{key} {value:.3g}" for key, value in values.items()))


if __name__ == "__main__":
    main()
