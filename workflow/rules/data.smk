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
    threads: decoding_threads
    resources:
        mem_mb=megabytes(3000),
        runtime=minutes(60),
    params:
        entry=lambda wildcards: STUDY.datasets[wildcards.dataset].entry(),
        images=images_of_a_folder,
        test_fraction=STUDY.test_fraction,
        seed=STUDY.seed,
        code=code_of("prepare_dataset"),
    message:
        "Preparing the data set {wildcards.dataset}"
    script:
        "../scripts/prepare_dataset.py"


rule plot_samples:
    input:
        dataset="<results>/data/{dataset}.h5",
    output:
        pdf="<results>/figures/samples_{dataset}.pdf",
        png=report(
            "<results>/figures/samples_{dataset}.png",
            caption="../report/samples.rst",
            category="Data",
            labels={"figure": "samples", "data set": "{dataset}"},
        ),
    log:
        "<results>/logs/plot_samples/{dataset}.log",
    benchmark:
        "<results>/benchmarks/plot_samples/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(15),
    params:
        title=lambda wildcards: PLAN.dataset_label(wildcards.dataset),
        ink=lambda wildcards: STUDY.datasets[wildcards.dataset].is_ink,
        style=STYLE,
        seed=STUDY.seed,
        code=code_of("plot_samples"),
    message:
        "Drawing sample images of {wildcards.dataset}"
    script:
        "../scripts/plot_samples.py"
