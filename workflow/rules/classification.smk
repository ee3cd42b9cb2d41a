# Test accuracy of classifiers on stored features.


rule classify:
    input:
        train="<results>/features/{dataset}/{features}/train.h5",
        test="<results>/features/{dataset}/{features}/test.h5",
    output:
        cell="<results>/classification/{dataset}/{features}/{classifier}.json",
    log:
        "<results>/logs/classify/{dataset}/{features}-{classifier}.log",
    benchmark:
        "<results>/benchmarks/classify/{dataset}/{features}-{classifier}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=12000,
        runtime=720,
    params:
        classifier=lambda wildcards: STUDY.classifiers[wildcards.classifier].model_dump(
            exclude={"label"}
        ),
        seed=STUDY.seed,
        code=code_of("classify"),
    message:
        "{wildcards.classifier} on the {wildcards.features} features of {wildcards.dataset}"
    script:
        "../scripts/classify.py"


rule tabulate_accuracy:
    input:
        cells=accuracy_cells,
    output:
        csv="<results>/tables/accuracy_{dataset}.csv",
        md=report(
            "<results>/tables/accuracy_{dataset}.md",
            caption="../report/accuracy.rst",
            category="Classification",
            labels={"table": "test accuracy", "data set": "{dataset}"},
        ),
        tex="<results>/tables/accuracy_{dataset}.tex",
    log:
        "<results>/logs/tabulate_accuracy/{dataset}.log",
    benchmark:
        "<results>/benchmarks/tabulate_accuracy/{dataset}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        title=lambda wildcards: STUDY.dataset_label(wildcards.dataset),
        features=labels_of(COMPARED),
        classifiers={k: c.label or k for k, c in STUDY.classifiers.items()},
        published=lambda wildcards: published_names(wildcards.dataset, COMPARED),
        code=code_of("tabulate_accuracy"),
    message:
        "Tabulating the accuracies on {wildcards.dataset}"
    script:
        "../scripts/tabulate_accuracy.py"
