# t-SNE of stored features.


rule embed:
    input:
        features=by_name(JOBS.features),
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
        stores=by_name(JOBS.embedded_stores),
        options=by_name(JOBS.embedding_options),
        seed=STUDY.seed,
        code=code_of("embed"),
    message:
        "t-SNE ({wildcards.method}) of {wildcards.features} on {wildcards.dataset}, {wildcards.embedded}"
    script:
        "../scripts/embed.py"
