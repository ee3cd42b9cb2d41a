"""Write what the study has found, in sentences."""

from collapseflow.presentation.findings import Results, as_records, find
from collapseflow.presentation.material import DescribedFeatures, DescribedRun
from collapseflow.presentation.rows import read_csv
from collapseflow.running.files import read_json, write_json
from collapseflow.running.jobs import job

with job(snakemake):
    told = snakemake.params
    runs = [DescribedRun(**run) for run in told.runs]
    results = Results(
        rows=read_csv(snakemake.input.measures),
        failures=read_csv(snakemake.input.failures),
        comparisons={
            dataset: read_csv(path)
            for dataset, path in zip(told.compared, snakemake.input.comparisons, strict=True)
        },
        runs=runs,
        columns=[DescribedFeatures(**one) for one in told.columns],
        datasets=told.datasets,
        classifier=told.classifier,
        classifier_label=told.classifier_label,
        subsets=told.subsets,
        repeated={
            dataset: (n, found["n"]["test"])
            for dataset, path in zip(told.audited, snakemake.input.audits, strict=True)
            for found in [read_json(path)]
            if (n := found["exact"]["across"]["images"])
        },
        flawed=[run for run, is_flawed in zip(runs, told.flawed, strict=True) if is_flawed],
    )
    write_json(snakemake.output.findings, as_records(find(results), told.contents))
