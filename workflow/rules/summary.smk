# What the jobs cost, and the one page with everything.


rule tabulate_runtime:
    input:
        benchmarks=lazily(files_of_jobs, "benchmarks", "tsv"),
    output:
        csv="<results>/tables/runtime.csv",
        md=report(
            "<results>/tables/runtime.md",
            caption="../report/runtime.rst",
            category="Run time",
            labels={"table": "wall time and memory"},
        ),
        tex="<results>/tables/runtime.tex",
    log:
        "<results>/logs/tabulate_runtime.log",
    benchmark:
        "<results>/benchmarks/tabulate_runtime.tsv"
    localrule: True
    conda:
        "../envs/collapseflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(15),
    params:
        jobs=lazily(PLAN.computing_jobs),
        logs=lazily(files_of_jobs, "logs", "log"),
        published=lazily(PLAN.published_minutes),
        code=code_of("tabulate_runtime"),
    message:
        "Tabulating wall time and memory of the jobs that compute"
    script:
        "../scripts/tabulate_runtime.py"


rule summarize:
    input:
        contents=lazily(PLAN.everything),
        datasets=[FILES.dataset(d) for d in STUDY.datasets],
        failures="<results>/failures.csv",
        results=lazily(PLAN.small_results),
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
        study=lazily(PLAN.describe_study),
        labels=[PLAN.dataset_label(d) for d in STUDY.datasets],
        sections=lazily(PLAN.sections),
        code=code_of("summarize"),
    message:
        "Writing the summary of the study {params.study[study]}"
    script:
        "../scripts/summarize.py"
