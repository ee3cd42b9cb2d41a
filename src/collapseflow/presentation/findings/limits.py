"""What the results of a study say nothing of, and why."""

from collections import defaultdict

from collapseflow.presentation.findings.results import (
    CANNOT_BE_TOLD,
    Finding,
    Results,
    name,
    name_of,
)
from collapseflow.presentation.findings.seeds import ENOUGH_SEEDS
from collapseflow.presentation.findings.terminal import NOT_REACHED, course_of
from collapseflow.presentation.findings.words import named, spread
from collapseflow.presentation.rows import FEWEST_IMAGES, failures_in_words, few_images_in_words

LIMITS = "limits"
#: CDNV of noise is half the number of images of a class (docs/collapse.md), or by chance so much
#: less.
OF_NOISE = 0.9


def limits(results: Results) -> list[Finding]:
    """A sentence for each limit that the study has."""
    return [
        Finding(LIMITS, text, text, CANNOT_BE_TOLD)
        for limit in (
            few_seeds,
            few_epochs,
            test_images_seen,
            subsets,
            repeated_images,
            failed,
            few_images,
            like_noise,
        )
        if (text := limit(results))
    ]


def few_seeds(results: Results) -> str | None:
    """Fewer seeds than say how far seeds differ."""
    fewest = min(map(len, results.replicates()), default=ENOUGH_SEEDS)
    if fewest >= ENOUGH_SEEDS:
        return None
    seeds = "One seed" if fewest == 1 else f"{fewest} seeds"
    return f"{seeds}: how far other seeds would differ cannot be told."


def few_epochs(results: Results) -> str | None:
    """Runs that end before the terminal phase."""
    courses = [course for run in results.runs if (course := course_of(results, run))]
    missed = [course.last for course in courses if course.what == NOT_REACHED]
    if not missed:
        return None
    runs = f"{len(missed)} of {len(courses)} runs end"
    runs = "The runs end" if len(missed) == len(courses) else runs
    return (
        f"{runs} at epoch {spread(missed, str)}, before the terminal phase: what NC1 does there "
        "cannot be told."
    )


def test_images_seen(results: Results) -> str | None:
    """Networks that have taken in test images."""
    if not results.flawed:
        return None
    labels = named(run.label for run in results.flawed)
    return (
        f"Batch normalisation of {labels} has taken in test images: how right it is on others "
        "cannot be told."
    )


def subsets(results: Results) -> str | None:
    """Data sets of which a part is used."""
    if not results.subsets:
        return None
    labels = named(results.datasets[dataset] for dataset in results.subsets)
    return f"Of {labels} only a part of the images is used."


def repeated_images(results: Results) -> str | None:
    """Test images that are training images."""
    if not results.repeated:
        return None
    words = [
        f"{n:,} of the {n_test:,} test images of {results.datasets[dataset]}"
        for dataset, (n, n_test) in results.repeated.items()
    ]
    return (
        f"{named(words)} are training images, too: what is measured on them is not how right a "
        "network is on new images."
    )


def failed(results: Results) -> str | None:
    """What failed."""
    lines = failures_in_words(results.failures)
    more = f" (and {len(lines) - 1} more, see failures.csv)" if len(lines) > 1 else ""
    return f"What failed is left out: {lines[0]}{more}." if lines else None


def few_images(results: Results) -> str | None:
    """Classes of few images."""
    words = few_images_in_words(results.rows, results.datasets)
    return f"{'; '.join(words)}." if words else None


def like_noise(results: Results) -> str | None:
    """Feature sets of which CDNV of the test images is what noise has."""
    rows = results.rows
    rows = rows[rows["quantity"].isin(["cdnv", FEWEST_IMAGES]) & (rows["split"] == "test")]
    values: dict[tuple, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows.to_dict("records"):
        of_one = row["dataset"], *name(row, results.swept, row["epoch"], row["layer"])
        values[of_one][row["quantity"]].append(row["value"])
    noisy = []
    for one in results.columns:
        found = values[one.dataset, *name_of(one, results.swept)]
        floors = [OF_NOISE * n / 2 for n in found[FEWEST_IMAGES]]
        if floors and max(found["cdnv"], default=0) >= min(floors):
            noisy.append(f"{one.label} on {results.datasets[one.dataset]}")
    if not noisy:
        return None
    return (
        "CDNV of the test images is no less than noise has (half the images of a class): NC1 and "
        f"NC2 say nothing of {named(noisy)}."
    )
