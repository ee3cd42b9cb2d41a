# Report B: t-SNE of training and test features, variances within and between classes.


rule plot_embedding_train_test:
    input:
        embeddings=variance_embeddings(),
        dataset=variance_dataset,
    output:
        pdf="<results>/figures/embedding_train_test.pdf",
        png=report(
            "<results>/figures/embedding_train_test.png",
            caption="../report/embedding_train_test.rst",
            category="Variance",
            labels={"figure": "t-SNE of train and test"},
        ),
    log:
        "<results>/logs/plot_embedding_train_test.log",
    benchmark:
        "<results>/benchmarks/plot_embedding_train_test.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(15),
    params:
        titles=variance_titles(),
        heading=variance_heading(),
        style=STYLE,
        code=code_of("plot_embedding"),
    message:
        "Drawing the t-SNE of training and test features"
    script:
        "../scripts/plot_embedding.py"


rule tabulate_variance:
    input:
        statistics=variance_statistics(),
        embeddings=variance_embeddings(),
        dataset=variance_dataset,
    output:
        csv="<results>/tables/variance.csv",
        md=report(
            "<results>/tables/variance.md",
            caption="../report/variance.rst",
            category="Variance",
            labels={"table": "variances"},
        ),
        tex="<results>/tables/variance.tex",
    log:
        "<results>/logs/tabulate_variance.log",
    benchmark:
        "<results>/benchmarks/tabulate_variance.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(60),
    params:
        statistics=variance_statistics_files(),
        features=variance_labels(),
        identities=PLAN.variance_identities(),
        published=variance_published(),
        code=code_of("tabulate_variance"),
    message:
        "Variances within and between classes"
    script:
        "../scripts/tabulate_variance.py"


rule plot_variance:
    input:
        variance="<results>/tables/variance.csv",
        dataset=variance_dataset,
    output:
        pdf="<results>/figures/variance.pdf",
        png=report(
            "<results>/figures/variance.png",
            caption="../report/variance.rst",
            category="Variance",
            labels={"figure": "variances"},
        ),
    log:
        "<results>/logs/plot_variance.log",
    benchmark:
        "<results>/benchmarks/plot_variance.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        features=variance_labels(),
        backbones=list(STUDY.backbones),
        heading=variance_heading(),
        style=STYLE,
        code=code_of("plot_variance"),
    message:
        "Drawing the variances within and between classes"
    script:
        "../scripts/plot_variance.py"
