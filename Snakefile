# From nothing to tables, figures, the claims ledger and the report: snakemake --cores all
#
#   snakemake --cores all --config scale=smoke     the same DAG in minutes, under results/smoke
#   snakemake --cores all table_unidistill_s6      one table; `snakemake --list` names every target
#   snakemake --cores all run_unidistill_p4        one run: its seeds, their metrics, and what it needs
#   snakemake --cores all preview                  one seed of each paper's headline
#   snakemake --cores all extended                 also what the default run leaves out
#   snakemake --dry-run                            the plan and what it costs
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/code.smk"


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"


onstart:
    end_rate_limit(workflow.scheduler)
    retry_only_crashes(workflow.scheduler)
    check_image_weights(workflow.dag)
    check_splits(workflow.dag)
    begin_console(workflow.logger_manager.get_logfile())


onerror:
    end_console()


wildcard_constraints:
    index=one_of(DATASETS),
    root=one_of(SIMULATED),
    run=one_of(ROWS),
    seed=r"\d+",
    number=r"\d+",
    parts=r"\d+",
    cache=one_of(CACHES),
    audience=one_of(AUDIENCES),
    split=one_of(SPLITS),
    table=one_of(TABLES),
    figure=one_of(FIGURES),


localrules:
    all,
    extended,


rule all:
    default_target: True
    input:
        outputs_of("all"),


rule extended:
    input:
        [outputs_of(tier) for tier in tiers_of("extended")],


# A first look, results/preview.html: single seeds, of runs that the default target makes anyway.
rule preview:
    input:
        preview_outputs(),
        f"{RESULTS}/preview.html",
    localrule: True


# Experiments that choose settings, on the tune split; their winners are in config already.
rule tuning:
    input:
        outputs_of("tuning"),
    localrule: True


# Every training of the default target with its metrics, without tables.
rule runs:
    input:
        runs_metrics("all"),
    localrule: True


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/bench.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/estimate.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/console.smk"
