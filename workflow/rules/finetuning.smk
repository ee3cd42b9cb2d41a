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
