# What a study asks for under `analyses`: more of its feature sets, and of what training did to them.


rule spectrum:
    input:
        features=folder_of,
    output:
        measures="<results>/spectrum/{dataset}/{features}.json",
    log:
        "<results>/logs/spectrum/{dataset}/{features}.log",
    benchmark:
        "<results>/benchmarks/spectrum/{dataset}/{features}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(120),
    params:
        stores=stores_of,
        seed=STUDY.seed,
        code=code_of("spectrum"),
    message:
        "Spectrum of the {wildcards.features} features of {wildcards.dataset}"
    script:
        "../scripts/spectrum.py"


rule few_shot:
    input:
        features=folder_of,
        statistics=statistics_of,
    output:
        accuracies="<results>/few_shot/{dataset}/{features}.json",
    log:
        "<results>/logs/few_shot/{dataset}/{features}.log",
    benchmark:
        "<results>/benchmarks/few_shot/{dataset}/{features}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(120),
    params:
        store=store_of("test"),
        statistics=statistics_file,
        layer=lambda wildcards: FeatureSet.parse(wildcards.features).layer,
        seed=STUDY.seed,
        code=code_of("few_shot"),
    message:
        "Few images a class of the {wildcards.features} features of {wildcards.dataset}"
    script:
        "../scripts/few_shot.py"


rule similarity:
    input:
        features=features_of_series,
    output:
        similarity="<results>/similarity/{dataset}/{series}.json",
    log:
        "<results>/logs/similarity/{dataset}/{series}.log",
    benchmark:
        "<results>/benchmarks/similarity/{dataset}/{series}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(120),
    params:
        layers=lambda wildcards: STUDY.backbones[wildcards.series.split("/")[0]].layers,
        seeds=lambda wildcards: [
            run.state.seed for run in PLAN.series(wildcards.dataset)[wildcards.series]
        ],
        seed=STUDY.seed,
        code=code_of("similarity"),
    message:
        "Similarity of the layers of {wildcards.series} on {wildcards.dataset}"
    script:
        "../scripts/similarity.py"
