# Accuracy, NC1 and the three parts of NC2 of neural collapse, epoch by epoch.


rule measure_collapse:
    input:
        dataset="<results>/data/{dataset}.h5",
        first=stores_before,
        weights=rules.finetune.output.weights,
        last=stores_after,
    output:
        statistics="<results>/collapse/{dataset}/{backbone}.json",
    log:
        "<results>/logs/measure_collapse/{dataset}/{backbone}.log",
    benchmark:
        "<results>/benchmarks/measure_collapse/{dataset}/{backbone}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=network_memory(lambda backbone: STUDY.backbones[backbone].batch_size, 60),
        runtime=minutes(240),
        gpu=GPUS,
    params:
        reading=lambda wildcards: feature_reading(wildcards.backbone),
        device=STUDY.device,
        progress=progress_folder("measure_collapse/{dataset}/{backbone}"),
        code=code_of("measure_collapse"),
    message:
        "Collapse of {wildcards.backbone} on {wildcards.dataset} after every epoch"
    script:
        "../scripts/measure_collapse.py"


rule tabulate_collapse:
    input:
        statistics=epoch_statistics,
    output:
        csv=report(
            "<results>/tables/collapse.csv",
            caption="../report/collapse.rst",
            category="Neural collapse",
            labels={"table": "measures per epoch"},
        ),
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
        starts={b: STUDY.state_label(b, first_state(b)) for b in STUDY.finetuned_backbones()},
        code=code_of("tabulate_collapse"),
    message:
        "Collecting the statistics of all epochs"
    script:
        "../scripts/tabulate_collapse.py"


rule plot_accuracy_per_epoch:
    input:
        collapse="<results>/tables/collapse.csv",
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
        labels=curve_labels(),
        style=STUDY.style.model_dump(),
        code=code_of("plot_accuracy_per_epoch"),
    message:
        "Drawing accuracy per epoch"
    script:
        "../scripts/plot_accuracy_per_epoch.py"


rule plot_collapse:
    input:
        collapse="<results>/tables/collapse.csv",
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
        labels=curve_labels(),
        style=STUDY.style.model_dump(),
        code=code_of("plot_collapse"),
    message:
        "Drawing NC1 and NC2 of neural collapse per epoch"
    script:
        "../scripts/plot_collapse.py"
