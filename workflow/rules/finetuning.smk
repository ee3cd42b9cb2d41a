# One job an epoch: from the weights and the optimizer's state of the epoch before to the next.
# A killed run goes on after its last whole epoch, and more epochs train only the new ones.


rule finetune_epoch:
    input:
        dataset="<results>/data/{dataset}.h5",
        weights=previous_weights,
        optimizer=previous_optimizer,
    output:
        weights="<results>/finetune/{dataset}/{backbone}/epoch{epoch}.safetensors",
        optimizer=temp("<results>/finetune/{dataset}/{backbone}/epoch{epoch}.optimizer.safetensors"),
    log:
        "<results>/logs/finetune/{dataset}/{backbone}-epoch{epoch}.log",
    benchmark:
        "<results>/benchmarks/finetune/{dataset}/{backbone}-epoch{epoch}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=network_memory(lambda backbone: STUDY.finetune.batch_size, 130),
        runtime=240,
    params:
        recipe=lambda wildcards: training_recipe(
            wildcards.backbone, STUDY.finetune.batch_size, STUDY.finetune.learning_rate
        ),
        head_gain=STUDY.finetune.head_gain,
        start=lambda wildcards: STUDY.state_label(
            wildcards.backbone, first_state(wildcards.backbone)
        ),
        device=STUDY.device,
        code=code_of("finetune_epoch"),
    message:
        "Fine-tuning {wildcards.backbone} on {wildcards.dataset}: epoch {wildcards.epoch}"
    script:
        "../scripts/finetune_epoch.py"


# The last epoch keeps the optimizer's state, so that a study can be given more epochs later.
use rule finetune_epoch as finetune_last_epoch with:
    output:
        weights="<results>/finetune/{dataset}/{backbone}/epoch{epoch}.safetensors",
        optimizer="<results>/finetune/{dataset}/{backbone}/epoch{epoch}.optimizer.safetensors",
    wildcard_constraints:
        epoch=LAST_EPOCH,


ruleorder: finetune_last_epoch > finetune_epoch
