# The one file that can be sent: results/<study>/report.html.


from collapseflow.study.products import geometry, geometry_statistics


rule write_page:
    input:
        lazily(everything, PLAN),
        lazily(geometry_statistics, PLAN),
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
        images=[FILES.dataset(d) for d in STUDY.datasets],
        tables=lambda wildcards: [path for path in everything(PLAN) if path.endswith(".csv")],
        findings="<results>/findings.json",
        classification=lambda wildcards: [
            FILES.result("classification", d, features.path)
            for d, features in PLAN.columns.sets_everywhere(PLAN.columns.compared)
        ],
        embeddings=lambda wildcards: [
            FILES.embedding(*name) for d in STUDY.datasets for name in PLAN.columns.embeddings(d)
        ],
        results=lazily(small_results, PLAN),
    output:
        html="<results>/report.html",
    log:
        "<results>/logs/write_page.log",
    benchmark:
        "<results>/benchmarks/write_page.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        contents=lazily(contents, PLAN),
        geometry=lazily(geometry, PLAN),
        study=lazily(PLAN.described.study),
        runs=asked(SHOWS["runs"]),
        columns=told_everywhere(PLAN.columns.compared),
        datasets=lazily(PLAN.labels.datasets),
        backbones=lazily(PLAN.labels.backbones),
        classifiers=lazily(PLAN.labels.classifiers),
        seed=STUDY.seed,
        command=command_line(),
        code=code_of("write_page"),
    message:
        "Writing the page of the study {params.study[study]}"
    script:
        "../scripts/write_page.py"
