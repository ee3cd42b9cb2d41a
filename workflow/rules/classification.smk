# Test accuracy of classifiers on stored features.


rule classify:
    input:
        train="<results>/features/{dataset}/{features}/train.h5",
        test="<results>/features/{dataset}/{features}/test.h5",
    output:
        cells="<results>/classification/{dataset}/{features}.json",
    log:
        "<results>/logs/classify/{dataset}/{features}.log",
    benchmark:
        "<results>/benchmarks/classify/{dataset}/{features}.tsv"
    conda:
        "../envs/collapseflow.yaml"
    threads: STUDY.threads
    resources:
        mem_mb=megabytes(12000),
        runtime=minutes(720),
    params:
        classifiers={
            name: classifier.model_dump(exclude={"label"})
            for name, classifier in STUDY.classifiers.items()
        },
        seed=STUDY.seed,
        progress=progress_folder("classify/{dataset}/{features}"),
        code=code_of("classify"),
    message:
        "Classifiers on the {wildcards.features} features of {wildcards.dataset}"
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
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        title=lambda wildcards: STUDY.dataset_label(wildcards.dataset),
        features=labels_of(COMPARED),
        classifiers={k: c.label or k for k, c in STUDY.classifiers.items()},
        published=lambda wildcards: published_names(published.REPORT_A, wildcards.dataset, COMPARED),
        published_classifiers=published_classifiers(),
        code=code_of("tabulate_accuracy"),
    message:
        "Tabulating the accuracies on {wildcards.dataset}"
    script:
        "../scripts/tabulate_accuracy.py"
