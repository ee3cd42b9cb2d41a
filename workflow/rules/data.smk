# From a source of images to one HDF5 file per data set.


rule prepare_dataset:
    output:
        dataset="<results>/data/{dataset}.h5",
    log:
        "<results>/logs/prepare_dataset/{dataset}.log",
    benchmark:
        "<results>/benchmarks/prepare_dataset/{dataset}.tsv"
    priority: 1
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: by_name(DEMANDS.decoding_threads)
    resources:
        mem_mb=megabytes(3000),
        runtime=minutes(60),
    params:
        entry=lambda wildcards: STUDY.datasets[wildcards.dataset].entry(),
        images=by_name(in_one_line(JOBS.images_of_a_user)),
        test_fraction=STUDY.test_fraction,
        seed=STUDY.seed,
        code=code_of("prepare_dataset"),
    message:
        "Preparing the data set {wildcards.dataset}"
    script:
        "../scripts/prepare_dataset.py"


rule audit:
    input:
        dataset="<results>/data/{dataset}.h5",
    output:
        audit="<results>/audit/{dataset}.json",
    log:
        "<results>/logs/audit/{dataset}.log",
    benchmark:
        "<results>/benchmarks/audit/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: min(2, STUDY.threads)
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(60),
    params:
        seed=STUDY.seed,
        code=code_of("audit"),
    message:
        "Looking through the images of {wildcards.dataset}"
    script:
        "../scripts/audit.py"
