# Detections and metrics of a trained run on one split.


rule evaluate:
    input:
        index=lambda wildcards: index_of(wildcards.run),
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
    output:
        predictions=f"{RUNS}/{{run}}/seed{{seed}}/predictions_{{split}}.json",
        metrics=f"{RUNS}/{{run}}/seed{{seed}}/metrics_{{split}}.json",
    log:
        f"{LOGS}/evaluate/{{run}}-seed{{seed}}-{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{run}}-seed{{seed}}-{{split}}.tsv"
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
        gpu=GPU,
    params:
        scale=SCALE,
    shell:
        "python workflow/scripts/launch.py {resources.gpu} predict --run {wildcards.run} --scale {params.scale} --seed {wildcards.seed}"
        " --split {wildcards.split} > {log} 2>&1"
