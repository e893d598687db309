"""Configuration: dataclasses with the published defaults, YAML files with differences."""

from bevkd.config.load import load_run, load_scale, run_dir
from bevkd.config.papers import Paper, load_papers, load_rows, paper_layers, paper_of
from bevkd.config.plain import config_dir, merge, parse, read_yaml, to_plain
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
from bevkd.config.workflow import BenchConfig, WorkflowConfig, first_seeds

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
    "LidarConfig",
    "LossConfig",
    "MethodConfig",
    "ModelConfig",
    "Paper",
    "RowConfig",
    "RunConfig",
    "TrainConfig",
    "WorkflowConfig",
    "config_dir",
    "first_seeds",
    "load_papers",
    "load_rows",
    "load_run",
    "load_scale",
    "merge",
    "paper_layers",
    "paper_of",
    "parse",
    "read_yaml",
    "run_dir",
    "to_plain",
]
