# One target per run, and a word on names that do not exist.
from snakemake.logging import logger as snakemake_logger


def run_outputs(run):
    """Weights and metrics of every seed of a run: on the reported split, or the other one where tuning looks."""
    split = "tune" if ROWS[run].target == "tuning" else "report"
    pairs = [(run, seed) for seed in ROWS[run].seeds]
    return [run_file(*pair, "model.pt") for pair in pairs] + [metrics_file(*pair, split) for pair in pairs]


for _run in ROWS:

    rule:
        name:
            f"run_{_run}"
        input:
            run_outputs(_run),
        localrule: True


def target_names():
    """Every name that can be asked for."""
    return [rule.name for rule in workflow.rules]


def target_files():
    """Files that are made, for suggestions."""
    models = [path for run in ROWS for path in run_outputs(run)]
    return models + [path for target in ("all", "extended", "tuning") for path in outputs_of(target)]


Suggestion(target_names, target_files).install(snakemake_logger)
