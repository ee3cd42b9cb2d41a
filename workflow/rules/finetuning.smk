# One job a run: a busy queue is waited for once. Each finished epoch is kept in progress/, outside
# the outputs, which Snakemake deletes before a job runs again: a killed job goes on after its last
# whole epoch, and where the rate is constant, more epochs later train only the new ones.


rule finetune:
    input:
        dataset="<results>/data/{dataset}.h5",
        weights=starting_weights,
    output:
        weights=directory("<results>/training/{dataset}/{run}/weights"),
        log="<results>/training/{dataset}/{run}/log.json",
    log:
        "<results>/logs/finetune/{dataset}/{run}.log",
    benchmark:
        "<results>/benchmarks/finetune/{dataset}/{run}.tsv"
    priority: 1
    conda:
        "../envs/collapseflow.yaml"
    threads: cores(TRAINING_GPUS)
    resources:
        mem_mb=training_memory(finetuned),
        runtime=training_minutes(finetuned, 480),
        gpu=TRAINING_GPUS,
        nodes=1,
    params:
        recipe=lambda wildcards: PLAN.finetuning(run_of(wildcards)),
        kept=epochs_of,
        start=starting_label,
        device=STUDY.device,
        gpus=STUDY.gpus,
        progress=training_progress,
        code=code_of("finetune"),
    message:
        "Training {wildcards.run} on {wildcards.dataset}"
    script:
        "../scripts/finetune.py"


rule tabulate_training:
    input:
        logs=of_runs(lambda run: FILES.log(run.dataset, run.path)),
    output:
        csv="<results>/tables/training.csv",
    log:
        "<results>/logs/tabulate_training.log",
    benchmark:
        "<results>/benchmarks/tabulate_training.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        runs=lazily(PLAN.describe_runs),
        code=code_of("tabulate_training"),
    message:
        "Collecting the logs of all trainings"
    script:
        "../scripts/tabulate_training.py"


rule plot_training:
    input:
        training="<results>/tables/training.csv",
        failures="<results>/failures.csv",
    output:
        pdf="<results>/figures/training.pdf",
        png=report(
            "<results>/figures/training.png",
            caption="../report/training.rst",
            category="Neural collapse",
            labels={"figure": "loss, rate, gradient, speed"},
        ),
    log:
        "<results>/logs/plot_training.log",
    benchmark:
        "<results>/benchmarks/plot_training.tsv"
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
        code=code_of("plot_training"),
    message:
        "Drawing loss, rate, gradient norm and speed per epoch"
    script:
        "../scripts/plot_training.py"
