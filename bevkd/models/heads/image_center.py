"""CenterNet's head on image features, for 2D boxes; beside it the class of each pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pixel_shuffle

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Boxes, Cameras
from bevkd.data.inputs.objects import KEY, UNKNOWN, ImageObjects
from bevkd.errors import ConfigError
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius
from bevkd.models.features import FeatureInfo
from bevkd.models.head_outputs import HeadOutput
from bevkd.models.heads.base import Head
from bevkd.models.heads.center import HEATMAP_BIAS
from bevkd.models.layers import conv_bn_relu, full_precision
from bevkd.models.losses import gaussian_heatmap_loss
from bevkd.models.ops.peaks import highest_near
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import one_over_ranks, rank_count
from bevkd.registry import register

_LOG_SIZE = (-6.0, 6.0)  # of a box, in cells: keeps what nothing has taught from overflowing


@dataclass
class ImageOutput(HeadOutput):
    """Of M = B * N images.

    Attributes:
        heatmap: (M, K, h, w) logits.
        box: (M, 4, h, w) log width, log height (cells), and the centre's offset to the corner of the cell (cells).
        classes: (M, 1 + K, h', w') logits of the class of each pixel, 0 for none; or None.
        cameras: what the images were; from these boxes are in pixels of the source.
        decoder: as the head is set up.
    """

    heatmap: Tensor
    box: Tensor
    classes: Tensor | None
    cameras: Cameras
    decoder: Callable[[ImageOutput], Boxes]

    def boxes(self) -> Boxes:
        """Boxes (M, 4) xmin, ymin, xmax, ymax in pixels of the source images (one camera per frame)."""
        return self.decoder(self)


@register("head", "image_center")
class ImageCenterHead(Head):
    """One hidden convolution, then a convolution of kernel 1 for everything; finer cells by a pixel shuffle.

    Raises:
        ConfigError: finer cells than pixels.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config)
        head, stride = config.head, config.camera.stride
        for name in ("fineness", "classes_fineness"):
            if getattr(head, name) and stride % getattr(head, name):
                raise ConfigError(f"model.head.{name} must divide camera.stride {stride}")
        self.classes, self.regression_maps = len(self.class_order), 4
        self.fineness, self.classes_fineness = head.fineness, head.classes_fineness
        self.cell = stride // head.fineness  # pixels
        self.shared = conv_bn_relu(in_channels, head.channels, config.norm.of(head))
        self.heatmap = nn.Conv2d(head.channels, self.classes * head.fineness**2, 1)
        self.box = nn.Conv2d(head.channels, 4 * head.fineness**2, 1)
        pixels = (1 + self.classes) * head.classes_fineness**2
        self.pixels = nn.Conv2d(head.channels, pixels, 1) if pixels else None
        assert self.heatmap.bias is not None
        nn.init.constant_(self.heatmap.bias, HEATMAP_BIAS)
        maps = self.classes + self.regression_maps
        self.features["heads"] = FeatureInfo(maps, self.cell, "image", stage="heads")

    def forward(self, features: Tensor, cameras: Cameras) -> ImageOutput:  # type: ignore[override]
        """Features of the neck (M, C, h, w) to what it says of the images."""
        shared = self.shared(features)
        return ImageOutput(
            heatmap=pixel_shuffle(self.heatmap(shared), self.fineness),
            box=pixel_shuffle(self.box(shared), self.fineness),
            classes=None if self.pixels is None else pixel_shuffle(self.pixels(shared), self.classes_fineness),
            cameras=cameras,
            decoder=self.decode,
        )

    def criterion(self) -> nn.Module:
        """See `ImageLoss`."""
        return ImageLoss(self.config, self.class_order, self.cell)

    @torch.no_grad()
    def decode(self, output: ImageOutput) -> Boxes:
        """The best local maxima of each image, best first."""
        settings = self.config.decode
        heat = torch.sigmoid(output.heatmap.float())
        heat = torch.where(heat == highest_near(heat, 3), heat, 0.0)
        _, classes, height, width = heat.shape
        score, place = heat.flatten(1).topk(min(settings.top_k, classes * height * width), dim=1)
        image, nth = (score > settings.score_threshold).nonzero(as_tuple=True)
        score, place = score[image, nth], place[image, nth]
        slot, cell = place // (height * width), place % (height * width)
        box = output.box.float().flatten(2)[image, :, cell]  # (n, 4)
        size = box[:, :2].clamp(*_LOG_SIZE).exp() * self.cell
        corner = torch.stack([cell % width, cell // width], dim=-1)
        centre = (corner + box[:, 2:]) * self.cell
        corners = torch.cat([centre - size / 2, centre + size / 2], dim=1)
        labels = torch.tensor(self.class_order, device=slot.device)[slot]
        return Boxes(_to_source(corners, output.cameras.image_aug.flatten(0, 1)[image]), labels, image, score)


def _to_source(corners: Tensor, source_to_image: Tensor) -> Tensor:
    """Boxes (n, 4) in pixels of the source: those around the moved corners."""
    back = torch.linalg.inv(source_to_image.float())
    x, y = corners[:, [0, 2, 0, 2]], corners[:, [1, 1, 3, 3]]
    u = back[:, 0, 0, None] * x + back[:, 0, 1, None] * y + back[:, 0, 2, None]
    v = back[:, 1, 0, None] * x + back[:, 1, 1, None] * y + back[:, 1, 2, None]
    return torch.stack([u.amin(1), v.amin(1), u.amax(1), v.amax(1)], dim=1)


class ImageLoss(nn.Module):
    """Weighted sum of the heat maps' focal loss, L1 of size and offset at centres, and cross-entropy of pixels."""

    def __init__(self, config: ModelConfig, class_order: tuple[int, ...], cell: int) -> None:
        super().__init__()
        self.config, self.cell = config, cell
        slots = torch.full((max(class_order) + 1,), -1)
        slots[list(class_order)] = torch.arange(len(class_order))
        self._slots = slots

    def forward(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        """`total` with its graph and the detached, unweighted terms `heatmap, size, offset[, classes]`.

        Raises:
            ValueError: a batch without 2D labels.
        """
        if not isinstance(batch.extra.get(KEY), ImageObjects):
            raise ValueError("the batch has no 2D labels")
        output = outputs.head
        assert isinstance(output, ImageOutput)
        with full_precision(output.heatmap):
            return self._losses(output, batch.extra[KEY])

    def _losses(self, output: ImageOutput, objects: ImageObjects) -> dict[str, Tensor]:
        weights = self.config.loss
        target = self.targets(objects, output.heatmap.shape)
        count = rank_count(target.count)
        wrong = (target.read(output.box.float()) - target.box).abs().sum(dim=0)
        named = {
            "heatmap": gaussian_heatmap_loss(output.heatmap.float(), target.heatmap) / count,
            "size": wrong[:2].sum() / count,
            "offset": wrong[2:].sum() / count,
        }
        total = weights.heatmap_weight * named["heatmap"]
        total = total + weights.size_weight * named["size"] + weights.offset_weight * named["offset"]
        if output.classes is not None and objects.classes is not None:
            named["classes"] = self._pixels(output.classes.float(), objects.classes)
            total = total + weights.classes_weight * named["classes"]
        return {"total": total} | {name: value.detach() for name, value in named.items()}

    def _pixels(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Mean cross-entropy of the pixels whose class is known."""
        lookup = torch.full((256,), 0, device=classes.device)
        lookup[1 : len(self._slots) + 1] = (self._slots + 1).to(classes.device)
        lookup[UNKNOWN] = UNKNOWN
        wanted = lookup[classes.long()]
        known = (wanted != UNKNOWN).sum()
        loss = cross_entropy(logits, wanted, ignore_index=UNKNOWN, reduction="sum")
        return loss / rank_count(known).clamp(min=one_over_ranks())

    def targets(self, objects: ImageObjects, shape: torch.Size) -> ImageTargets:
        """What heat maps of a shape (M, K, h, w) are to be; the smaller of two objects with one centre is learnt."""
        images, classes, height, width = shape
        box = objects.boxes / self.cell  # cells
        labels = objects.labels.clamp(max=len(self._slots) - 1)
        slot = self._slots.to(labels.device)[labels]
        slot = torch.where(labels == objects.labels, slot, -1)
        size = box[:, 2:] - box[:, :2]
        order = torch.sort(-size.prod(dim=1), stable=True).indices  # the last one of a cell stays
        order = order[slot[order] >= 0]
        box, size, slot, image = box[order], size[order], slot[order], objects.image[order]
        centre = (box[:, :2] + box[:, 2:]) / 2
        corner = centre.floor().long()
        corner = torch.stack([corner[:, 0].clamp(0, width - 1), corner[:, 1].clamp(0, height - 1)], dim=1)
        head = self.config.head
        radius = gaussian_radius(size[:, 0], size[:, 1], head.min_overlap).floor().long().clamp(min=head.min_radius)
        planes = images * classes
        heat = draw_gaussians(corner, radius, image * classes + slot, planes, height, width)
        cell = (image * height + corner[:, 1]) * width + corner[:, 0]
        code = torch.cat([size.clamp(min=1e-3).log(), centre - corner], dim=1)
        last = torch.full((images * height * width,), -1, device=cell.device)
        last.scatter_reduce_(0, cell, torch.arange(len(cell), device=cell.device), reduce="amax")
        kept = last[last >= 0]
        heatmap = heat.view(images, classes, height, width)
        return ImageTargets(heatmap, cell[kept], code[kept], (heatmap == 1).sum())


@dataclass
class ImageTargets:
    """Targets of M images.

    Attributes:
        heatmap: (M, K, h, w) in [0, 1].
        cell: (n,) flat cells `(image * h + row) * w + column` of centres, ascending.
        box: (n, 4) log width, log height, offset.
        count: () centres in the heat maps.
    """

    heatmap: Tensor
    cell: Tensor
    box: Tensor
    count: Tensor

    def read(self, maps: Tensor) -> Tensor:
        """Maps (M, C, h, w) at the centres (n, C)."""
        return maps.movedim(1, -1).flatten(0, 2)[self.cell]
