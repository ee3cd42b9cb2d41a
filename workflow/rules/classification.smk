# Test accuracy of classifiers on stored features.


rule classify:
    input:
        features=by_name(JOBS.features),
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
        train=by_name(JOBS.train_store),
        test=by_name(JOBS.test_store),
        seed=STUDY.seed,
        progress=progress_folder("classify/{dataset}/{features}"),
        code=code_of("classify"),
    message:
        "Classifiers on the {wildcards.features} features of {wildcards.dataset}"
    script:
        "../scripts/classify.py"
