"""Configuration: dataclasses with defaults, YAML files with differences, and what makes a run that run."""

from bevkd.config.chain import first_seeds
from bevkd.config.compose import load_model, load_run, rows_at
from bevkd.config.identity import differences, identity, identity_digest, stored_run
from bevkd.config.load import load_scale, run_dir
from bevkd.config.papers import Paper, load_papers, load_rows, paper_of
from bevkd.config.places import ConfigTree, config_dir, config_tree
from bevkd.config.plain import merge, parse, read_yaml, to_plain
from bevkd.config.rows import paper_layers
from bevkd.config.schema import (
    AugmentConfig,
    DataConfig,
    GridConfig,
    MethodConfig,
    ModelConfig,
    NormConfig,
    RowConfig,
    RunConfig,
)
from bevkd.config.training import InitConfig, TrainConfig
from bevkd.config.workflow import BenchConfig, WorkflowConfig

__all__ = [
    "AugmentConfig",
    "BenchConfig",
    "ConfigTree",
    "DataConfig",
    "GridConfig",
    "InitConfig",
    "MethodConfig",
    "ModelConfig",
    "NormConfig",
    "Paper",
    "RowConfig",
    "RunConfig",
    "TrainConfig",
    "WorkflowConfig",
    "config_dir",
    "config_tree",
    "differences",
    "first_seeds",
    "identity",
    "identity_digest",
    "load_model",
    "load_papers",
    "load_rows",
    "load_run",
    "load_scale",
    "merge",
    "paper_layers",
    "paper_of",
    "parse",
    "read_yaml",
    "rows_at",
    "run_dir",
    "stored_run",
    "to_plain",
]
