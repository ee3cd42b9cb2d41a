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


rule plot_embedding:
    input:
        embeddings=compared_embeddings,
        dataset="<results>/data/{dataset}.h5",
    output:
        pdf="<results>/figures/embedding_{dataset}.pdf",
        png=report(
            "<results>/figures/embedding_{dataset}.png",
            caption="../report/embedding.rst",
            category="Features",
            labels={"figure": "t-SNE", "data set": "{dataset}"},
        ),
    log:
        "<results>/logs/plot_embedding/{dataset}.log",
    benchmark:
        "<results>/benchmarks/plot_embedding/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(15),
    params:
        titles=lambda wildcards: [column.label for column in PLAN.columns(wildcards.dataset)],
        heading=lambda wildcards: PLAN.embedding_heading(wildcards.dataset),
        style=STYLE,
        code=code_of("plot_embedding"),
    message:
        "Drawing the t-SNE of {wildcards.dataset}"
    script:
        "../scripts/plot_embedding.py"
