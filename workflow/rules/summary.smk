# What was found, in sentences, and the page with them and links to everything.

from collapseflow.study.products import Place, comparison_tables


rule find:
    input:
        measures="<results>/measures.csv",
        failures="<results>/failures.csv",
        comparisons=lambda wildcards: list(comparison_tables(PLAN).values()),
        audits=[FILES.audit(d) for d in STUDY.with_images],
    output:
        findings="<results>/findings.json",
    log:
        "<results>/logs/find.log",
    benchmark:
        "<results>/benchmarks/find.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        compared=lambda wildcards: list(comparison_tables(PLAN)),
        runs=asked(SHOWS["runs"]),
        columns=lambda wildcards: [
            one for d in STUDY.datasets for one in SHOWS["columns"](PLAN, Place(d))
        ],
        datasets=asked(SHOWS["datasets"]),
        audited=STUDY.with_images,
        classifier=asked(SHOWS["confused"]),
        classifier_label=asked(SHOWS["confused_label"]),
        subsets=[d for d, entry in STUDY.datasets.items() if entry.is_part],
        flawed=lambda wildcards: [
            STUDY.courses[run.recipe].training()["validation"] == "training_mode"
            for run in PLAN.runs
        ],
        contents=lazily(contents, PLAN),
        code=code_of("find"),
    message:
        "Writing what the study {STUDY.study} has found"
    script:
        "../scripts/find.py"


rule summarize:
    input:
        lazily(everything, PLAN),
        datasets=[FILES.dataset(d) for d in STUDY.datasets],
        failures="<results>/failures.csv",
        findings="<results>/findings.json",
        results=lazily(small_results, PLAN),
    output:
        summary=report(
            "<results>/summary.md",
            caption="../report/summary.rst",
            category="Summary",
            labels={"page": "summary"},
        ),
    log:
        "<results>/logs/summarize.log",
    benchmark:
        "<results>/benchmarks/summarize.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        study=lazily(PLAN.described.study),
        labels=[PLAN.labels.dataset(d) for d in STUDY.datasets],
        contents=lazily(contents, PLAN),
        code=code_of("summarize"),
    message:
        "Writing the summary of the study {params.study[study]}"
    script:
        "../scripts/summarize.py"
