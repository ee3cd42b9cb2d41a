# Neural collapse, epoch by epoch and layer by layer: what the measures need is reduced to statistics,
# which are kept, and the measures follow from them.


rule reduce_features:
    input:
        features="<results>/features/{dataset}/{untouched}",
    output:
        statistics="<results>/statistics/{dataset}/{untouched}.npz",
    log:
        "<results>/logs/reduce_features/{dataset}/{untouched}.log",
    benchmark:
        "<results>/benchmarks/reduce_features/{dataset}/{untouched}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(60),
    params:
        layers=lambda wildcards: PLAN.layers_of(wildcards.untouched),
        code=code_of("reduce_features"),
    message:
        "Statistics of {wildcards.untouched} on {wildcards.dataset}"
    script:
        "../scripts/reduce_features.py"


rule reduce_epochs:
    input:
        dataset="<results>/data/{dataset}.h5",
        weights=rules.finetune.output.weights,
        last=last_features,
    output:
        statistics=directory("<results>/statistics/{dataset}/{run}"),
    log:
        "<results>/logs/reduce_epochs/{dataset}/{run}.log",
    benchmark:
        "<results>/benchmarks/reduce_epochs/{dataset}/{run}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: cores(GPUS)
    resources:
        mem_mb=reading_memory(run_of),
        runtime=reading_minutes(run_of, lambda wildcards: len(epochs_of(wildcards))),
        gpu=GPUS,
    params:
        reading=lambda wildcards: PLAN.reading(run_of(wildcards).backbone),
        kept=epochs_of,
        device=STUDY.device,
        progress=progress_folder("reduce_epochs/{dataset}/{run}"),
        code=code_of("reduce_epochs"),
    message:
        "Statistics of {wildcards.run} on {wildcards.dataset}, epoch by epoch"
    script:
        "../scripts/reduce_epochs.py"


# Every measure of the study, a row each: tables and figures are filters of it. The measures are
# computed here, from the statistics: a new one takes no other job.
rule collect_measures:
    input:
        **{kind: lazily(PLAN.results_of, kind) for kind in PLAN.kinds()},
        runs=of_runs(lambda run: FILES.statistics_of_run(run.dataset, run.path)),
        starts=of_runs(lambda run: FILES.statistics(run.dataset, run.state.at(0).path)),
        untouched=lazily(PLAN.files_everywhere, PLAN.untouched, PLAN.statistics),
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
        runs=lazily(PLAN.describe_runs),
        epochs=of_runs(lambda run: STUDY.recipes[run.recipe].measured_epochs()),
        untouched=lazily(PLAN.describe_everywhere, PLAN.untouched),
        features=lazily(PLAN.describe_everywhere, PLAN.analysed),
        kinds=PLAN.kinds(),
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
        runs=lazily(PLAN.describe_runs),
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
        runs=lazily(PLAN.describe_runs),
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
        pdf="<results>/figures/collapse_{dataset}.pdf",
        png=report(
            "<results>/figures/collapse_{dataset}.png",
            caption="../report/collapse.rst",
            category="Neural collapse",
            labels={"figure": "measures per epoch", "data set": "{dataset}"},
        ),
    log:
        "<results>/logs/plot_collapse/{dataset}.log",
    benchmark:
        "<results>/benchmarks/plot_collapse/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        dataset=lambda wildcards: wildcards.dataset,
        runs=lazily(PLAN.describe_runs),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_collapse"),
    message:
        "Drawing neural collapse on {wildcards.dataset} per epoch"
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
        runs=lazily(PLAN.layered_runs),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_layers"),
    message:
        "Drawing NC1 and NC2 of neural collapse by layer"
    script:
        "../scripts/plot_layers.py"


rule plot_probes:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
    output:
        pdf="<results>/figures/probes.pdf",
        png=report(
            "<results>/figures/probes.png",
            caption="../report/probes.rst",
            category="Neural collapse",
            labels={"figure": "collapse and probes"},
        ),
    log:
        "<results>/logs/plot_probes.log",
    benchmark:
        "<results>/benchmarks/plot_probes.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=lazily(PLAN.describe_runs),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_probes"),
    message:
        "Drawing collapse and the accuracy of probes, per epoch and by layer"
    script:
        "../scripts/plot_probes.py"


rule plot_geometry:
    input:
        statistics=geometry_statistics,
        dataset="<results>/data/{dataset}.h5",
    output:
        pdf="<results>/figures/geometry/{dataset}/{run}.pdf",
        png=report(
            "<results>/figures/geometry/{dataset}/{run}.png",
            caption="../report/geometry.rst",
            category="Neural collapse",
            labels={"figure": "geometry of {run}", "data set": "{dataset}"},
        ),
    log:
        "<results>/logs/plot_geometry/{dataset}/{run}.log",
    benchmark:
        "<results>/benchmarks/plot_geometry/{dataset}/{run}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        statistics=geometry_files,
        epochs=geometry_epochs,
        layer=lambda wildcards: STUDY.backbones[run_of(wildcards).backbone].layers[-1],
        heading=lambda wildcards: PLAN.run_heading(wildcards.dataset, run_of(wildcards)),
        style=STYLE,
        code=code_of("plot_geometry"),
    message:
        "Drawing the geometry of {wildcards.run} on {wildcards.dataset}"
    script:
        "../scripts/plot_geometry.py"


rule tabulate_sweep:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
        training="<results>/tables/training.csv",
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
        runs=lazily(PLAN.swept_runs),
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
        training="<results>/tables/training.csv",
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
        runs=lazily(PLAN.swept_runs),
        datasets=PLAN.dataset_labels(),
        backbones=PLAN.backbone_labels(),
        style=STYLE,
        code=code_of("plot_sweep"),
    message:
        "Drawing the last epoch across the values of recipes"
    script:
        "../scripts/plot_sweep.py"
