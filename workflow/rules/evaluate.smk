# Detections and metrics of a trained run on one split. The detections lie beside the metrics, in the format of the data
# set's benchmark: a file (nuScenes, Waymo) or a folder (KITTI).


rule evaluate:
    input:
        index=lambda wildcards: index_of(wildcards.run),
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
    output:
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
        snapshot="",
    shell:
        "python workflow/scripts/launch.py {resources.gpu} predict --run {wildcards.run} --scale {params.scale} --seed {wildcards.seed}"
        " --split {wildcards.split} {params.snapshot} > {log} 2>&1"


# The same of weights from before the end of a training, which lie beside its model.
use rule evaluate as evaluate_snapshot with:
    output:
        metrics=f"{RUNS}/{{run}}/seed{{seed}}/{SNAPSHOTS}/{{number}}of{{count}}/metrics_{{split}}.json",
    log:
        f"{LOGS}/evaluate/{{run}}-seed{{seed}}-{{number}}of{{count}}-{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{run}}-seed{{seed}}-{{number}}of{{count}}-{{split}}.tsv"
    params:
        scale=SCALE,
        snapshot=lambda wildcards: f"--snapshot {wildcards.number}",


# Class scores on objects, around them and away from them (UniDistill, Figures S2 and S3).
rule response:
    input:
        index=lambda wildcards: index_of(wildcards.run),
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
    output:
        response=f"{RESULTS}/responses/{{run}}/seed{{seed}}/{{split}}.json",
    log:
        f"{LOGS}/response/{{run}}-seed{{seed}}-{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/response/{{run}}-seed{{seed}}-{{split}}.tsv"
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
        "python workflow/scripts/launch.py {resources.gpu} response --run {wildcards.run} --scale {params.scale} --seed {wildcards.seed}"
        " --split {wildcards.split} --out {output.response} > {log} 2>&1"
