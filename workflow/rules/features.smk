# Feature stores: a folder for each data set and feature set, or state with all its layers, in which
# each split is one HDF5 file.


rule extract_raw:
    input:
        dataset="<results>/data/{dataset}.h5",
    output:
        features=directory("<results>/features/{dataset}/raw"),
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


# What was computed elsewhere, of any network and of anything that has labels.
rule import_vectors:
    input:
        dataset="<results>/data/{dataset}.h5",
        vectors=by_name(JOBS.vectors),
    output:
        features=directory("<results>/features/{dataset}/{vectors}"),
    log:
        "<results>/logs/extract/{dataset}/{vectors}.log",
    benchmark:
        "<results>/benchmarks/extract/{dataset}/{vectors}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(120),
    params:
        code=code_of("import_vectors"),
    message:
        "Storing the vectors {wildcards.vectors} of {wildcards.dataset}"
    script:
        "../scripts/import_vectors.py"


rule extract_scattering:
    input:
        dataset="<results>/data/{dataset}.h5",
    output:
        features=directory("<results>/features/{dataset}/scattering"),
    log:
        "<results>/logs/extract/{dataset}/scattering.log",
    benchmark:
        "<results>/benchmarks/extract/{dataset}/scattering.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: lazily(DEMANDS.cores, GPUS)
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


# Networks with any weights: ImageNet, letters, random, a local file, or an epoch's. All layers are
# read in one pass.
rule extract_network:
    input:
        dataset="<results>/data/{dataset}.h5",
        weights=by_name(JOBS.weights),
    output:
        features=directory("<results>/features/{dataset}/{state}"),
    log:
        "<results>/logs/extract/{dataset}/{state}.log",
    benchmark:
        "<results>/benchmarks/extract/{dataset}/{state}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: lazily(DEMANDS.cores, GPUS)
    resources:
        mem_mb=megabytes(by_name(DEMANDS.reading_megabytes)),
        runtime=minutes(by_name(DEMANDS.reading_minutes)),
        gpu=GPUS,
    params:
        reading=by_name(JOBS.reading),
        epoch=by_name(JOBS.epoch),
        device=STUDY.device,
        code=code_of("extract_network"),
    message:
        "Features of {wildcards.dataset} from {wildcards.state}"
    script:
        "../scripts/extract_network.py"
