"""Overlap of rotated rectangles in plain torch: areas, IoU in BEV and 3D, non-maximum suppression.

The intersection of a convex polygon with an axis-aligned box needs no case analysis: cut each edge where it crosses
the lines of the box, move every vertex to the nearest point of the box (clamp), and take the signed area of the
closed chain. Parts outside the box collapse onto its border without enclosing area. The result is exact, has no
special case for parallel or coinciding edges, and is differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor


def corners_bev(boxes: Tensor) -> Tensor:
    """Corners (..., 4, 2), counter-clockwise, of boxes (..., 5): x, y, l, w, yaw."""
    x, y, length, width, yaw = boxes.unbind(-1)
    sx = boxes.new_tensor([0.5, -0.5, -0.5, 0.5])
    sy = boxes.new_tensor([0.5, 0.5, -0.5, -0.5])
    along, across = length[..., None] * sx, width[..., None] * sy
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    return torch.stack([x[..., None] + cos * along - sin * across, y[..., None] + sin * along + cos * across], dim=-1)


def intersection_area(a: Tensor, b: Tensor) -> Tensor:
    """Intersection areas (...) of paired rectangles (..., 5): x, y, l, w, yaw. Differentiable."""
    a, b = torch.broadcast_tensors(a, b)
    # Everything happens in the frame of b, so that b is the axis-aligned box and coordinates stay small.
    cos, sin = b[..., 4].cos(), b[..., 4].sin()
    dx, dy = a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]
    local = torch.stack([cos * dx + sin * dy, cos * dy - sin * dx, a[..., 2], a[..., 3], a[..., 4] - b[..., 4]], dim=-1)
    start = corners_bev(local)  # (..., 4, 2)
    edge = start.roll(-1, dims=-2) - start
    half = b[..., None, 2:4] / 2
    safe = torch.where(edge.abs() < 1e-9, torch.full_like(edge, 1e-9), edge)
    cuts = torch.cat([(half - start) / safe, (-half - start) / safe], dim=-1).clamp(0, 1)  # (..., 4, 4)
    cuts = torch.cat([torch.zeros_like(cuts[..., :1]), cuts.sort(dim=-1).values], dim=-1)  # (..., 4, 5)
    chain = start[..., None, :] + cuts[..., None] * edge[..., None, :]  # (..., 4, 5, 2)
    bound = half[..., None, :]
    chain = torch.maximum(torch.minimum(chain, bound), -bound).flatten(-3, -2)  # (..., 20, 2)
    ahead = chain.roll(-1, dims=-2)
    twice = (chain[..., 0] * ahead[..., 1] - chain[..., 1] * ahead[..., 0]).sum(-1)
    return (twice / 2).clamp(min=0)


_BEV = (0, 1, 3, 4, 6)


def iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """Rotated BEV IoU (...) of paired boxes (..., 7+): x, y, z, l, w, h, yaw."""
    a, b = a[..., _BEV], b[..., _BEV]
    inter = intersection_area(a, b)
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - inter
    return inter / union.clamp(min=1e-9)


def iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Rotated 3D IoU (...) of paired boxes (..., 7+): BEV intersection times the overlap in height. Differentiable."""
    top = torch.minimum(a[..., 2] + a[..., 5] / 2, b[..., 2] + b[..., 5] / 2)
    bottom = torch.maximum(a[..., 2] - a[..., 5] / 2, b[..., 2] - b[..., 5] / 2)
    inter = intersection_area(a[..., _BEV], b[..., _BEV]) * (top - bottom).clamp(min=0)
    union = a[..., 3:6].prod(-1) + b[..., 3:6].prod(-1) - inter
    return inter / union.clamp(min=1e-9)


def iou_nearest_bev(a: Tensor, b: Tensor) -> Tensor:
    """IoU (...) of paired boxes (..., 7+) after turning each to the nearest axis direction."""

    def edges(box: Tensor) -> tuple[Tensor, Tensor]:
        turn = torch.remainder(box[..., 6] + torch.pi / 4, torch.pi) >= torch.pi / 2  # nearer to the y axis
        size = torch.where(turn[..., None], box[..., [4, 3]], box[..., 3:5])
        return box[..., :2] - size / 2, box[..., :2] + size / 2

    (low_a, high_a), (low_b, high_b) = edges(a), edges(b)
    inter = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = (high_a - low_a).prod(-1) + (high_b - low_b).prod(-1) - inter
    return inter / union.clamp(min=1e-9)


def pairwise_iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """Rotated BEV IoU (N, M) of all pairs of boxes (N, 7+) and (M, 7+); far pairs cost nothing."""
    out = a.new_zeros(len(a), len(b))
    reach = (a[:, 3:5].norm(dim=1)[:, None] + b[:, 3:5].norm(dim=1)[None]) / 2
    i, j = (torch.cdist(a[:, :2], b[:, :2]) < reach).nonzero(as_tuple=True)
    out[i, j] = iou_bev(a[i], b[j])
    return out


def suppress(first: Tensor, second: Tensor, count: int) -> Tensor:
    """Greedy suppression from conflict pairs: keep mask (count,) over candidates in order of rank.

    Candidate `second[k]` conflicts with the better ranked `first[k]`. It is dropped if any *kept* better candidate
    conflicts with it. Iterated to the fixed point, which is unique and equals the sequential algorithm's result.
    """
    keep = torch.ones(count, dtype=torch.bool, device=first.device)
    while True:
        hit = torch.zeros_like(keep)
        hit[second[keep[first]]] = True
        if torch.equal(~hit, keep):
            return keep
        keep = ~hit


def nms_rotated(boxes: Tensor, ranks: Tensor, threshold: float, group: Tensor | None = None) -> Tensor:
    """Rotated BEV non-maximum suppression: indices of the kept boxes, best first.

    Args:
        boxes: (N, 7+).
        ranks: (N,), higher is better; ties go to the lower index.
        threshold: boxes with IoU above it are suppressed.
        group: (N,) int64; only boxes of one group suppress each other (frames of a batch, classes).
    """
    order = torch.sort(ranks, descending=True, stable=True).indices
    ordered = boxes[order]
    first, second = near_pairs(ordered, None if group is None else group[order])
    conflict = iou_bev(ordered[first], ordered[second]) > threshold
    return order[suppress(first[conflict], second[conflict], len(order))]


_PAIRS = 1 << 17  # that are looked at in one go


def near_pairs(boxes: Tensor, group: Tensor | None, reach: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Index pairs (i < j) of boxes (N, 7+) of one group whose centres are closer than their half diagonals together.

    With `reach` (N,) the limit is that of the first box of the pair instead.
    """
    group = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device) if group is None else group
    members = torch.sort(group, stable=True).indices  # group after group, in each in the order of the boxes
    _, sizes = torch.unique_consecutive(group[members], return_counts=True)
    counts, firsts, seconds = sizes.tolist(), [members[:0]], [members[:0]]
    half = boxes[:, 3:5].norm(dim=1) / 2 if reach is None else reach
    start = at = 0
    while at < len(counts):
        # So many groups at a time that their pairs fit; a row each, as long as the largest of them.
        last, widest = at + 1, counts[at]
        while last < len(counts) and (last + 1 - at) * max(widest, counts[last]) ** 2 <= _PAIRS:
            widest = max(widest, counts[last])
            last += 1
        size = sizes[at:last]
        offset = start + size.cumsum(0) - size
        slot = torch.arange(widest, device=boxes.device)
        there = slot < size[:, None]  # (groups, widest)
        member = members[torch.where(there, offset[:, None] + slot, offset[:, None])]
        x, y = boxes[member, 0], boxes[member, 1]
        squared = (x[:, :, None] - x[:, None]) ** 2 + (y[:, :, None] - y[:, None]) ** 2
        limit = half[member][:, :, None]
        if reach is None:
            limit = limit + half[member][:, None]
        near = (squared < limit**2) & (slot[:, None] < slot) & there[:, None]  # the first is there where the second is
        row, i, j = near.nonzero(as_tuple=True)
        firsts.append(member[row, i])
        seconds.append(member[row, j])
        start, at = start + sum(counts[at:last]), last
    return torch.cat(firsts), torch.cat(seconds)


def nms_circle(boxes: Tensor, ranks: Tensor, radius: Tensor, group: Tensor | None = None) -> Tensor:
    """As `nms_rotated`, but a box suppresses those whose centre lies within its own `radius` (N,) metres."""
    order = torch.sort(ranks, descending=True, stable=True).indices
    first, second = near_pairs(boxes[order], None if group is None else group[order], radius[order])
    return order[suppress(first, second, len(order))]
