"""UniDistill's geometry, mask and losses against values worked by hand (box sizes in metres, cells of 0.6 m)."""

from __future__ import annotations

import math

import pytest
import torch

from bevkd.config import MethodConfig
from bevkd.data.batch import Boxes
from bevkd.distill import DistillContext, FeatureSpec, build_method
from bevkd.distill.crucial_points import crucial_points
from bevkd.distill.masks import gaussian_mask
from bevkd.distill.methods.unidistill import UniDistill
from bevkd.distill.pairwise import cosine_matrix
from bevkd.distill.sampling import sample_points
from bevkd.geometry import BEVGrid
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius
from bevkd.models.outputs import REGRESSION, BEVOutputs, CenterOutput, TaskOutput

GRID = BEVGrid.centred(54.0, 0.6)
WIDE = BEVGrid(-54.0, -48.0, 0.6, 180, 160)
CAR = (4.63, 1.96)

FIRST = torch.zeros(1, dtype=torch.long)  # one entry, of frame 0


def boxes_at(rows: list[tuple[float, float, float, float, float]], frame: list[int] | None = None) -> Boxes:
    """Boxes from (x, y, l, w, yaw)."""
    out = torch.zeros(len(rows), 9)
    for i, (x, y, length, width, yaw) in enumerate(rows):
        out[i, [0, 1, 3, 4, 6]] = torch.tensor([x, y, length, width, yaw])
    index = torch.tensor(frame if frame is not None else [0] * len(rows), dtype=torch.long)
    return Boxes(out, torch.zeros(len(rows), dtype=torch.long), index, torch.ones(len(rows)))


def outputs_of(grid: BEVGrid, batch: int = 1, low: int = 4, high: int = 5, seed: int = 0) -> BEVOutputs:
    g = torch.Generator().manual_seed(seed)

    def maps(channels: int) -> torch.Tensor:
        return torch.randn(batch, channels, grid.H, grid.W, generator=g)

    heads = [TaskOutput(maps(k), {n: maps(c) for n, c in REGRESSION}) for k in (1, 2, 2, 1, 2, 2)]
    return BEVOutputs({"low": maps(low), "high": maps(high)}, CenterOutput(heads, tuple(range(10))))


def unidistill(teacher: str = "lidar", student: str = "camera", **options: object) -> UniDistill:
    def spec(sensors: str) -> FeatureSpec:
        return FeatureSpec.of_bev(4, 5, 10, 66, tuple(sensors.split("+")))

    method = build_method(MethodConfig("unidistill", dict(options)), spec(student), spec(teacher))
    assert isinstance(method, UniDistill)
    return method


def losses(method: UniDistill, student: BEVOutputs, teacher: BEVOutputs, context: DistillContext) -> dict[str, float]:
    found = method.losses(student, method.targets(teacher, context), context)
    return {name: float(loss) for name, loss in found.items()}


def context_of(boxes: Boxes, grid: BEVGrid = GRID, batch: int = 1) -> DistillContext:
    return DistillContext(grid, batch, boxes, torch.ones(batch, dtype=torch.bool))


def test_nine_points() -> None:
    points = crucial_points(boxes_at([(10, -4, 4, 2, math.radians(30))]).boxes)[0]
    expected = [
        (8.7679, -5.8660),
        (7.7679, -4.1340),
        (11.2321, -2.1340),
        (12.2321, -3.8660),
        (10.0, -4.0),
        (8.2679, -5.0000),
        (9.5000, -3.1340),
        (11.7321, -3.0000),
        (10.5000, -4.8660),
    ]
    torch.testing.assert_close(points, torch.tensor(expected), atol=1e-4, rtol=0)
    torch.testing.assert_close(GRID.to_cells(points[4]), torch.tensor([106.6667, 83.3333]), atol=1e-4, rtol=0)
    torch.testing.assert_close(GRID.normalised(points[4]), torch.tensor([0.185185, -0.074074]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("grid", [GRID, WIDE], ids=["square", "180x160"])
@pytest.mark.parametrize(("x", "y"), [(30.0, -12.0), (-7.25, 31.4), (0.3, 0.3)])
def test_sampling_reads_row_and_column(grid: BEVGrid, x: float, y: float) -> None:
    row, column = torch.meshgrid(torch.arange(grid.H), torch.arange(grid.W), indexing="ij")
    maps = torch.stack([row, column]).float()[None]
    points = grid.normalised(crucial_points(boxes_at([(x, y, 4, 2, 0.4)]).boxes))
    u, v = (x - grid.x_min) / grid.cell, (y - grid.y_min) / grid.cell
    read = sample_points(maps, points, FIRST)[0, 4]
    torch.testing.assert_close(read, torch.tensor([v - 0.5, u - 0.5]), atol=1e-3, rtol=0)


def test_sampling_with_the_axes_of_the_public_code() -> None:
    row, column = torch.meshgrid(torch.arange(180), torch.arange(180), indexing="ij")
    maps = torch.stack([row, column]).float()[None]
    points = GRID.normalised(torch.tensor([[[30.0, -12.0]]]))
    right, legacy = (sample_points(maps, points, FIRST, swap)[0, 0] for swap in (False, True))
    torch.testing.assert_close(right, torch.tensor([69.5, 139.5]), atol=1e-3, rtol=0)
    torch.testing.assert_close(legacy, torch.tensor([139.5, 69.5]), atol=1e-3, rtol=0)


def test_a_cell_centre_returns_its_cell_and_outside_is_zero() -> None:
    maps = torch.rand(1, 3, GRID.H, GRID.W)
    centre = torch.tensor([[[-54 + 0.6 * 7.5, -54 + 0.6 * 31.5], [60.0, 0.0]]])
    read = sample_points(maps, GRID.normalised(centre), FIRST)[0]
    torch.testing.assert_close(read[0], maps[0, :, 31, 7], atol=1e-4, rtol=0)
    assert (read[1] == 0).all()


def test_gaussian_weights() -> None:
    one = draw_gaussians(torch.tensor([[2, 3]]), torch.tensor([1]), torch.tensor([0]), 1, 7, 6)[0]
    assert float(one[3, 2]) == 1
    torch.testing.assert_close(one[3, 1], torch.tensor(math.exp(-2)))
    torch.testing.assert_close(one[2, 1], torch.tensor(math.exp(-4)))
    assert int((one > 0).sum()) == 9
    two = draw_gaussians(torch.tensor([[3, 3]]), torch.tensor([2]), torch.tensor([0]), 1, 7, 7)[0]
    at = {(0, 1): 0.48675, (1, 1): 0.23693, (0, 2): 0.05613, (1, 2): 0.02732, (2, 2): 0.00315}
    for (dy, dx), value in at.items():
        assert float(two[3 + dy, 3 + dx]) == pytest.approx(value, abs=5e-6)
        assert float(two[3 - dx, 3 - dy]) == pytest.approx(value, abs=5e-6)
    assert int((two > 0).sum()) == 25


def test_overlapping_peaks_take_the_maximum_and_the_border_cuts() -> None:
    centres, radius = torch.tensor([[1, 1], [2, 1], [0, 0]]), torch.tensor([1, 1, 2])
    both = draw_gaussians(centres, radius, torch.tensor([0, 0, 1]), 2, 4, 4)
    assert float(both[0, 1, 1]) == 1
    assert float(both[0, 1, 2]) == 1
    assert int((both[1] > 0).sum()) == 9
    assert float(both[1, 0, 0]) == 1


@pytest.mark.parametrize(
    ("length", "width", "radius"),
    [
        (4.63, 1.96, 1.272),
        (6.93, 2.51, 1.710),
        (10.5, 2.94, 2.150),
        (12.29, 2.90, 2.209),
        (6.37, 2.85, 1.816),
        (0.50, 2.53, 0.395),
        (2.11, 0.77, 0.523),
        (1.70, 0.60, 0.412),
        (0.73, 0.67, 0.318),
        (0.41, 0.41, 0.187),
    ],
)
def test_radius(length: float, width: float, radius: float) -> None:
    found = gaussian_radius(torch.tensor(length / 0.6), torch.tensor(width / 0.6), 0.7)
    assert float(found) == pytest.approx(radius, abs=6e-4)


def test_mask_of_one_car_and_one_cone() -> None:
    boxes = boxes_at([(10, -4, *CAR, 0.7), (-20, 30, 0.41, 0.41, 0)])
    mask = gaussian_mask(boxes, GRID, 1)
    assert int((mask > 0).sum()) == 10
    assert float(mask[0, 83, 106]) == 1
    assert float(mask[0, 140, 56]) == 1


def test_feature_loss_of_a_shift() -> None:
    rows = [(10.0, -4.0, *CAR, 0.7), (-20.0, 30.0, 0.41, 0.41, 0.0), (3.0, 8.0, 10.5, 2.9, -2.0)]
    context, teacher, student = context_of(boxes_at(rows)), outputs_of(GRID), outputs_of(GRID)
    student.features["low"] = teacher.low - 0.3
    assert losses(unidistill(), student, teacher, context)["feature"] == pytest.approx(0.3 * 3 / (3 + 1e-4), rel=1e-5)


def test_relation_ignores_a_positive_factor() -> None:
    context, teacher, student = context_of(boxes_at([(10, -4, *CAR, 0.7)])), outputs_of(GRID), outputs_of(GRID)
    student.features["high"] = 7.0 * teacher.high
    assert losses(unidistill(), student, teacher, context)["relation"] < 1e-4


def test_relation_of_hand_worked_cosines() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    half = 1 / math.sqrt(2)
    expected = torch.tensor([[1, 0, half], [0, 1, half], [half, half, 1]])
    torch.testing.assert_close(cosine_matrix(features), expected, atol=3e-4, rtol=0)


def test_response_of_one_car_with_scores_apart_by_a_tenth() -> None:
    context, teacher, student = context_of(boxes_at([(10, -4, *CAR, 0.0)])), outputs_of(GRID), outputs_of(GRID)
    for taught, head in zip(teacher.heads, student.heads, strict=True):
        taught.heatmap.fill_(2 * math.log(0.6 / 0.4))  # the halved logit gives 0.6
        head.heatmap.fill_(0.0)
        head.regression = {name: maps + 0.25 for name, maps in taught.regression.items()}
    total = 1 + 4 * math.exp(-2) + 4 * math.exp(-4)
    found = losses(unidistill(), student, teacher, context)
    assert found["response_cls"] == pytest.approx(0.1 * total / (total + 1e-4), rel=1e-5)
    assert found["response_reg"] == pytest.approx(0.25 * total / (total + 1e-4), rel=1e-5)


def test_gaussian_and_complete_feature_variants_of_a_shift() -> None:
    context, teacher, student = context_of(boxes_at([(10, -4, *CAR, 0.0)])), outputs_of(GRID), outputs_of(GRID)
    student.features["low"] = teacher.low - 0.3
    total = 1 + 4 * math.exp(-2) + 4 * math.exp(-4)
    only = {"weights": {"relation": 0, "response": 0}}
    gaussian = losses(unidistill(**only, feature={"points": "gaussian"}), student, teacher, context)
    complete = losses(unidistill(**only, feature={"points": "complete"}), student, teacher, context)
    assert gaussian == {"feature": pytest.approx(0.3 * total / (total + 1e-4), rel=1e-5)}
    assert complete == {"feature": pytest.approx(0.3, rel=1e-5)}


PATHS = {
    ("lidar+camera", "lidar"): (10, 1, 10),
    ("lidar+camera", "camera"): (10, 5, 10),
    ("camera", "lidar"): (10, 5, 1),
    ("lidar", "camera"): (100, 40, 10),
}


@pytest.mark.parametrize("path", PATHS)
def test_weights_adapters_and_clip_of_each_path(path: tuple[str, str]) -> None:
    method, (feature, relation, response) = unidistill(*path), PATHS[path]
    assert method.weights() == {
        "feature": feature,
        "relation": relation,
        "response_cls": response,
        "response_reg": response,
    }
    assert set(method.adapters) == ({"feature", "relation"} if path == ("camera", "lidar") else set())
    assert method.teacher_eps == (1e-3 if path == ("lidar+camera", "camera") else 1e-4)


ROWS = [(10.0, -4.0, *CAR, 0.7), (-20.0, 30.2, 0.7, 0.7, 0.1), (3.0, 8.0, 10.5, 2.9, -2.0), (-31.0, -9.2, *CAR, 2.5)]
VARIANTS: list[dict[str, object]] = [
    {},
    {"feature": {"points": "gaussian"}, "relation": {"points": "gaussian"}},
    {"feature": {"level": "high"}, "relation": {"level": "low"}},
]


@pytest.mark.parametrize("options", VARIANTS, ids=["nine", "gaussian", "levels"])
def test_order_of_boxes_does_not_matter(options: dict[str, object]) -> None:
    teacher, student = outputs_of(GRID, seed=1), outputs_of(GRID, seed=2)
    one = losses(unidistill(**options), student, teacher, context_of(boxes_at(ROWS)))
    other = losses(unidistill(**options), student, teacher, context_of(boxes_at([ROWS[i] for i in (2, 0, 3, 1)])))
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("grid", [GRID, WIDE], ids=["square", "180x160"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_mirrored_scene_gives_the_same_losses_unless_axes_are_swapped(grid: BEVGrid, legacy: bool) -> None:
    method = unidistill(legacy_transpose=legacy)
    teacher, student = outputs_of(grid, seed=1), outputs_of(grid, seed=2)
    mirrored = [(x, -y, length, width, -yaw) for x, y, length, width, yaw in ROWS]
    flipped = []
    for outputs in (student, teacher):
        heads = [TaskOutput(h.heatmap.flip(2), {n: t.flip(2) for n, t in h.regression.items()}) for h in outputs.heads]
        maps = {name: value.flip(2) for name, value in outputs.features.items()}
        flipped.append(BEVOutputs(maps, CenterOutput(heads, outputs.class_order)))
    one = losses(method, student, teacher, context_of(boxes_at(ROWS), grid))
    other = losses(method, *flipped, context_of(boxes_at(mirrored), grid))
    assert one["response_cls"] == pytest.approx(other["response_cls"], rel=1e-4)
    for name in ("feature", "relation"):
        assert (one[name] == pytest.approx(other[name], rel=1e-4)) != legacy


@pytest.mark.parametrize("options", VARIANTS, ids=["nine", "gaussian", "levels"])
def test_a_split_batch_averages_to_the_whole_batch(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    from bevkd.distill import pairwise

    method = unidistill(**options)
    teacher, student = outputs_of(GRID, 2, seed=1), outputs_of(GRID, 2, seed=2)
    frames = [0, 0, 0, 1]
    whole = losses(method, student, teacher, context_of(boxes_at(ROWS, frames), batch=2))

    def frame_of(outputs: BEVOutputs, i: int) -> BEVOutputs:
        heads = [
            TaskOutput(h.heatmap[i : i + 1], {n: t[i : i + 1] for n, t in h.regression.items()}) for h in outputs.heads
        ]
        maps = {name: value[i : i + 1] for name, value in outputs.features.items()}
        return BEVOutputs(maps, CenterOutput(heads, outputs.class_order))

    parts = [context_of(boxes_at(ROWS[:3])), context_of(boxes_at(ROWS[3:]))]
    counts: list[list[float]] = [[], []]

    def run(rank: int, mean: object) -> dict[str, float]:
        monkeypatch.setattr(pairwise, "rank_mean", mean)
        return losses(method, frame_of(student, rank), frame_of(teacher, rank), parts[rank])

    for rank in (0, 1):

        def record(value: object, device: object = None, rank: int = rank) -> torch.Tensor:
            counts[rank].append(float(value))  # type: ignore[arg-type]
            return torch.tensor(counts[rank][-1])

        run(rank, record)
    means = [(a + b) / 2 for a, b in zip(*counts, strict=True)]
    split = []
    for rank in (0, 1):
        answers = iter(means)
        split.append(run(rank, lambda value, device=None, answers=answers: torch.tensor(next(answers))))
    for name, value in whole.items():
        assert value == pytest.approx((split[0][name] + split[1][name]) / 2, rel=1e-3), name
