"""Where a trained run looks: what DistillBEV's Figure 7 shows of a few frames, of all frames of a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevkd import progress
from bevkd.distill.map_attention import cell_attention, pooled
from bevkd.distill.methods.distillbev_settings import DistillBEVConfig
from bevkd.errors import ConfigError, DataError
from bevkd.eval.attention import Attention, write_attention
from bevkd.geometry import BEVGrid
from bevkd.io import check_output
from bevkd.train.checkpoint import MODEL, load_detector
from bevkd.train.optim import thread_count
from bevkd.train.predict import forward, test_frames

FEATURE = "high"  # the paper's H
TAU = DistillBEVConfig().tau


def spatial_attention(maps: Tensor) -> Tensor:
    """Attention (B, H, W) of maps (B, C, H, W), mean 1 in each frame, in float32."""
    return cell_attention(pooled(maps.float().movedim(1, -1), "absmean"), TAU)


def attention_of_activity(activity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Attention (H, W) of one frame, of the mean |F| over channels of its map."""
    found: NDArray[np.float64] = cell_attention(torch.from_numpy(activity)[None], TAU)[0].numpy()
    return found


@torch.inference_mode()
def measure_attention(out: Path, split: str, file: Path | None = None, batch_size: int = 8) -> Attention:
    """Write `attention_<split>.npz` (or `file`) beside the model of the run in `out`.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split, or a network without a BEV map before its head.
        DataError: bad data, or a map that is not finite.
    """
    folder = Path(out)
    file = folder / f"attention_{split}.npz" if file is None else Path(file)
    check_output(file)
    detector, run = load_detector(folder / MODEL)
    known = detector.spec.features.get(FEATURE)
    if known is None or known.layout != "bev":
        raise ConfigError(f"run {run.run!r}: its network has no BEV map {FEATURE!r}")
    frames = test_frames(run, split)
    found: list[Tensor] = []
    detector.to("cuda" if torch.cuda.is_available() else "cpu")
    with thread_count(run.train.threads), progress.bar("looking", len(frames), "frames") as bar:
        for members, _, outputs in forward(
            detector, frames, range(len(frames)), batch_size, run.train.precision, until=known.stage
        ):
            values = spatial_attention(outputs.feature(FEATURE)).cpu()
            for i, one in zip(members, values, strict=True):
                if not torch.isfinite(one).all():
                    raise DataError(f"the map ({FEATURE}) is not finite", file=folder / MODEL, token=frames.tokens[i])
            found.append(values)
            bar.advance(len(members))
    maps = torch.cat(found).numpy()
    _, height, width = maps.shape
    grid = BEVGrid(detector.grid.x_min, detector.grid.y_min, detector.grid.cell * known.stride, width, height)
    measured = Attention(file, list(frames.tokens), maps.astype(np.float32, copy=False), grid)
    write_attention(measured)
    return measured
