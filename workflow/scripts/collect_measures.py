"""Compute the measures of all states, and collect them with the accuracies as tidy rows."""

from pathlib import Path
from pkgutil import resolve_name

from collapseflow.measures.collapse import measure_states
from collapseflow.presentation.material import DescribedFeatures, DescribedRun
from collapseflow.presentation.rows import collect_measures, with_seeds
from collapseflow.running.jobs import job
from collapseflow.running.words import epoch_name

with job(snakemake):
    runs = [DescribedRun(**run) for run in snakemake.params.runs]
    untrained, features = (
        [DescribedFeatures(**one) for one in told]
        for told in (snakemake.params.untrained, snakemake.params.features)
    )
    folders = zip(
        runs, snakemake.params.epochs, snakemake.input.starts, snakemake.input.runs, strict=True
    )
    states_of_runs = [
        ({0: start, **{e: Path(folder) / f"{epoch_name(e)}.npz" for e in epochs}}, run.layers)
        for run, epochs, start, folder in folders
    ]
    states_of_untrained = [
        ({one.epoch: path}, [one.layer])
        for (one, _), path in zip(with_seeds(untrained), snakemake.input.untrained, strict=True)
    ]
    collect_measures(
        runs,
        [measure_states(paths, layers) for paths, layers in states_of_runs],
        untrained,
        [measure_states(paths, layers) for paths, layers in states_of_untrained],
        features,
        [
            (resolve_name(function), snakemake.input[analysis])
            for analysis, function in snakemake.params.rows.items()
        ],
        snakemake.params.datasets,
        snakemake.output.csv,
        snakemake.output.failures,
    )
