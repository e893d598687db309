"""Configuration: dataclasses with defaults, YAML files with differences, and what makes a run that run."""

from bevkd.config.compose import load_model, load_run
from bevkd.config.identity import differences, identity, identity_digest, stored_run
from bevkd.config.load import config_dir, load_rows, load_scale, merge, parse, read_yaml, run_dir
from bevkd.config.schema import (
    AugmentConfig,
    DataConfig,
    GridConfig,
    MethodConfig,
    ModelConfig,
    NormConfig,
    RowConfig,
    RunConfig,
    TrainConfig,
)
from bevkd.config.stages import to_plain
from bevkd.config.workflow import BenchConfig, WorkflowConfig, first_seeds

__all__ = [
    "AugmentConfig",
    "BenchConfig",
    "DataConfig",
    "GridConfig",
    "MethodConfig",
    "ModelConfig",
    "NormConfig",
    "RowConfig",
    "RunConfig",
    "TrainConfig",
    "WorkflowConfig",
    "config_dir",
    "differences",
    "first_seeds",
    "identity",
    "identity_digest",
    "load_model",
    "load_rows",
    "load_run",
    "load_scale",
    "merge",
    "parse",
    "read_yaml",
    "run_dir",
    "stored_run",
    "to_plain",
]
