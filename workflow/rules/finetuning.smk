# One job a fine-tuning: a busy queue is waited for once. Each finished epoch is kept in
# progress/, outside the outputs, which Snakemake deletes before a job runs again: a killed job
# goes on after its last whole epoch, and more epochs later train only the new ones.


rule finetune:
    input:
        dataset="<results>/data/{dataset}.h5",
        weights=starting_weights,
    output:
        weights=expand(
            "<results>/finetune/{{dataset}}/{{backbone}}/{epoch}.safetensors",
            epoch=EPOCHS,
        ),
    log:
        "<results>/logs/finetune/{dataset}/{backbone}.log",
    benchmark:
        "<results>/benchmarks/finetune/{dataset}/{backbone}.tsv"
    priority: 1
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=network_memory(lambda backbone: STUDY.finetune.batch_size, 130),
        runtime=minutes(480),
        gpu=TRAINING_GPUS,
    params:
        recipe=lambda wildcards: training_recipe(
            wildcards.backbone, STUDY.finetune.batch_size, STUDY.finetune.learning_rate
        ),
        head_gain=STUDY.finetune.head_gain,
        start=lambda wildcards: STUDY.state_label(
            wildcards.backbone, first_state(wildcards.backbone)
        ),
        device=STUDY.device,
        gpus=STUDY.gpus,
        progress=progress_folder("finetune/{dataset}/{backbone}"),
        code=code_of("finetune"),
    message:
        "Fine-tuning {wildcards.backbone} on {wildcards.dataset}"
    script:
        "../scripts/finetune.py"
