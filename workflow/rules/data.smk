# Datasets: simulated when they are ours, indexed in any case. Real data are found, never made.
NUSCENES_TABLES = (
    "attribute calibrated_sensor category ego_pose instance log map sample sample_annotation sample_data scene"
    " sensor visibility"
).split()
SIMULATED = f"data/nuscenes_sim/{SCALE}"


rule simulate:
    output:
        tables=expand("{root}/v1.0-sim/{table}.json", root=SIMULATED, table=NUSCENES_TABLES),
        labelled=f"{SIMULATED}/v1.0-sim/labelled.json",
    log:
        f"{LOGS}/simulate.log",
    benchmark:
        f"{BENCHMARKS}/simulate.tsv"
    priority: 300
    conda:
        ENV
    threads: 8
    resources:
        mem_mb=lambda wildcards, threads: 700 * threads,
        runtime=60,
    params:
        root=lambda wildcards, output: str(Path(output.labelled).parents[1]),
        scale=SCALE,
        seed=SETTINGS.seed,
    shell:
        "python workflow/scripts/launch.py 0 simulate --dataset nuscenes --scale {params.scale} --seed {params.seed}"
        " --out {params.root} --workers {threads} > {log} 2>&1"


rule convert:
    input:
        tables=lambda wildcards: [
            f"{DATASETS[wildcards.index].root}/{DATASETS[wildcards.index].version}/{table}.json"
            for table in NUSCENES_TABLES
        ],
    output:
        frames="{index}/frames.parquet",
    log:
        f"{LOGS}/convert/{{index}}.log",
    benchmark:
        f"{BENCHMARKS}/convert/{{index}}.tsv"
    priority: 300
    conda:
        ENV
    threads: 8
    resources:
        mem_mb=lambda wildcards, threads: 700 * threads,
        runtime=60,
    params:
        reader=lambda wildcards: DATASETS[wildcards.index].reader,
        root=lambda wildcards: DATASETS[wildcards.index].root,
        version=lambda wildcards: DATASETS[wildcards.index].version,
    shell:
        "python workflow/scripts/launch.py 0 convert --dataset {params.reader} --root {params.root} --version {params.version}"
        " --out {wildcards.index} --workers {threads} > {log} 2>&1"
