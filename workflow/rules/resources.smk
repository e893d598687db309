# What jobs may use: GPUs, and the order in which trainings start.
import os

GPUS = len(devices()) if SETTINGS.gpus == "auto" else int(SETTINGS.gpus)
if GPUS and SETTINGS.gpus_per_run > GPUS:
    raise WorkflowError(f"gpus_per_run is {SETTINGS.gpus_per_run}, but there are {GPUS} GPUs")
GPU = min(GPUS, 1)
GPU_PER_TRAINING = SETTINGS.gpus_per_run if GPUS else 0
# No more GPU jobs at a time than there are GPUs, also under plain `--cores all`; `--resources gpu=n` still wins.
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", GPUS)


def training_steps(run):
    """Steps of a run, or 0 when only the data tell."""
    return run_config(run).train.steps


def training_seconds(run):
    """Estimated CPU seconds of a training, or 0 when its model or scale has no entry in config/config.yaml."""
    cost = SETTINGS.cost.get(SCALE)
    if cost is None or ROWS[run].model not in cost.per_step:
        return 0.0
    factor = cost.distilled if ROWS[run].teacher else 1.0
    return cost.start + factor * cost.per_step[ROWS[run].model] * training_steps(run)


def training_priority(run):
    """What others wait for first, then the longest first: nobody is left alone at the end."""
    return (10_000 if run in AWAITED else 0) + min(9_999, round(training_seconds(run)))
