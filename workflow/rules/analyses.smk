# What a study asks for under `analyses`: more of its feature sets, and of what training did to them.


rule spectrum:
    input:
        features=by_name(JOBS.features),
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
        stores=by_name(JOBS.stores),
        seed=STUDY.seed,
        code=code_of("spectrum"),
    message:
        "Spectrum of the {wildcards.features} features of {wildcards.dataset}"
    script:
        "../scripts/spectrum.py"


rule few_shot:
    input:
        features=by_name(JOBS.features),
        statistics=by_name(JOBS.statistics_made),
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
        store=by_name(JOBS.test_store),
        statistics=by_name(JOBS.statistics),
        layer=by_name(JOBS.layer),
        seed=STUDY.seed,
        code=code_of("few_shot"),
    message:
        "Few images a class of the {wildcards.features} features of {wildcards.dataset}"
    script:
        "../scripts/few_shot.py"


rule similarity:
    input:
        features=by_name(JOBS.replicates_features),
    output:
        similarity="<results>/similarity/{dataset}/{replicates}.json",
    log:
        "<results>/logs/similarity/{dataset}/{replicates}.log",
    benchmark:
        "<results>/benchmarks/similarity/{dataset}/{replicates}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(120),
    params:
        layers=by_name(JOBS.replicates_layers),
        seeds=by_name(JOBS.replicates_seeds),
        seed=STUDY.seed,
        code=code_of("similarity"),
    message:
        "Similarity of the layers of {wildcards.replicates} on {wildcards.dataset}"
    script:
        "../scripts/similarity.py"


# A sample of each file is in memory, as at most 5,000 x 5,000 numbers.
rule similarity_of_vectors:
    input:
        features=by_name(JOBS.vectors_features),
    output:
        similarity="<results>/similarity/{dataset}/vectors.json",
    log:
        "<results>/logs/similarity_of_vectors/{dataset}.log",
    benchmark:
        "<results>/benchmarks/similarity_of_vectors/{dataset}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(lambda wildcards: 4000 + 200 * len(STUDY.vectors[wildcards.dataset])),
        runtime=minutes(120),
    params:
        stores=by_name(JOBS.vectors_stores),
        seed=STUDY.seed,
        code=code_of("similarity_of_vectors"),
    message:
        "Similarity of the vectors of {wildcards.dataset}"
    script:
        "../scripts/similarity_of_vectors.py"
