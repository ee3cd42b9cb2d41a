# One job a run: a busy queue is waited for once. Each finished epoch is kept in progress/, outside
# the outputs, which Snakemake deletes before a job runs again: a killed job goes on after its last
# whole epoch, and where the rate is constant, more epochs later train only the new ones.


rule finetune:
    input:
        dataset="<results>/data/{dataset}.h5",
        weights=by_name(JOBS.starting_weights),
    output:
        weights=directory("<results>/training/{dataset}/{run}/weights"),
        log="<results>/training/{dataset}/{run}/log.json",
    log:
        "<results>/logs/finetune/{dataset}/{run}.log",
    benchmark:
        "<results>/benchmarks/finetune/{dataset}/{run}.tsv"
    wildcard_constraints:
        run=PLAN.patterns.trained,
    priority: 1
    conda:
        "../envs/collapseflow.yaml"
    threads: lazily(DEMANDS.cores, TRAINING_GPUS)
    resources:
        mem_mb=megabytes(by_name(DEMANDS.finetuning_megabytes)),
        runtime=minutes(by_name(DEMANDS.finetuning_minutes)),
        gpu=TRAINING_GPUS,
        nodes=1,
    params:
        recipe=by_name(JOBS.finetuning),
        kept=by_name(JOBS.measured_epochs),
        start=by_name(JOBS.starting_label),
        device=STUDY.device,
        gpus=STUDY.gpus,
        progress=by_name(JOBS.training_progress),
        code=code_of("finetune"),
    message:
        "Training {wildcards.run} on {wildcards.dataset}"
    script:
        "../scripts/finetune.py"


# A training made elsewhere: its checkpoints stay where they are.
rule link_checkpoints:
    input:
        checkpoints=by_name(JOBS.checkpoints),
    output:
        weights=directory("<results>/training/{dataset}/{elsewhere}/weights"),
    log:
        "<results>/logs/link_checkpoints/{dataset}/{elsewhere}.log",
    benchmark:
        "<results>/benchmarks/link_checkpoints/{dataset}/{elsewhere}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        epochs=lambda wildcards: JOBS.measured_epochs(wildcards.elsewhere),
        code=code_of("link_checkpoints"),
    message:
        "Taking the checkpoints of {wildcards.elsewhere} on {wildcards.dataset}"
    script:
        "../scripts/link_checkpoints.py"


# Apart from the checkpoints: a log that has grown has nothing measured again. Without one it is
# empty.
rule import_log:
    input:
        csv=by_name(JOBS.log_made),
    output:
        log="<results>/training/{dataset}/{elsewhere}/log.json",
    log:
        "<results>/logs/import_log/{dataset}/{elsewhere}.log",
    benchmark:
        "<results>/benchmarks/import_log/{dataset}/{elsewhere}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        columns=lambda wildcards: JOBS.made_elsewhere(wildcards.elsewhere).columns,
        counted_from=lambda wildcards: JOBS.made_elsewhere(wildcards.elsewhere).counted_from,
        code=code_of("import_log"),
    message:
        "Taking the log of {wildcards.elsewhere} on {wildcards.dataset}"
    script:
        "../scripts/import_log.py"
