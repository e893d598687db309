"""What the gates of a fusion leave of its sensors' maps: what CRKD's Figure 1 shows, as numbers.

The figure shows the camera map of the teacher before and after its gate, and the text says that the geometry of the
scene is more easily read from the latter. Counted is how much of a map lies in annotated boxes and on roads. The sum of
absolute values over channels is what is shared out, for that is what a picture of the map shows; squares would be those
of a few cells. Beside it stands the share of the area, which is what a map that knows nothing would have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevkd.data.dataset import FrameDataset
from bevkd.data.nuscenes.maps import NoMapError
from bevkd.distill.masks import box_mask
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import BEVGrid
from bevkd.io import check_output, write_json
from bevkd.registry import lookup
from bevkd.train.checkpoint import MODEL, load_detector
from bevkd.train.optim import thread_count
from bevkd.train.predict import forward, test_frames

GATED = "gated."
PLACES = ("boxes", "roads")


def shares(values: Tensor, inside: Tensor) -> Tensor:
    """Which share (B,) of the absolute values of a map lies inside, of each frame by itself; NaN of a map of zeros.

    Args:
        values: (B, C, H, W).
        inside: (B, H, W), 1 for what counts.
    """
    strength = values.double().abs().sum(1)
    return (strength * inside).sum((1, 2)) / strength.sum((1, 2))


class RoadCells:
    """Which cells of a grid lie on roads, by frame.

    Attributes:
        missing: why there are none; empty where there are.
    """

    def __init__(self, frames: FrameDataset, grid: BEVGrid) -> None:
        self.missing = ""
        self._poses, data = frames.global_from_ego, frames.data
        self._shape, self._xy = (grid.H, grid.W), grid.cell_centres().reshape(-1, 2).double().numpy()
        facts = frames.index.facts
        reader = lookup("reader", facts["reader"])
        if not hasattr(reader, "roads"):
            self.missing = f"data of {facts['reader']} come without maps"
            return
        try:
            maps = reader.roads(data.root, facts["version"], data.link_targets)
            at = {name: maps.at(name) for name in sorted(set(frames.locations))}
        except NoMapError as error:
            self.missing = str(error)
            return
        self._masks = [at[name] for name in frames.locations]

    def of(self, i: int) -> NDArray[np.bool_]:
        """(H, W): whether the centre of each cell of frame `i` is on a road or pavement."""
        pose = self._poses[i]
        return self._masks[i].holds(self._xy @ pose[:2, :2].T + pose[:2, 3]).reshape(self._shape)


@torch.inference_mode()
def measure_gates(out: Path, split: str, file: Path | None = None, batch_size: int = 8) -> tuple[dict[str, Any], Path]:
    """Write `gates_<split>.json` (or `file`) beside the model of the run in `out`.

    Returns:
        The content, and the file: `area` and, by sensor, `ungated` and `gated`, each with the shares (0 to 1) in
        `boxes` and on `roads`, means over frames; shares on roads are null where there is no map, and `roads_missing`
        says why. `frames` is the number of frames.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split, or a network without gates.
        DataError: bad data, or a map that is zero in every frame.
    """
    folder = Path(out)
    file = folder / f"gates_{split}.json" if file is None else Path(file)
    check_output(file)
    detector, run = load_detector(folder / MODEL)
    sensors = [name.removeprefix(GATED) for name in detector.spec.features if name.startswith(GATED)]
    if not sensors:
        raise ConfigError(f"run {run.run!r}: its network gates no map of a sensor")
    frames = test_frames(run, split)
    roads = RoadCells(frames, detector.grid)
    places = PLACES[:1] if roads.missing else PLACES
    found: dict[tuple[str, str], list[Tensor]] = {}
    detector.to("cuda" if torch.cuda.is_available() else "cpu")
    with thread_count(run.train.threads):
        for members, batch, outputs in forward(
            detector, frames, range(len(frames)), batch_size, run.train.precision, until="low"
        ):
            inside = {"boxes": box_mask(batch.boxes, detector.grid, len(members))}
            if not roads.missing:
                inside["roads"] = torch.from_numpy(np.stack([roads.of(i) for i in members])).to(inside["boxes"])
            for place in places:
                kept = {"area": torch.ones_like(inside[place])[:, None]}
                for sensor in sensors:
                    kept |= {f"{sensor} ungated": outputs.feature(sensor)}
                    kept |= {f"{sensor} gated": outputs.feature(GATED + sensor)}
                for name, values in kept.items():
                    if not torch.isfinite(values).all():
                        token = frames.tokens[members[0]]
                        raise DataError(f"the map ({name}) is not finite", file=folder / MODEL, token=token)
                    found.setdefault((name, place), []).append(shares(values, inside[place]).cpu())

    def mean(name: str) -> dict[str, float | None]:
        parts: dict[str, float | None] = dict.fromkeys(PLACES)
        for place in places:
            value = float(torch.cat(found[name, place]).nanmean())
            if np.isnan(value):
                raise DataError(f"the map ({name}) is zero in every frame", file=folder / MODEL)
            parts[place] = value
        return parts

    content: dict[str, Any] = {"frames": len(frames), "area": mean("area")}
    content |= {one: {way: mean(f"{one} {way}") for way in ("ungated", "gated")} for one in sensors}
    content |= {"roads_missing": roads.missing} if roads.missing else {}
    write_json(file, content)
    return content, file
