"""TransFusion's head: object queries from the peaks of a heat map, one transformer decoder, a box per query.

UniDistill's Table S4 puts it on both networks of path (1). The heat map is the only dense output; boxes exist per
query, so there is no response to distil.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.config.schema import ModelConfig, NormConfig
from bevkd.data.batch import Boxes
from bevkd.errors import ConfigError
from bevkd.geometry import BEVGrid
from bevkd.models.features import FeatureInfo
from bevkd.models.head_outputs import QueryOutput, TaskOutput
from bevkd.models.heads.base import Head
from bevkd.models.heads.center import HEATMAP_BIAS
from bevkd.models.heads.query_loss import QueryLoss, query_boxes
from bevkd.models.heads.transfusion_settings import QuerySettings
from bevkd.models.layers import conv_bn_relu, full_precision
from bevkd.models.ops.peaks import highest_near
from bevkd.registry import register

# Branches of a query and their widths; `center` is relative to the query's place.
_BRANCHES = (("center", 2), ("height", 1), ("dim", 3), ("rot", 2), ("vel", 2))
_CODE_WIDTH = sum(width for _, width in _BRANCHES)
# Of the batch norms over queries and places, where the head's settings do not say otherwise.
_NORM_1D = NormConfig(eps=1e-5, momentum=0.1)


class PlaceEmbedding(nn.Module):
    """Places in the grid to feature vectors."""

    def __init__(self, channels: int, norm: NormConfig) -> None:
        super().__init__()
        first = nn.BatchNorm1d(channels, eps=norm.eps, momentum=norm.momentum)
        self.layers = nn.Sequential(
            nn.Conv1d(2, channels, 1), first, nn.ReLU(inplace=True), nn.Conv1d(channels, channels, 1)
        )

    def forward(self, place: Tensor) -> Tensor:
        """Places (B, P, 2) in cells to (B, P, channels)."""
        embedded: Tensor = self.layers(place.transpose(1, 2))
        return embedded.transpose(1, 2)


class DecoderLayer(nn.Module):
    """Self-attention among queries, cross-attention to the map, feed-forward; each added and normalised."""

    def __init__(self, query: QuerySettings) -> None:
        super().__init__()
        c, heads = query.channels, query.attention_heads
        self.among = nn.MultiheadAttention(c, heads, dropout=query.dropout, batch_first=True)
        self.to_map = nn.MultiheadAttention(c, heads, dropout=query.dropout, batch_first=True)
        self.feedforward = nn.Sequential(
            nn.Linear(c, query.feedforward),
            nn.ReLU(inplace=True),
            nn.Dropout(query.dropout),
            nn.Linear(query.feedforward, c),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in range(3))
        self.dropout = nn.Dropout(query.dropout)

    def forward(self, queries: Tensor, place: Tensor, cells: Tensor, cell_place: Tensor) -> Tensor:
        """Queries (B, P, C) with embedded places, cells of the map (B, H * W, C) with theirs (1, H * W, C)."""
        located = queries + place
        queries = self.norms[0](queries + self.dropout(self.among(located, located, located, need_weights=False)[0]))
        keys = cells + cell_place
        seen = self.to_map(queries + place, keys, keys, need_weights=False)[0]
        queries = self.norms[1](queries + self.dropout(seen))
        out: Tensor = self.norms[2](queries + self.dropout(self.feedforward(queries)))
        return out


@register("head", "transfusion")
class TransFusionHead(Head):
    """TransFusion's head with all classes in one heat map.

    Raises:
        ConfigError: channels that the attention heads do not divide, or a class of `every_cell` that is not detected.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config)
        query = config.head.query
        if query.channels % query.attention_heads:
            raise ConfigError(
                f"head.query: {query.channels} channels cannot be shared by {query.attention_heads} attention heads"
            )
        self.query, self.grid = query, config.grid.build()
        classes = len(self.class_order)
        self._dense(regression_maps=0)
        self.features["queries"] = FeatureInfo(_CODE_WIDTH + classes, layout="queries", stage="heads")
        self.shared = nn.Conv2d(in_channels, query.channels, 3, padding=1)
        self.heat = nn.Sequential(
            conv_bn_relu(query.channels, query.channels, config.norm.of(config.head)),
            nn.Conv2d(query.channels, classes, 3, padding=1),
        )
        last = self.heat[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, HEATMAP_BIAS)
        self.class_embedding = nn.Linear(classes, query.channels)
        norm = _NORM_1D.of(config.head)
        self.query_place, self.cell_place = (PlaceEmbedding(query.channels, norm) for _ in range(2))
        self.layers = nn.ModuleList(DecoderLayer(query) for _ in range(query.layers))
        self.branches = nn.ModuleDict({name: self._branch(width) for name, width in (*_BRANCHES, ("hm", classes))})
        bias = self.branches["hm"][-1].bias  # type: ignore[index, union-attr]
        nn.init.constant_(bias, HEATMAP_BIAS)
        dense = [name not in query.every_cell for name in (n for task in config.head.tasks for n in task)]
        self.register_buffer("peaked", torch.tensor(dense), persistent=False)
        self.peaked: Tensor
        v, u = torch.meshgrid(torch.arange(self.grid.H) + 0.5, torch.arange(self.grid.W) + 0.5, indexing="ij")
        self.register_buffer("places", torch.stack([u, v], dim=-1).reshape(1, -1, 2), persistent=False)
        self.places: Tensor

    def _branch(self, width: int) -> nn.Sequential:
        hidden, norm = self.query.branch_channels, _NORM_1D.of(self.config.head)
        return nn.Sequential(
            nn.Conv1d(self.query.channels, hidden, 1, bias=False),
            nn.BatchNorm1d(hidden, eps=norm.eps, momentum=norm.momentum),
            nn.ReLU(inplace=True),
            nn.Conv1d(hidden, width, 1),
        )

    def forward(self, high: Tensor) -> QueryOutput:
        """F_high (B, C, H, W) to the queries and the heat maps (one `TaskOutput` without regression)."""
        shared = self.shared(high)
        heatmap = self.heat(shared)
        with full_precision(high):
            cells = shared.float().flatten(2).transpose(1, 2)  # (B, H * W, C)
            cell, label, score = self._peaks(heatmap.detach().float())
            place = self.places.expand(len(cells), -1, -1).gather(1, cell[..., None].expand(-1, -1, 2))
            one_hot = F.one_hot(label, len(self.class_order)).float()
            queries = cells.gather(1, cell[..., None].expand(-1, -1, cells.shape[2])) + self.class_embedding(one_hot)
            query_place, cell_place = self.query_place(place), self.cell_place(self.places)
            for layer in self.layers:
                queries = layer(queries, query_place, cells, cell_place)
            named = {name: branch(queries.transpose(1, 2)).transpose(1, 2) for name, branch in self.branches.items()}
            named["center"] = named["center"] + place
            code = torch.cat([named[name] for name, _ in _BRANCHES], dim=-1)
        tasks = [TaskOutput(heatmap, {})]
        return QueryOutput(named["hm"], code, label, score, tasks, self.class_order, self.decode)

    def _peaks(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The strongest peaks over all classes: cell (B, P), class (B, P), and heat of every class there (B, P, K)."""
        heat = torch.sigmoid(logits)
        kept = (heat == highest_near(heat, self.query.local_max)) | ~self.peaked[None, :, None, None]
        flat = torch.where(kept, heat, 0.0).flatten(2)  # (B, K, H * W)
        count = min(self.query.proposals, flat.shape[1] * flat.shape[2])
        best = flat.flatten(1).topk(count, dim=1).indices
        label, cell = torch.div(best, flat.shape[2], rounding_mode="floor"), best % flat.shape[2]
        score = flat.transpose(1, 2).gather(1, cell[..., None].expand(-1, -1, flat.shape[1]))
        return cell, label, score

    def criterion(self) -> nn.Module:
        """Hungarian matching; see `QueryLoss`."""
        return QueryLoss(self.config)

    def decode(self, output: QueryOutput) -> Boxes:
        """A box per query: its score is the query's class score times the heat of the class it was started for."""
        return query_detections(output, self.class_order, self.grid, self.config)


def query_detections(queries: QueryOutput, order: tuple[int, ...], grid: BEVGrid, config: ModelConfig) -> Boxes:
    """Detections of a batch without non-maximum suppression: flat, sorted by frame, within a frame by score."""
    settings = config.decode
    started = F.one_hot(queries.label, len(order)).float()
    score, slot = (torch.sigmoid(queries.logits.float()) * queries.score * started).max(dim=-1)  # (B, P)
    boxes = query_boxes(queries.code, grid)
    score, rank = torch.sort(score, dim=1, descending=True, stable=True)
    boxes = boxes.gather(1, rank[..., None].expand(-1, -1, boxes.shape[2]))
    labels = torch.tensor(order, device=slot.device)[slot.gather(1, rank)]
    keep = score > settings.score_threshold
    keep &= (boxes[..., :2].abs() <= settings.centre_limit).all(dim=-1)
    keep[:, settings.max_boxes :] = False
    frame, nth = keep.nonzero(as_tuple=True)
    return Boxes(boxes[frame, nth], labels[frame, nth], frame, score[frame, nth])
