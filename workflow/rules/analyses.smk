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


rule plot_few_shot:
    input:
        measures="<results>/measures.csv",
    output:
        pdf="<results>/figures/few_shot_{dataset}.pdf",
        png=report(
            "<results>/figures/few_shot_{dataset}.png",
            caption="../report/few_shot.rst",
            category="Classification",
            labels={"figure": "few images a class", "data set": "{dataset}"},
        ),
    log:
        "<results>/logs/plot_few_shot/{dataset}.log",
    benchmark:
        "<results>/benchmarks/plot_few_shot/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        columns=lambda wildcards: PLAN.describe_columns(wildcards.dataset),
        dataset=lambda wildcards: wildcards.dataset,
        heading=lambda wildcards: PLAN.dataset_label(wildcards.dataset),
        style=STYLE,
        code=code_of("plot_few_shot"),
    message:
        "Drawing accuracy from few images a class of {wildcards.dataset}"
    script:
        "../scripts/plot_few_shot.py"


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


rule plot_similarity:
    input:
        similarity=similarity_files,
    output:
        pdf="<results>/figures/similarity_{dataset}.pdf",
        png=report(
            "<results>/figures/similarity_{dataset}.png",
            caption="../report/similarity.rst",
            category="Neural collapse",
            labels={"figure": "similarity of layers", "data set": "{dataset}"},
        ),
    log:
        "<results>/logs/plot_similarity/{dataset}.log",
    benchmark:
        "<results>/benchmarks/plot_similarity/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        labels=lambda wildcards: [
            PLAN.series_label(runs[0]) for runs in PLAN.layered_series(wildcards.dataset).values()
        ],
        heading=lambda wildcards: PLAN.dataset_label(wildcards.dataset),
        style=STYLE,
        code=code_of("plot_similarity"),
    message:
        "Drawing the similarity of layers on {wildcards.dataset}"
    script:
        "../scripts/plot_similarity.py"


rule plot_transfer:
    input:
        measures="<results>/measures.csv",
    output:
        pdf="<results>/figures/transfer.pdf",
        png=report(
            "<results>/figures/transfer.png",
            caption="../report/transfer.rst",
            category="Transfer",
            labels={"figure": "collapse and transfer"},
        ),
        csv="<results>/tables/transfer.csv",
    log:
        "<results>/logs/plot_transfer.log",
    benchmark:
        "<results>/benchmarks/plot_transfer.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=lazily(PLAN.describe_runs),
        starts=PLAN.start_labels(),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_transfer"),
    message:
        "Drawing collapse of the starts against transfer"
    script:
        "../scripts/plot_transfer.py"


rule plot_transfer_matrix:
    input:
        measures="<results>/measures.csv",
    output:
        pdf="<results>/figures/transfer_matrix.pdf",
        png=report(
            "<results>/figures/transfer_matrix.png",
            caption="../report/transfer_matrix.rst",
            category="Transfer",
            labels={"figure": "source by target"},
        ),
        csv="<results>/tables/transfer_matrix.csv",
        md=report(
            "<results>/tables/transfer_matrix.md",
            caption="../report/transfer_matrix.rst",
            category="Transfer",
            labels={"table": "source by target"},
        ),
        tex="<results>/tables/transfer_matrix.tex",
    log:
        "<results>/logs/plot_transfer_matrix.log",
    benchmark:
        "<results>/benchmarks/plot_transfer_matrix.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        starts=PLAN.start_labels(),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_transfer_matrix"),
    message:
        "Drawing transfer from source to target"
    script:
        "../scripts/plot_transfer_matrix.py"


rule tabulate_flaws:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
        training="<results>/tables/training.csv",
        variance=flaws_variance(),
    output:
        csv="<results>/tables/flaws.csv",
        md=report(
            "<results>/tables/flaws.md",
            caption="../report/flaws.rst",
            category="Neural collapse",
            labels={"table": "what each flaw is worth"},
        ),
        tex="<results>/tables/flaws.tex",
    log:
        "<results>/logs/tabulate_flaws.log",
    benchmark:
        "<results>/benchmarks/tabulate_flaws.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=lazily(PLAN.describe_runs),
        faithful=PLAN.faithful(),
        without_imagenet=PLAN.without_imagenet(),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        starts=PLAN.start_labels(),
        features=variance_labels(),
        code=code_of("tabulate_flaws"),
    message:
        "Tabulating what each flaw of the reports is worth"
    script:
        "../scripts/tabulate_flaws.py"
