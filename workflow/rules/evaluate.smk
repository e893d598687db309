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
    priority: lambda wildcards: evaluation_priority(wildcards.run, wildcards.seed)
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
        "python workflow/scripts/launch.py {resources.gpu:q} predict --run {wildcards.run:q} --scale {params.scale:q} --seed {wildcards.seed:q}"
        " --split {wildcards.split:q} > {log:q} 2>&1"


# The same of weights from before the end of a training. They lie beside the model, undeclared, as the checkpoint does.
rule evaluate_snapshot:
    input:
        index=lambda wildcards: index_of(wildcards.run),
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
    output:
        metrics=f"{RUNS}/{{run}}/seed{{seed}}/{SNAPSHOTS}/{{number}}of{{parts}}/metrics_{{split}}.json",
    log:
        f"{LOGS}/evaluate/{{run}}-seed{{seed}}-{{number}}of{{parts}}-{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{run}}-seed{{seed}}-{{number}}of{{parts}}-{{split}}.tsv"
    priority: lambda wildcards: evaluation_priority(wildcards.run, wildcards.seed)
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
        "python workflow/scripts/launch.py {resources.gpu:q} predict --run {wildcards.run:q} --scale {params.scale:q} --seed {wildcards.seed:q}"
        " --split {wildcards.split:q} --snapshot {wildcards.number:q} > {log:q} 2>&1"


# The same by groups of objects and frames, from the detections that lie beside the metrics.
rule breakdown:
    input:
        index=lambda wildcards: index_of(wildcards.run),
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
        metrics=f"{RUNS}/{{run}}/seed{{seed}}/metrics_{{split}}.json",
    output:
        breakdown=f"{RUNS}/{{run}}/seed{{seed}}/breakdown_{{split}}.json",
    log:
        f"{LOGS}/breakdown/{{run}}-seed{{seed}}-{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/breakdown/{{run}}-seed{{seed}}-{{split}}.tsv"
    wildcard_constraints:
        run=one_of(BROKEN_DOWN),
    priority: lambda wildcards: evaluation_priority(wildcards.run, wildcards.seed)
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        scale=SCALE,
        bins=range_bins,
    shell:
        "python workflow/scripts/launch.py 0 breakdown --run {wildcards.run:q} --scale {params.scale:q} --seed {wildcards.seed:q}"
        " --split {wildcards.split:q} --range-bins {params.bins:q} > {log:q} 2>&1"


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
    priority: lambda wildcards: evaluation_priority(wildcards.run, wildcards.seed)
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
        "python workflow/scripts/launch.py {resources.gpu:q} response --run {wildcards.run:q} --scale {params.scale:q} --seed {wildcards.seed:q}"
        " --split {wildcards.split:q} --out {output.response:q} > {log:q} 2>&1"


# How much of the sensors' maps lies in objects and on roads, before and after the gates of a fusion (CRKD, Figure 1).
rule gates:
    input:
        index=lambda wildcards: index_of(wildcards.run),
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
    output:
        gates=f"{RUNS}/{{run}}/seed{{seed}}/gates_{{split}}.json",
    log:
        f"{LOGS}/gates/{{run}}-seed{{seed}}-{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/gates/{{run}}-seed{{seed}}-{{split}}.tsv"
    priority: lambda wildcards: evaluation_priority(wildcards.run, wildcards.seed)
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
        "python workflow/scripts/launch.py {resources.gpu:q} gates --run {wildcards.run:q} --scale {params.scale:q} --seed {wildcards.seed:q}"
        " --split {wildcards.split:q} > {log:q} 2>&1"


# Where a run looks: spatial attention of the map before its head, frame by frame (DistillBEV, Figure 7).
rule attention:
    input:
        index=lambda wildcards: index_of(wildcards.run),
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
    output:
        attention=f"{RUNS}/{{run}}/seed{{seed}}/attention_{{split}}.npz",
    log:
        f"{LOGS}/attention/{{run}}-seed{{seed}}-{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/attention/{{run}}-seed{{seed}}-{{split}}.tsv"
    priority: lambda wildcards: evaluation_priority(wildcards.run, wildcards.seed)
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
        "python workflow/scripts/launch.py {resources.gpu:q} attention --run {wildcards.run:q} --scale {params.scale:q} --seed {wildcards.seed:q}"
        " --split {wildcards.split:q} > {log:q} 2>&1"


# What a run finds object by object, for comparisons of two runs in the same frames (CRKD, Figure 2).
rule matches:
    input:
        index=lambda wildcards: index_of(wildcards.run),
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
    output:
        matches=f"{RUNS}/{{run}}/seed{{seed}}/matches_{{split}}.json",
    log:
        f"{LOGS}/matches/{{run}}-seed{{seed}}-{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/matches/{{run}}-seed{{seed}}-{{split}}.tsv"
    priority: lambda wildcards: evaluation_priority(wildcards.run, wildcards.seed)
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
        "python workflow/scripts/launch.py {resources.gpu:q} matches --run {wildcards.run:q} --scale {params.scale:q} --seed {wildcards.seed:q}"
        " --split {wildcards.split:q} > {log:q} 2>&1"
