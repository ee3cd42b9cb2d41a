# t-SNE of stored features.


rule embed:
    input:
        features=folder_of,
    output:
        embedding="<results>/embeddings/{dataset}/{features}/{embedded}-{method}.npz",
    log:
        "<results>/logs/embed/{dataset}/{features}-{embedded}-{method}.log",
    benchmark:
        "<results>/benchmarks/embed/{dataset}/{features}-{embedded}-{method}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(240),
    params:
        stores=embedded_stores,
        options=lambda wildcards: embedding_options(wildcards.method),
        seed=STUDY.seed,
        code=code_of("embed"),
    message:
        "t-SNE ({wildcards.method}) of {wildcards.features} on {wildcards.dataset}, {wildcards.embedded}"
    script:
        "../scripts/embed.py"
