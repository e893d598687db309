"""Tiny but real runs on the simulated smoke data: real detectors, real losses, seconds of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bevkd.config import (
    AugmentConfig,
    DataConfig,
    GridConfig,
    InitConfig,
    MethodConfig,
    ModelConfig,
    NormConfig,
    RowConfig,
    RunConfig,
    TrainConfig,
)
from bevkd.config.schema import BEVAugmentConfig, ImageAugmentConfig
from bevkd.models.backbone.resnet_settings import ResNetSettings
from bevkd.models.bev.second_fpn_settings import SecondFPNSettings
from bevkd.models.camera.lss_settings import LSSSettings
from bevkd.models.camera.view.lift_splat_settings import LiftSplatSettings
from bevkd.models.fuser.concat_settings import ConcatSettings
from bevkd.models.heads.center_settings import CenterDecodeSettings, CenterLossSettings, CenterSettings
from bevkd.models.lidar.pillar_settings import PillarSettings
from bevkd.train.optimizers.adamw import AdamW
from bevkd.train.schedules.one_cycle import OneCycle

SCALE = "smoke"


def tiny_model(*sensors: str, depth_weight: float = 0.0, **loss: Any) -> ModelConfig:
    """A detector of a few thousand parameters on a 32 x 32 grid."""
    backbone = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    return ModelConfig(
        sensors=sensors or ("lidar",),  # type: ignore[arg-type]
        grid=GridConfig(reach=25.6, cell=1.6),
        lidar=PillarSettings(cell=0.8, channels=(8, 12), max_points=0, max_voxels=0, out_channels=12),
        camera=LSSSettings(
            backbone=ResNetSettings(options=backbone, frozen_stem=False),
            image_size=(64, 176),
            stride=8,
            neck_channels=8,
            view=LiftSplatSettings(depth_min=2.0, depth_max=34.0, depth_step=2.0),
            out_channels=12,
            depth_weight=depth_weight,
        ),
        norm=NormConfig(momentum=0.1),
        fuser=ConcatSettings(gate=False, out_channels=12),
        bev=SecondFPNSettings(widths=(12, 16), depths=(1, 1), up_channels=8),
        head=CenterSettings(shared_channels=12, branch_channels=0),
        loss=CenterLossSettings(auto_scaling=False, heatmap_weight=5.0, **loss),
        decode=CenterDecodeSettings(top_k=50, score_threshold=0.05, centre_limit=25.6),
    )


def tiny_run(
    dataset: Any,
    name: str = "plain",
    *,
    model: ModelConfig | None = None,
    seed: int = 0,
    teacher: str | None = None,
    method: str | None = None,
    teacher_mode: str = "cached",
    frames: str = "labelled",
    init: InitConfig | None = None,
    data: dict[str, Any] | None = None,
    **train: Any,
) -> RunConfig:
    """A run on the simulated data set of the `smoke_dataset` fixture; `train` overrides `TrainConfig`."""
    settings: dict[str, Any] = {"steps": 6, "batch_size": 2, "lr": 3e-3, "grad_clip": 5.0, "log_every": 1, "workers": 0}
    settings |= {"optimizer": AdamW(betas=(0.95, 0.99)), "schedule": OneCycle(warmup_fraction=0.4, div_factor=10.0)}
    row = RowConfig(
        id=name,
        dataset="nuscenes_sim",
        model="tiny",
        teacher=teacher,
        teacher_mode=teacher_mode,  # type: ignore[arg-type]
        method=MethodConfig(kind=method) if method else None,
        init=init,
        frames=frames,  # type: ignore[arg-type]
    )
    augment = AugmentConfig(
        variants=4,
        image=ImageAugmentConfig(enabled=False),
        bev=BEVAugmentConfig(flip=True),
    )
    where: dict[str, Any] = {
        "root": str(dataset.root),
        "version": dataset.version,
        "index": str(dataset.index),
        "lidar_sweeps": 1,
        "cbgs": False,
        "memory_cache": True,
        "max_range": 25.0,
        "augment": augment,
    }
    return RunConfig(
        run=name,
        scale=SCALE,
        seed=seed,
        row=row,
        model=model or tiny_model(),
        data=DataConfig(**(where | (data or {}))),
        train=TrainConfig(**(settings | train)),
    )


def folder(root: Path, run: RunConfig) -> Path:
    """Where the run lies below a temporary root, laid out as in a real checkout."""
    return root / "results" / "runs" / run.scale / run.run / f"seed{run.seed}"
