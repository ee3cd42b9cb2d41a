# Feature stores: one HDF5 file for each data set, feature set and split.


rule extract_raw:
    input:
        dataset="<results>/data/{dataset}.h5",
    output:
        train="<results>/features/{dataset}/raw/train.h5",
        test="<results>/features/{dataset}/raw/test.h5",
    log:
        "<results>/logs/extract/{dataset}/raw.log",
    benchmark:
        "<results>/benchmarks/extract/{dataset}/raw.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
    params:
        code=code_of("extract_raw"),
    message:
        "Storing the raw pixels of {wildcards.dataset}"
    script:
        "../scripts/extract_raw.py"


rule extract_scattering:
    input:
        dataset="<results>/data/{dataset}.h5",
    output:
        train="<results>/features/{dataset}/scattering/train.h5",
        test="<results>/features/{dataset}/scattering/test.h5",
    log:
        "<results>/logs/extract/{dataset}/scattering.log",
    benchmark:
        "<results>/benchmarks/extract/{dataset}/scattering.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(120),
        gpu=GPUS,
    params:
        scattering=lambda wildcards: STUDY.scattering_of(wildcards.dataset).model_dump(),
        device=STUDY.device,
        code=code_of("extract_scattering"),
    message:
        "Wavelet scattering of {wildcards.dataset}"
    script:
        "../scripts/extract_scattering.py"


# Networks with any weights: ImageNet, letters, random, a local file, or an epoch's.
rule extract_network:
    input:
        dataset="<results>/data/{dataset}.h5",
        weights=extraction_weights,
    output:
        train="<results>/features/{dataset}/{backbone}-{state}/train.h5",
        test="<results>/features/{dataset}/{backbone}-{state}/test.h5",
    log:
        "<results>/logs/extract/{dataset}/{backbone}-{state}.log",
    benchmark:
        "<results>/benchmarks/extract/{dataset}/{backbone}-{state}.tsv"
    wildcard_constraints:
        state=r"imagenet|package|pretrain|random|file|epoch\d\d\d+",
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=network_memory(lambda backbone: STUDY.backbones[backbone].batch_size, 60),
        runtime=minutes(240),
        gpu=GPUS,
    params:
        reading=lambda wildcards: feature_reading(wildcards.backbone),
        device=STUDY.device,
        code=code_of("extract_network"),
    message:
        "Features of {wildcards.dataset} from {wildcards.backbone} ({wildcards.state})"
    script:
        "../scripts/extract_network.py"


rule plot_scattering:
    input:
        dataset="<results>/data/{dataset}.h5",
    output:
        pdf="<results>/figures/scattering_{dataset}.pdf",
        png=report(
            "<results>/figures/scattering_{dataset}.png",
            caption="../report/scattering.rst",
            category="Features",
            labels={"figure": "scattering coefficients", "data set": "{dataset}"},
        ),
    log:
        "<results>/logs/plot_scattering/{dataset}.log",
    benchmark:
        "<results>/benchmarks/plot_scattering/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(15),
    params:
        scattering=lambda wildcards: STUDY.scattering_of(wildcards.dataset).model_dump(),
        title=lambda wildcards: STUDY.dataset_label(wildcards.dataset),
        style=STUDY.style.model_dump(),
        code=code_of("plot_scattering"),
    message:
        "Drawing scattering coefficients of {wildcards.dataset}"
    script:
        "../scripts/plot_scattering.py"
