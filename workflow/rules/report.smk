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
        "python workflow/scripts/launch.py 0 table {wildcards.table} --scale {params.scale} --seeds {params.seeds} --out {params.out} > {log} 2>&1"


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
        "python workflow/scripts/launch.py 0 figure {wildcards.figure} --scale {params.scale} --seeds {params.seeds} --out {params.out} > {log} 2>&1"


rule claims:
    input:
        runs=claim_inputs("all"),
    output:
        ledger=report(
            ledger_file("all"),
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims ledger", "values": "paper | ours"},
        ),
    log:
        f"{LOGS}/claims.log",
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        target="all",
        definition=definition_of(*of_target(CLAIMS, "all").values()),
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=results_folder,
    shell:
        "python workflow/scripts/launch.py 0 claims --target {params.target} --scale {params.scale} --seeds {params.seeds} --out {params.out} > {log} 2>&1"


use rule claims as claims_extended with:
    input:
        runs=claim_inputs("extended"),
    output:
        ledger=report(
            ledger_file("extended"),
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims ledger, extended runs", "values": "paper | ours"},
        ),
    log:
        f"{LOGS}/claims_extended.log",
    params:
        target="extended",
        definition=definition_of(*(claim for claim in CLAIMS.values() if claim.target == "extended")),
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=results_folder,


rule report:
    input:
        tables=[f"{RESULTS}/tables/{name}.csv" for name in chosen(TABLES, "all")],
        figures=[f"{RESULTS}/figures/{name}.png" for name in chosen(FIGURES, "all")],
        claims=ledger_file("all"),
    output:
        page=report(
            f"{RESULTS}/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"table": "everything on one page", "values": "paper | ours"},
        ),
        metrics=f"{RESULTS}/metrics.json",
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
        scale=SCALE,
        seeds=SETTINGS.seeds,
        out=results_folder,
    shell:
        "python workflow/scripts/launch.py 0 report --scale {params.scale} --seeds {params.seeds} --out {params.out} > {log} 2>&1"


for _kind, _items in {"table": TABLES, "figure": FIGURES}.items():
    for _name in _items:

        rule:
            name:
                f"{_kind}_{_name}"
            input:
                expand(f"{RESULTS}/{_kind}s/{_name}{{end}}", end=SUFFIXES[_kind]),
            localrule: True
