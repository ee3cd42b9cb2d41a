# Test accuracy of classifiers on stored features.


rule classify:
    input:
        features=folder_of,
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
        train=store_of("train"),
        test=store_of("test"),
        seed=STUDY.seed,
        progress=progress_folder("classify/{dataset}/{features}"),
        code=code_of("classify"),
    message:
        "Classifiers on the {wildcards.features} features of {wildcards.dataset}"
    script:
        "../scripts/classify.py"


rule tabulate_accuracy:
    input:
        cells=column_files(FILES.cells),
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
        dataset=lambda wildcards: wildcards.dataset,
        title=lambda wildcards: PLAN.dataset_label(wildcards.dataset),
        columns=lambda wildcards: PLAN.describe_columns(wildcards.dataset),
        classifiers=PLAN.classifier_labels(),
        neighbours={
            name: classifier.parameters
            for name, classifier in STUDY.classifiers.items()
            if classifier.estimator == "collapseflow.NearestNeighbors"
        },
        published_classifiers=PLAN.published_classifiers(),
        code=code_of("tabulate_accuracy"),
    message:
        "Tabulating the accuracies on {wildcards.dataset}"
    script:
        "../scripts/tabulate_accuracy.py"


rule tabulate_comparison:
    input:
        cells=column_files(FILES.cells),
    output:
        csv="<results>/tables/comparison_{dataset}.csv",
        md=report(
            "<results>/tables/comparison_{dataset}.md",
            caption="../report/comparison.rst",
            category="Classification",
            labels={"table": "differences", "data set": "{dataset}"},
        ),
        tex="<results>/tables/comparison_{dataset}.tex",
    log:
        "<results>/logs/tabulate_comparison/{dataset}.log",
    benchmark:
        "<results>/benchmarks/tabulate_comparison/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        dataset=lambda wildcards: wildcards.dataset,
        title=lambda wildcards: PLAN.dataset_label(wildcards.dataset),
        columns=lambda wildcards: PLAN.describe_columns(wildcards.dataset),
        classifiers=PLAN.classifier_labels(),
        code=code_of("tabulate_comparison"),
    message:
        "Comparing the accuracies on {wildcards.dataset}"
    script:
        "../scripts/tabulate_comparison.py"


rule plot_confusion:
    input:
        cells=column_files(FILES.cells),
        dataset="<results>/data/{dataset}.h5",
    output:
        pdf="<results>/figures/confusion_{dataset}.pdf",
        png=report(
            "<results>/figures/confusion_{dataset}.png",
            caption="../report/confusion.rst",
            category="Classification",
            labels={"figure": "confusion", "data set": "{dataset}"},
        ),
        csv="<results>/tables/confusion_{dataset}.csv",
    log:
        "<results>/logs/plot_confusion/{dataset}.log",
    benchmark:
        "<results>/benchmarks/plot_confusion/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        dataset=lambda wildcards: wildcards.dataset,
        title=lambda wildcards: PLAN.dataset_label(wildcards.dataset),
        columns=lambda wildcards: PLAN.describe_columns(wildcards.dataset),
        classifier=PLAN.confusion_classifier(),
        label=PLAN.classifier_labels()[PLAN.confusion_classifier()],
        style=STYLE,
        code=code_of("plot_confusion"),
    message:
        "Drawing what is taken for what on {wildcards.dataset}"
    script:
        "../scripts/plot_confusion.py"
