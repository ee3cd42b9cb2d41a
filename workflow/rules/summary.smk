# The one page with everything.


rule summarize:
    input:
        contents=lazily(everything, PLAN),
        datasets=[FILES.dataset(d) for d in STUDY.datasets],
        failures="<results>/failures.csv",
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
        sections=lazily(sections, PLAN),
        code=code_of("summarize"),
    message:
        "Writing the summary of the study {params.study[study]}"
    script:
        "../scripts/summarize.py"
