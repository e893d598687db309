# Training, plain and distilled: table by table, teachers first, then the longest jobs, which so do not end up alone at
# the end. Only the final weights are declared: the resumable checkpoint and the logs lie beside
# them, where a retry or a restart finds them.


rule train:
    input:
        unpack(training_inputs),
    output:
        model=f"{RUNS}/{{run}}/seed{{seed}}/model.pt",
    log:
        f"{LOGS}/train/{{run}}-seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{run}}-seed{{seed}}.tsv"
    priority: lambda wildcards: training_priority(wildcards.run, wildcards.seed)
    retries: 1
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=3000,
        runtime=lambda wildcards, attempt: 120 * attempt,
        gpu=GPU_PER_TRAINING,
    params:
        config=config_digest,
        scale=SCALE,
    shell:
        "python workflow/scripts/launch.py {resources.gpu:q} train --run {wildcards.run:q} --scale {params.scale:q}"
        " --seed {wildcards.seed:q} --restart-if-changed >> {log:q} 2>&1"


rule cache_teacher:
    input:
        unpack(cache_inputs),
    output:
        # The targets lie beside it, tap by tap: what is there is not made again, whoever it was made for.
        made=f"{CACHE}/{{cache}}/{{audience}}.json",
    log:
        f"{LOGS}/cache_teacher/{{cache}}/{{audience}}.log",
    benchmark:
        f"{BENCHMARKS}/cache_teacher/{{cache}}/{{audience}}.tsv"
    priority: lambda wildcards: cache_priority(wildcards.cache, wildcards.audience)
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
        gpu=GPU,
    params:
        # Its readers are no parameters: another row that reads it must not make it, and all its students, anew.
        scale=SCALE,
    shell:
        "python workflow/scripts/launch.py {resources.gpu:q} cache --name {wildcards.cache:q}"
        " --audience {wildcards.audience:q} --scale {params.scale:q} > {log:q} 2>&1"
