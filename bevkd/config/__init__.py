"""Configuration: dataclasses with the published defaults, YAML files with differences."""

from bevkd.config.chain import first_seeds
from bevkd.config.load import config_dir, load_rows, load_run, load_scale, merge, parse, read_yaml, run_dir, to_plain
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
)
from bevkd.config.training import InitConfig, TrainConfig
from bevkd.config.workflow import BenchConfig, WorkflowConfig

__all__ = [
    "AugmentConfig",
    "BEVConfig",
    "BenchConfig",
    "CameraConfig",
    "DataConfig",
    "DecodeConfig",
    "FuserConfig",
    "GridConfig",
    "HeadConfig",
    "InitConfig",
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
    "load_scale",
    "merge",
    "parse",
    "read_yaml",
    "run_dir",
    "to_plain",
]
