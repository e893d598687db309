# What a training step costs (UniDistill, Table S8). Timings want the machine for themselves: the job takes every core,
# and comes when nothing else can.


rule bench:
    input:
        unpack(bench_inputs),
    output:
        cost=f"{RESULTS}/costs/{{run}}.json",
    log:
        f"{LOGS}/bench/{{run}}.log",
    priority: -100
    conda:
        ENV
    threads: os.cpu_count()  # as many as a job may have; `workflow.cores` is not known to every command
    resources:
        mem_mb=4000,
        runtime=180,
        gpu=GPU,
        slurm_extra="--exclusive",
    params:
        config=first_seed_digest,
        scale=SCALE,
        seed=lambda wildcards: ROWS[wildcards.run].seeds[0],
        steps=BENCH.steps,
        warmup=BENCH.warmup,
        repeats=BENCH.repeats,
        batch=["--batch", str(BENCH.batch)] if BENCH.batch else [],
    shell:
        "python workflow/scripts/launch.py {resources.gpu:q} bench --run {wildcards.run:q} --scale {params.scale:q} --seed {params.seed:q}"
        " --warmup {params.warmup:q} --steps {params.steps:q} --repeats {params.repeats:q} {params.batch:q} --out {output.cost:q} > {log:q} 2>&1"


# Size and cost of a run's network: parameters and multiply-accumulates, and latency, which wants the machine for itself.
rule profile:
    output:
        profile=f"{RESULTS}/profiles/{{run}}.json",
    log:
        f"{LOGS}/profile/{{run}}.log",
    priority: -100
    conda:
        ENV
    threads: os.cpu_count()
    resources:
        mem_mb=4000,
        runtime=30,
        gpu=GPU,
        slurm_extra="--exclusive",
    params:
        config=first_seed_digest,
        scale=SCALE,
    shell:
        "python workflow/scripts/launch.py {resources.gpu:q} profile --run {wildcards.run:q} --scale {params.scale:q} --out {output.profile:q} > {log:q} 2>&1"
