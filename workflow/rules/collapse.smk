# Accuracy, NC1 and the three parts of NC2 of neural collapse, epoch by epoch and layer by layer.


rule measure_collapse:
    input:
        dataset="<results>/data/{dataset}.h5",
        first=features_at(0),
        weights=rules.finetune.output.weights,
        last=features_at(-1),
    output:
        statistics="<results>/measures/{dataset}/{run}.json",
    log:
        "<results>/logs/measure_collapse/{dataset}/{run}.log",
    benchmark:
        "<results>/benchmarks/measure_collapse/{dataset}/{run}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=reading_memory(run_of),
        runtime=minutes(240),
        gpu=GPUS,
    params:
        reading=lambda wildcards: PLAN.reading(run_of(wildcards).backbone),
        kept=epochs_of,
        device=STUDY.device,
        progress=progress_folder("measure_collapse/{dataset}/{run}"),
        code=code_of("measure_collapse"),
    message:
        "Collapse of {wildcards.run} on {wildcards.dataset}, epoch by epoch"
    script:
        "../scripts/measure_collapse.py"


# Every measure of the study, a row each: tables and figures are filters of it.
rule collect_measures:
    input:
        measures=[FILES.measures(run.dataset, run.path) for run in PLAN.runs],
        cells=[
            FILES.cells(dataset, features.path)
            for dataset in STUDY.datasets
            for column in PLAN.columns(dataset)
            for features in column.sets
        ],
    output:
        csv=report(
            "<results>/measures.csv",
            caption="../report/measures.rst",
            category="Summary",
            labels={"table": "all measures"},
        ),
        failures="<results>/failures.csv",
    log:
        "<results>/logs/collect_measures.log",
    benchmark:
        "<results>/benchmarks/collect_measures.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=PLAN.describe_runs(),
        columns={dataset: PLAN.describe_columns(dataset) for dataset in STUDY.datasets},
        datasets=PLAN.dataset_labels(),
        code=code_of("collect_measures"),
    message:
        "Collecting every measure of the study"
    script:
        "../scripts/collect_measures.py"


rule tabulate_collapse:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
    output:
        csv="<results>/tables/collapse.csv",
        md=report(
            "<results>/tables/collapse.md",
            caption="../report/collapse_table.rst",
            category="Neural collapse",
            labels={"table": "first and last epoch"},
        ),
        tex="<results>/tables/collapse.tex",
    log:
        "<results>/logs/tabulate_collapse.log",
    benchmark:
        "<results>/benchmarks/tabulate_collapse.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=PLAN.describe_runs(),
        datasets=PLAN.dataset_labels(),
        code=code_of("tabulate_collapse"),
    message:
        "Tabulating accuracy and collapse of the first and the last epoch"
    script:
        "../scripts/tabulate_collapse.py"


rule plot_accuracy_per_epoch:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
    output:
        pdf="<results>/figures/accuracy_per_epoch.pdf",
        png=report(
            "<results>/figures/accuracy_per_epoch.png",
            caption="../report/accuracy_per_epoch.rst",
            category="Neural collapse",
            labels={"figure": "accuracy per epoch"},
        ),
    log:
        "<results>/logs/plot_accuracy_per_epoch.log",
    benchmark:
        "<results>/benchmarks/plot_accuracy_per_epoch.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=PLAN.describe_runs(),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_accuracy_per_epoch"),
    message:
        "Drawing accuracy per epoch"
    script:
        "../scripts/plot_accuracy_per_epoch.py"


rule plot_collapse:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
    output:
        pdf="<results>/figures/collapse.pdf",
        png=report(
            "<results>/figures/collapse.png",
            caption="../report/collapse.rst",
            category="Neural collapse",
            labels={"figure": "measures per epoch"},
        ),
    log:
        "<results>/logs/plot_collapse.log",
    benchmark:
        "<results>/benchmarks/plot_collapse.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=PLAN.describe_runs(),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_collapse"),
    message:
        "Drawing NC1 and NC2 of neural collapse per epoch"
    script:
        "../scripts/plot_collapse.py"


rule plot_layers:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
    output:
        pdf="<results>/figures/layers.pdf",
        png=report(
            "<results>/figures/layers.png",
            caption="../report/layers.rst",
            category="Neural collapse",
            labels={"figure": "measures by layer"},
        ),
    log:
        "<results>/logs/plot_layers.log",
    benchmark:
        "<results>/benchmarks/plot_layers.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=PLAN.layered_runs(),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_layers"),
    message:
        "Drawing NC1 and NC2 of neural collapse by layer"
    script:
        "../scripts/plot_layers.py"


rule tabulate_sweep:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
    output:
        csv="<results>/tables/sweep.csv",
        md=report(
            "<results>/tables/sweep.md",
            caption="../report/sweep.rst",
            category="Neural collapse",
            labels={"table": "across swept values"},
        ),
        tex="<results>/tables/sweep.tex",
    log:
        "<results>/logs/tabulate_sweep.log",
    benchmark:
        "<results>/benchmarks/tabulate_sweep.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=PLAN.swept_runs(),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        code=code_of("tabulate_sweep"),
    message:
        "Tabulating the last epoch across the values of recipes"
    script:
        "../scripts/tabulate_sweep.py"


rule plot_sweep:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
    output:
        pdf="<results>/figures/sweep.pdf",
        png=report(
            "<results>/figures/sweep.png",
            caption="../report/sweep.rst",
            category="Neural collapse",
            labels={"figure": "across swept values"},
        ),
    log:
        "<results>/logs/plot_sweep.log",
    benchmark:
        "<results>/benchmarks/plot_sweep.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=PLAN.swept_runs(),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_sweep"),
    message:
        "Drawing the last epoch across the values of recipes"
    script:
        "../scripts/plot_sweep.py"
