# Neural collapse, epoch by epoch and layer by layer: what the measures need is reduced to statistics,
# which are kept, and the measures follow from them.


rule reduce_features:
    input:
        features="<results>/features/{dataset}/{untrained}",
    output:
        statistics="<results>/statistics/{dataset}/{untrained}.npz",
    log:
        "<results>/logs/reduce_features/{dataset}/{untrained}.log",
    benchmark:
        "<results>/benchmarks/reduce_features/{dataset}/{untrained}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(60),
    params:
        layers=by_name(JOBS.layers),
        code=code_of("reduce_features"),
    message:
        "Statistics of {wildcards.untrained} on {wildcards.dataset}"
    script:
        "../scripts/reduce_features.py"


rule reduce_epochs:
    input:
        dataset="<results>/data/{dataset}.h5",
        weights=rules.finetune.output.weights,
        last=by_name(JOBS.last_features),
    output:
        statistics=directory("<results>/statistics/{dataset}/{run}"),
    log:
        "<results>/logs/reduce_epochs/{dataset}/{run}.log",
    benchmark:
        "<results>/benchmarks/reduce_epochs/{dataset}/{run}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: lazily(DEMANDS.cores, GPUS)
    resources:
        mem_mb=megabytes(by_name(DEMANDS.reducing_megabytes)),
        runtime=minutes(by_name(DEMANDS.reducing_minutes)),
        gpu=GPUS,
    params:
        reading=by_name(JOBS.reading_of_run),
        kept=by_name(JOBS.measured_epochs),
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
        **{analysis.name: lazily(PLAN.results, analysis) for analysis in PLAN.analyses()},
        runs=for_each_run(lambda run: FILES.statistics_of_run(run.dataset, run.path)),
        starts=for_each_run(lambda run: FILES.statistics(run.dataset, run.state.at(0).path)),
        untrained=lazily(PLAN.untrained_statistics),
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
        epochs=for_each_run(lambda run: STUDY.courses[run.recipe].measured_epochs()),
        untrained=told_everywhere(PLAN.columns.untrained),
        features=told_everywhere(PLAN.columns.analysed),
        rows={analysis.name: analysis.rows for analysis in PLAN.analyses()},
        datasets=PLAN.labels.datasets(),
        code=code_of("collect_measures", *[analysis.rows for analysis in PLAN.analyses()]),
    message:
        "Collecting every measure of the study"
    script:
        "../scripts/collect_measures.py"
