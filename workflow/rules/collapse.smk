# Accuracy and the four measures of neural collapse, epoch by epoch.


rule measure_epoch:
    input:
        train=epoch_store("train"),
        test=epoch_store("test"),
    output:
        statistics="<results>/collapse/{dataset}/{backbone}/epoch{epoch}.json",
    log:
        "<results>/logs/measure_epoch/{dataset}/{backbone}-epoch{epoch}.log",
    benchmark:
        "<results>/benchmarks/measure_epoch/{dataset}/{backbone}-epoch{epoch}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("measure_epoch"),
    message:
        "Collapse of {wildcards.backbone} on {wildcards.dataset} after epoch {wildcards.epoch}"
    script:
        "../scripts/measure_epoch.py"


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
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
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
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
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
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        labels=curve_labels(),
        style=STUDY.style.model_dump(),
        code=code_of("plot_collapse"),
    message:
        "Drawing the four measures of neural collapse per epoch"
    script:
        "../scripts/plot_collapse.py"
