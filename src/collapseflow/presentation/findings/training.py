"""What training changed, and how training and test images differ after it."""

from collections.abc import Sequence
from typing import NamedTuple

from collapseflow.measures.statistics import MATCHED
from collapseflow.presentation.findings.claims import Claim, in_every_seed, pooled
from collapseflow.presentation.findings.results import (
    CANNOT_BE_TOLD,
    FOUND,
    NC1_DIFFERS,
    NOT_FOUND,
    Finding,
    Results,
    Value,
    in_each,
)
from collapseflow.presentation.findings.words import (
    factor,
    number,
    percent,
    percentage,
    smaller,
    spread,
)
from collapseflow.presentation.material import DescribedRun
from collapseflow.presentation.rows import ENOUGH_IMAGES, FEWEST_IMAGES, IDENTITY


def _sampling_factor(results: Results, dataset: str) -> float:
    """By which factor NC1 of two samples of images differs: the largest between test images and as
    many training images, of features that no training on the data set has touched, and at least
    :data:`NC1_DIFFERS`."""
    rows = results.rows
    rows = rows[
        (rows["dataset"] == dataset)
        & (rows["quantity"] == "nc1")
        & rows["split"].isin(["test", MATCHED])
        & (rows["epoch"].fillna(0) == 0)
        & (rows["start"] != f"pretrain-{dataset}")
    ]
    of_one = [*IDENTITY, *results.swept, "layer", "split"]
    values = rows.groupby(of_one, dropna=False)["value"].first().unstack("split")
    values = values.reindex(columns=["test", MATCHED])
    ratios = (values["test"] / values[MATCHED]).dropna()
    return max([NC1_DIFFERS, *ratios, *(1 / ratios)])


def _direction(ratio: float, threshold: float) -> int:
    """1 for a ratio above the threshold, -1 for one as far below 1, else 0."""
    return (ratio > threshold) - (ratio < 1 / threshold)


# --- before and after -------------------------------------------------------------------------


class Change(NamedTuple):
    """Test images of one run before and after training: how many the nearest class mean has right,
    and NC1."""

    before: Value
    after: Value
    nc1_before: float
    nc1_after: float

    @property
    def fall(self) -> float:
        return self.nc1_before / self.nc1_after


#: How the accuracy of the nearest class mean and NC1 have changed.
ACCURACIES = {
    1: "more test images are nearest to the mean of their class",
    -1: "fewer test images are nearest to the mean of their class",
    0: "whether more or fewer test images are nearest to the mean of their class cannot be told",
}
COLLAPSES = {
    1: "NC1 of the test images is smaller",
    -1: "NC1 of the test images is larger",
    0: "whether NC1 of the test images has changed cannot be told",
}


def effect_of_training(results: Results) -> list[Finding]:
    """What training has changed: how many test images the nearest class mean has right, and NC1.

    The nearest mean is there before training too, whatever head a network starts with. Its accuracy
    has changed where the two 95 % intervals do not overlap; NC1 where it has changed by a larger
    factor than that between two samples of images without training. Both in every seed.
    """
    claims = []
    for replicates in results.replicates():
        threshold = _sampling_factor(results, replicates[0].dataset)
        numbers = []
        for run in replicates:
            before, after, nc1_before, nc1_after = (
                results.values.get(run, epoch, "test", quantity)
                for quantity in ("accuracy_nearest_mean", "nc1")
                for epoch in (0, run.last)
            )
            if before and after and nc1_before and nc1_after and nc1_after.value > 0:
                change = Change(before, after, nc1_before.value, nc1_after.value)
                numbers.append((run, change))
        if numbers:
            accuracy = in_every_seed(
                ((c.after.low > c.before.high) - (c.after.high < c.before.low) for _, c in numbers),
                otherwise=0,
            )
            collapse = in_every_seed(
                (_direction(change.fall, threshold) for _, change in numbers), otherwise=0
            )
            claims.append(Claim((accuracy, collapse), numbers))
    findings = []
    for (accuracy, collapse), datasets, words, changes in pooled(claims, results, _changes):
        text = f"After training {ACCURACIES[accuracy]}, and {COLLAPSES[collapse]}: {words}."
        before, after = (
            f"{spread([side.value for side in sides], percentage, '–')} %"
            for sides in zip(*((c.before, c.after) for c in changes), strict=True)
        )
        falls = smaller([change.fall for change in changes], "–")
        short = f"nearest mean {before} → {after} right, NC1 {falls}"
        short = f"Training on {results.in_short(datasets)}: {short}"
        verdict = FOUND if accuracy or collapse else CANNOT_BE_TOLD
        shown_in = ("plot_probes", ""), *in_each("plot_collapse", datasets)
        findings.append(Finding("training", text, short, verdict, shown_in))
    return findings


def _changes(changes: Sequence[Change]) -> str:
    """The changes of some runs in words."""
    if len(changes) == 1:
        shares = f"{percent(changes[0].before)} before and {percent(changes[0].after)} after"
    else:
        sides = [*zip(*((change.before, change.after) for change in changes), strict=True)]
        before, after = (spread([found.value for found in side], percentage) for side in sides)
        widest = max((found.high - found.low) / 2 for side in sides for found in side)
        shares = f"{before} % before and {after} % after (95 % intervals up to ± "
        shares += f"{100 * widest:.1f} points)"
    before, after = (
        spread([getattr(change, side) for change in changes], number)
        for side in ("nc1_before", "nc1_after")
    )
    falls = smaller([change.fall for change in changes])
    return f"{shares}, NC1 {before} before and {after} after ({falls})"


# --- training and test images -----------------------------------------------------------------

SHORTLY = {NOT_FOUND: "no difference", CANNOT_BE_TOLD: CANNOT_BE_TOLD}
_WHETHER = "Whether NC1 after training is another on test images than on as many training images"
#: Verdict and words of NC1 after training on test images, against as many training images.
AGAINST_TRAIN = {
    1: (FOUND, "After training NC1 is larger on test images than on as many training images"),
    -1: (FOUND, "After training NC1 is smaller on test images than on as many training images"),
    0: (
        NOT_FOUND,
        "After training NC1 differs between test images and as many training images by no more "
        "than the choice of images makes it differ",
    ),
    "mixed": (CANNOT_BE_TOLD, f"{_WHETHER} differs between seeds"),
    "few images": (
        CANNOT_BE_TOLD,
        f"{_WHETHER} cannot be told from fewer than {ENOUGH_IMAGES} images of a class",
    ),
    "fewer": (
        CANNOT_BE_TOLD,
        f"{_WHETHER} cannot be told, for there are not as many training images",
    ),
}


def train_and_test(results: Results) -> list[Finding]:
    """After training: NC1 of test images beside that of as many training images of each class.

    They differ where the factor between them is larger than that between two samples of images
    without training, in every seed.
    """
    claims = []
    for replicates in results.replicates():
        threshold = _sampling_factor(results, replicates[0].dataset)
        states, numbers = [], []
        for run in replicates:
            ratio = results.values.nc1_ratio(run, (run.last, "test"), (run.last, MATCHED))
            if ratio is not None:
                states.append(_number_of_images(results, run) or _direction(ratio, threshold))
                numbers.append((run, (ratio, threshold)))
        if numbers:
            claims.append(Claim(in_every_seed(states, "mixed"), numbers))
    findings = []
    for what, datasets, words, ratios in pooled(claims, results, _ratios):
        verdict, text = AGAINST_TRAIN[what]
        falls = smaller([1 / ratio for ratio, _ in ratios], "–")
        short = f"{results.in_short(datasets)}: NC1 {falls} on test than on as many training images"
        short += "" if verdict == FOUND else f" ({SHORTLY[verdict]})"
        shown_in = in_each("plot_collapse", datasets)
        findings.append(Finding("train and test", f"{text}: {words}.", short, verdict, shown_in))
    return findings


def _number_of_images(results: Results, run: DescribedRun) -> str | None:
    """Why there are too few images to compare the splits, if there are."""
    values = results.values
    test, train = (values.get(run, run.last, split, "nc1").n for split in ("test", MATCHED))
    fewest = values.get(run, run.last, "test", FEWEST_IMAGES)
    if train < test:
        return "fewer"
    return "few images" if fewest and fewest.value < ENOUGH_IMAGES else None


def _ratios(ratios: Sequence[tuple[float, float]]) -> str:
    """Ratios of some runs on one data set in words."""
    falls = smaller([1 / ratio for ratio, _ in ratios])
    return f"{falls} (factors up to {factor(ratios[0][1])} count as the choice of images)"
