"""Single frames for pictures: what an index says about them, and what a trained detector makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bevkd.config import DataConfig
from bevkd.data.index import FrameIndex, read_stamp
from bevkd.data.load import FrameLoader
from bevkd.data.points import transform
from bevkd.data.present import require_data_set
from bevkd.data.radar import read_radar
from bevkd.data.reads import Reads
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.geometry import Area, box_corners, invert
from bevkd.report.runs import Runs
from bevkd.splits import split_names

if TYPE_CHECKING:
    from bevkd.models.base import Detector
    from bevkd.models.outputs import BEVOutputs

Array = NDArray[np.float64]
# The box edges as pairs of corner indices of `box_corners`.
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
# The cameras as they look around the vehicle: front row, then rear row (nuScenes), or sides (Waymo).
CAMERA_ORDER = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
_WAYMO_ORDER = ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT")


@dataclass(frozen=True)
class CameraView:
    """One image: `camera_from_ego` leads from the ego frame of the keyframe to the camera at its own time stamp."""

    channel: str
    image: NDArray[np.uint8]
    camera_from_ego: Array
    intrinsics: Array

    def lines(self, boxes: Array, near: float = 0.3) -> list[Array]:
        """Box edges (2, 2) in edge-based pixels, cut at the plane `near` metres ahead of the camera."""
        out = []
        for corners in box_corners(boxes) if len(boxes) else []:
            points = corners @ self.camera_from_ego[:3, :3].T + self.camera_from_ego[:3, 3]
            for a, b in EDGES:
                p, q = points[a], points[b]
                if p[2] < near and q[2] < near:
                    continue
                if p[2] < near:
                    p = p + (q - p) * (near - p[2]) / (q[2] - p[2])
                elif q[2] < near:
                    q = q + (p - q) * (near - q[2]) / (p[2] - q[2])
                pixels = np.stack([p, q]) @ self.intrinsics.T
                out.append(pixels[:, :2] / pixels[:, 2:])
        return out


@dataclass(frozen=True)
class Scene:
    """A frame with its annotations that sensors saw, in the ego frame.

    Attributes:
        boxes: (G, 9); labels: (G,) class indices.
        points: (P, 5) key sweep, x, y, z in the ego frame; None without LiDAR.
        cameras: as they look around the vehicle, unknown ones after them.
        radar: (R, 3+) key sweeps of all radars, x, y, z in the ego frame; None where none is asked for, or there is
            none.
    """

    token: str
    name: str
    split: str
    description: str
    boxes: Array
    labels: NDArray[np.int64]
    points: NDArray[np.float32] | None
    cameras: list[CameraView]
    radar: NDArray[np.float32] | None = None


class SceneReader:
    """Frames of every split of a data set.

    Args:
        data: the data set.
        area: annotations elsewhere are left out.
        sensors: modalities that are read.

    Raises:
        DataError: there is no index.
    """

    def __init__(self, data: DataConfig, area: Area, sensors: tuple[str, ...] = ("lidar", "camera")) -> None:
        self.data, self.area = data, area
        require_data_set(data)
        splits = sorted(read_stamp(data.index)["splits"])
        self.index = FrameIndex.open(data.index, "+".join(splits), sensors=sensors, categories=data.categories)
        self.loader = FrameLoader(self.index, data.root, Reads(), data.rescale_images, data.link_targets)
        self.row = {token: i for i, token in enumerate(self.index.columns["token"])}

    def _row(self, token: str) -> int:
        if token not in self.row:
            folder = Path(self.data.index)
            raise DataError(
                f"no such frame{nearest(token, self.row)}; `bevkd view --list` names those of a split",
                file=folder,
                token=token,
            )
        return self.row[token]

    def scene_name(self, token: str) -> str:
        """The scene of the frame called `token`.

        Raises:
            DataError: there is none.
        """
        return self.index.columns["scene_name"][self._row(token)]

    def scene(self, token: str) -> Scene:
        """The frame called `token`.

        Raises:
            DataError: there is none.
        """
        i, index = self._row(token), self.index
        boxes, labels = self._boxes(i)
        points, cameras, echoes = None, [], []
        for record in index.key[i]:
            s = index.sensors.position.get(record)
            if s is None:  # of a modality that is not drawn
                continue
            file = index.sensors.filename[s]
            # Sensors fire at their own time stamps, so the way between them leads through the global frame.
            ego_from_ego = invert(index.global_from_ego[i]) @ index.sensors.global_from_ego[s]
            ego_from_sensor = ego_from_ego @ index.sensors.ego_from_sensor[s]
            if index.sensors.modality[s] == "lidar":
                points = transform(self.loader.files.lidar(file, token), ego_from_sensor)
            elif index.sensors.modality[s] == "radar":
                echoes.append(transform(read_radar(self.loader.inside.path(file, token), token), ego_from_sensor))
            else:
                picture, intrinsics = self.loader.image(s)
                view = (invert(ego_from_sensor), intrinsics)
                cameras.append(CameraView(index.sensors.channel[s], np.asarray(picture), *view))
        rank = {name: i for i, name in enumerate((*CAMERA_ORDER, *_WAYMO_ORDER))}
        cameras.sort(key=lambda view: (rank.get(view.channel, len(rank)), view.channel))
        words = {name: index.columns[name][i] for name in ("scene_name", "split", "description")}
        radar = np.concatenate(echoes) if echoes else None
        told = (words["scene_name"], words["split"], words["description"])
        return Scene(token, *told, boxes, labels, points, cameras, radar)

    def _boxes(self, i: int) -> tuple[Array, NDArray[np.int64]]:
        table = self.index.boxes
        part = slice(table.start[i], table.start[i + 1])
        boxes, labels = table.boxes[part], table.labels[part]
        seen = (labels >= 0) & (table.points[part] > 0) & self.area.holds(boxes)
        return boxes[seen], labels[seen]

    def frames(self, split: str) -> list[tuple[str, str, int]]:
        """Token, scene and number of boxes of every frame of a split.

        Raises:
            ConfigError: the data set has no such split.
            DataError: there is no frame in it.
        """
        columns, known = self.index.columns, self.index.facts["splits"]
        if split not in known:
            raise ConfigError(
                f"index {self.data.index} has no split {split!r}{nearest(split, known)}; it has: {', '.join(known)}"
            )
        found = [
            (columns["token"][i], columns["scene_name"][i], len(self._boxes(i)[0]))
            for i, name in enumerate(columns["split"])
            if name == split
        ]
        if not found:
            there = ", ".join(sorted({name for name in columns["split"] if name}))
            raise DataError(f"no frame in the split; there are frames in {there}", file=self.data.index, field=split)
        return found

    def fullest(self, split: str, count: int) -> list[str]:
        """Tokens of the frames with most boxes, each of another scene: a choice that no result can influence."""
        columns, wanted = self.index.columns, split_names(split)
        rows = [i for i, name in enumerate(columns["split"]) if name in wanted]
        rows.sort(key=lambda i: (-len(self._boxes(i)[0]), columns["token"][i]))
        chosen: dict[str, str] = {}
        for i in rows:
            chosen.setdefault(columns["scene_name"][i], columns["token"][i])
        return list(chosen.values())[:count]


@dataclass(frozen=True)
class Prediction:
    """What a detector sees in one frame.

    Attributes:
        boxes: (N, 9); labels, scores: (N,).
        response: its response map (H, W), if asked; else empty.
        extent: x_min, x_max, y_min, y_max of its maps (m).
        maps: mean of the absolute values over channels (H, W) of those features that were asked for.
    """

    boxes: Array
    labels: NDArray[np.int64]
    scores: Array
    response: Array
    extent: tuple[float, float, float, float]
    maps: Mapping[str, Array] = field(default_factory=dict)

    def above(self, score: float) -> Prediction:
        """Only the boxes with at least this score."""
        return self._only(self.scores >= score)

    def best(self, count: int) -> Prediction:
        """Only so many boxes, those with the highest scores: detectors may be confident on different scales."""
        return self._only(np.argsort(-self.scores, kind="stable")[:count])

    def _only(self, keep: NDArray[Any]) -> Prediction:
        return replace(self, boxes=self.boxes[keep], labels=self.labels[keep], scores=self.scores[keep])


def moved(data: DataConfig, where: DataConfig) -> DataConfig:
    """Settings of a data set, at the place of another one."""
    return replace(data, root=where.root, index=where.index, version=where.version)


def look_at_frames(
    runs: Runs, run: str, seed: int, frames: Sequence[tuple[str, str]], where: DataConfig | None = None
) -> Iterator[tuple[Detector, BEVOutputs]]:
    """A trained detector and what it makes of frames given as (split, token), one by one, without augmentation.

    Args:
        runs: the finished runs.
        run: which of them.
        seed: of that run.
        frames: the frames.
        where: says at which root, index and version they are; by default where the run was trained.

    Raises:
        CheckpointError: the run has no usable model.
        DataError: a token is not in its split.
    """
    import torch

    from bevkd.data import FrameDataset, collate
    from bevkd.train import load_detector

    detector, config = load_detector(runs.folder(run, seed) / "model.pt")
    data = config.data if where is None else moved(config.data, where)
    datasets = {split: FrameDataset(data, config.model, split, train=False, seed=0) for split in {s for s, _ in frames}}
    for split, token in frames:
        dataset = datasets[split]
        tokens = list(dataset.tokens)
        if token not in tokens:
            raise DataError(f"frame is not in split {split!r}", file=data.index, token=token)
        with torch.inference_mode():
            outputs = detector(collate([dataset.get(tokens.index(token), 0)]).to("cpu"))
        yield detector, outputs


def predict_frames(
    runs: Runs,
    run: str,
    seed: int,
    frames: list[tuple[str, str]],
    where: DataConfig | None = None,
    *,
    response: bool = True,
    features: Sequence[str] = (),
) -> list[Prediction]:
    """Run a trained detector on frames given as (split, token), without augmentation.

    Args:
        runs: the finished runs.
        run: which of them.
        seed: of that run.
        frames: the frames.
        where: says at which root, index and version they are; by default where the run was trained.
        response: also the response map, which only heads with dense maps have; else an empty one.
        features: BEV maps that are also wanted.

    Raises:
        CheckpointError: the run has no usable model.
        DataError: a token is not in its split.
        FeatureError: the network has no such feature.
    """
    import torch

    out = []
    for detector, outputs in look_at_frames(runs, run, seed, frames, where):
        grid = detector.grid
        with torch.inference_mode():
            found = detector.decode(outputs)
            heat = np.zeros((0, 0))
            if response:
                # UniDistill's response features: the highest class score and every regression map, mean over channels.
                best = outputs.heatmap_logits().float().sigmoid().amax(dim=1, keepdim=True)
                seen = torch.cat([best, outputs.regression_maps().float()], dim=1).mean(dim=1)[0]
                heat = seen.numpy().astype(np.float64)
            maps = {name: outputs.feature(name)[0].double().abs().mean(0).numpy() for name in features}
        boxes, labels, scores = (t.numpy() for t in (found.boxes, found.labels, found.scores))
        extent = (grid.x_min, grid.x_max, grid.y_min, grid.y_max)
        out.append(Prediction(boxes.astype(np.float64), labels, scores, heat, extent, maps))
    return out
