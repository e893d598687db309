# Datasets: simulated when they are ours, indexed in any case. Real data are found, never made.


rule simulate:
    output:
        root=directory("{root}"),
    log:
        f"{LOGS}/simulate/{{root}}.log",
    benchmark:
        f"{BENCHMARKS}/simulate/{{root}}.tsv"
    priority: lambda wildcards: data_priority(*indices_of(wildcards.root))
    conda:
        ENV
    threads: lambda wildcards: data_processes(*indices_of(wildcards.root))
    resources:
        mem_mb=lambda wildcards, threads: 700 * threads,
        runtime=60,
    params:
        reader=lambda wildcards: SIMULATED[wildcards.root],
        scale=SCALE,
        seed=SETTINGS.seed,
    shell:
        "python workflow/scripts/launch.py 0 simulate --dataset {params.reader:q} --scale {params.scale:q} --seed {params.seed:q}"
        " --out {output.root:q} --workers {threads:q} > {log:q} 2>&1"


rule convert:
    input:
        unpack(dataset_files),
    output:
        frames="{index}/frames.parquet",
    log:
        f"{LOGS}/convert/{{index}}.log",
    benchmark:
        f"{BENCHMARKS}/convert/{{index}}.tsv"
    priority: lambda wildcards: data_priority(wildcards.index)
    conda:
        ENV
    threads: lambda wildcards: data_processes(wildcards.index)
    resources:
        mem_mb=lambda wildcards, threads: 700 * threads,
        runtime=60,
    params:
        reader=lambda wildcards: DATASETS[wildcards.index].kind,
        root=lambda wildcards: DATASETS[wildcards.index].root,
        version=lambda wildcards: DATASETS[wildcards.index].version,
        links=lambda wildcards: [f"--link-target={folder}" for folder in DATASETS[wildcards.index].link_targets],
    shell:
        "python workflow/scripts/launch.py 0 convert --dataset {params.reader:q} --root {params.root:q} --version {params.version:q}"
        " --out {wildcards.index:q} --workers {threads:q} {params.links:q} > {log:q} 2>&1"


# Beside the masks and sweeps of a data set, once, where a network reads them. Masks of simulated images are made with them.
rule virtual_points:
    input:
        frames="{index}/frames.parquet",
    output:
        manifest="{index}_virtual/manifest.json",
    log:
        f"{LOGS}/virtual_points/{{index}}.log",
    benchmark:
        f"{BENCHMARKS}/virtual_points/{{index}}.tsv"
    priority: lambda wildcards: data_priority(wildcards.index)
    conda:
        ENV
    threads: lambda wildcards: data_processes(wildcards.index)
    resources:
        mem_mb=lambda wildcards, threads: 700 * threads,
        runtime=240,
    params:
        root=lambda wildcards: DATASETS[wildcards.index].root,
        links=lambda wildcards: [f"--link-target={folder}" for folder in DATASETS[wildcards.index].link_targets],
    shell:
        "python workflow/scripts/launch.py 0 virtual-points --index {wildcards.index:q} --root {params.root:q} --workers {threads:q}"
        " {params.links:q} > {log:q} 2>&1"


rule dataset:
    input:
        data_files(),
    localrule: True
