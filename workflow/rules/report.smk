# Tables and figures with paper and ours side by side, the claims ledger, and the page that gathers them.


rule table:
    input:
        runs=lambda wildcards: item_inputs(TABLES[wildcards.table]),
    output:
        csv=report(
            f"{RESULTS}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "values": "paper | ours"},
        ),
        markdown=f"{RESULTS}/tables/{{table}}.md",
        tex=f"{RESULTS}/tables/{{table}}.tex",
    log:
        f"{LOGS}/table/{{table}}.log",
    priority: table_priority
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        definition=lambda wildcards: definition_of(TABLES[wildcards.table]),
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=results_folder,
    shell:
        "python workflow/scripts/launch.py 0 table {wildcards.table:q} --scale {params.scale:q} --seeds {params.seeds:q} --out {params.out:q} --page > {log:q} 2>&1"


# Begins a figure that reads nothing of runs; see `mark_of`.
rule drawn:
    output:
        touch(f"{CACHE}/drawn/{{figure}}"),
    localrule: True


rule figure:
    input:
        runs=lambda wildcards: item_inputs(FIGURES[wildcards.figure]),
    output:
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "values": "ours"},
        ),
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
    log:
        f"{LOGS}/figure/{{figure}}.log",
    priority: table_priority
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        definition=lambda wildcards: definition_of(FIGURES[wildcards.figure]),
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=results_folder,
    shell:
        "python workflow/scripts/launch.py 0 figure {wildcards.figure:q} --scale {params.scale:q} --seeds {params.seeds:q} --out {params.out:q} --page > {log:q} 2>&1"


# A part of the results is finished: its claims tested, a record kept of its runs and data sets, and its origin noted.
rule part:
    input:
        unpack(part_inputs),
    output:
        ledger=report(
            f"{RESULTS}/ledger/{{part}}.csv",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims ledger, {part}", "values": "paper | ours"},
        ),
        part=f"{RESULTS}/parts/{{part}}.json",
    log:
        f"{LOGS}/part/{{part}}.log",
    wildcard_constraints:
        part=one_of(PARTS),
    priority: table_priority
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        definition=lambda wildcards: definition_of(*PARTS[wildcards.part].claims.values()),
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=results_folder,
    shell:
        "python workflow/scripts/launch.py 0 part {wildcards.part:q} --scale {params.scale:q} --seeds {params.seeds:q} --out {params.out:q} --page > {log:q} 2>&1"


rule report:
    input:
        parts_outputs("all"),
    output:
        page=report(
            f"{RESULTS}/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"table": "everything on one page", "values": "paper | ours"},
        ),
        claims=f"{RESULTS}/claims.csv",
        metrics=f"{RESULTS}/metrics.json",
        parts=[str(part_metrics(Path(RESULTS), part.name)) for part in PARTS.values() if part.target == "all"],
        plots=expand(f"{RESULTS}/plots/{{name}}.csv", name=("seeds", "classes", "training")),
    log:
        f"{LOGS}/report.log",
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        pages=pages_digest(),
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=results_folder,
    shell:
        "python workflow/scripts/launch.py 0 report --scale {params.scale:q} --seeds {params.seeds:q} --out {params.out:q} > {log:q} 2>&1"


# The first look: single seeds.
rule report_preview:
    input:
        preview_outputs(),
    output:
        page=f"{RESULTS}/preview.html",
    log:
        f"{LOGS}/report_preview.log",
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        pages=pages_digest(),
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=results_folder,
    shell:
        "python workflow/scripts/launch.py 0 report --preview --scale {params.scale:q} --seeds {params.seeds:q} --out {params.out:q} > {log:q} 2>&1"


# The page of everything from what lies in the results folder, whatever it was made by: no run, index or data set is needed, and parts
# that have not been made are named on the page.
rule report_only:
    log:
        f"{LOGS}/report_only.log",
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=RESULTS,
    shell:
        "python workflow/scripts/launch.py 0 report --partial --scale {params.scale:q} --seeds {params.seeds:q} --out {params.out:q} > {log:q} 2>&1"


rule claims:
    input:
        [str(ledger_file(Path(RESULTS), part.name)) for part in PARTS.values() if part.target == "all"],
    localrule: True


# One target per paper: its tables, figures and part of the ledger. Those of tuning are the target of that name. What they
# are made from is asked for as well: in a clone the committed results are there, and would be taken for made.
for _part in PARTS.values():
    if _part.name != "tuning":

        rule:
            name:
                _part.name
            input:
                part_outputs(_part),
                part_runs(_part),
                marks_of(_part.figures.values()),
            localrule: True


for _kind, _items in {"table": TABLES, "figure": FIGURES}.items():
    for _name in _items:

        rule:
            name:
                f"{_kind}_{_name}"
            input:
                expand(f"{RESULTS}/{_kind}s/{_name}{{end}}", end=SUFFIXES[_kind]),
                item_inputs(_items[_name]),
            localrule: True
