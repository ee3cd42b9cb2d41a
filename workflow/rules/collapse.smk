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
        runs=asked(SHOWS["runs"]),
        epochs=of_runs(lambda run: STUDY.recipes[run.recipe].measured_epochs()),
        untouched=told_everywhere(PLAN.untouched),
        features=told_everywhere(PLAN.analysed),
        kinds=PLAN.kinds(),
        datasets=PLAN.dataset_labels(),
        code=code_of("collect_measures"),
    message:
        "Collecting every measure of the study"
    script:
        "../scripts/collect_measures.py"
