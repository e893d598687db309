"""Configuration: dataclasses with the published defaults, YAML files with differences."""

from bevkd.config.load import config_dir, load_rows, load_run, merge, parse, read_yaml, run_dir, to_plain
from bevkd.config.schema import (
    AugmentConfig,
    BEVConfig,
    CameraConfig,
    DataConfig,
    DecodeConfig,
    FuserConfig,
    GridConfig,
    HeadConfig,
    LidarConfig,
    LossConfig,
    MethodConfig,
    ModelConfig,
    RowConfig,
    RunConfig,
    TrainConfig,
)
from bevkd.config.workflow import WorkflowConfig, first_seeds

__all__ = [
    "AugmentConfig",
    "BEVConfig",
    "CameraConfig",
    "DataConfig",
    "DecodeConfig",
    "FuserConfig",
    "GridConfig",
    "HeadConfig",
    "LidarConfig",
    "LossConfig",
    "MethodConfig",
    "ModelConfig",
    "RowConfig",
    "RunConfig",
    "TrainConfig",
    "WorkflowConfig",
    "config_dir",
    "first_seeds",
    "load_rows",
    "load_run",
    "merge",
    "parse",
    "read_yaml",
    "run_dir",
    "to_plain",
]
