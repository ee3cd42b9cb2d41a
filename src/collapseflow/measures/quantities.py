"""The table of quantities: what each number of a study is, and how it is written and drawn.

Tables, figures and captions take labels, units, axes and definitions from here; nothing else knows
the names of quantities apart. A measure more is a function in
:mod:`collapseflow.measures.collapse` and an entry of the same name here: its rows are in
measures.csv, its means over seeds are of the right kind, and where ``panels`` names a figure, that
figure has a panel of it.

Notation as in :mod:`collapseflow.measures.collapse`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from collapseflow.running.errors import UserError

#: The source of a quantity that no paper has.
OURS = "collapseflow"
#: How many images the smallest class has.
FEWEST_IMAGES = "fewest_images"
#: The accuracy of the nearest class mean of all training images, beside those of few images.
WITH_ALL_IMAGES = "accuracy_few_shot_all"


@dataclass(frozen=True)
class Quantity:
    """What one number is.

    Attributes
    ----------
    name
        As in the column ``quantity`` of measures.csv; of a family what all its names begin with.
    kind
        What it is computed from: ``statistics`` (the function of its name in
        :mod:`collapseflow.measures.collapse`), ``spectrum``, ``classification``, ``few_shot``; or
        in which other table it stands: ``training``, ``transfer``, ``variance``, ``flaws``.
    label, title
        In words: in a legend or a column, and above a panel. Of an accuracy the label says what
        classifies.
    axis
        At an axis, as mathtext.
    meaning
        The definition, in one line of plain English.
    source
        The paper and where it is there, or :data:`OURS`.
    unit
        In which it is written: ``%`` of a share of images that are right, ``points`` of a
        difference of such shares, nothing for others. Tables of numbers have shares of 1.
    logarithmic
        Whether its axis is logarithmic, and with it the means over seeds geometric.
    complement
        Whether figures draw what is missing to 1, in percent.
    ideal
        Its value at perfect collapse; None where there is none, or where it depends on the number
        of classes or the scale of the features.
    better
        ``smaller`` or ``larger``; nothing where neither is.
    panels
        The figures that have a panel of it: ``epochs``, ``layers``, ``runs`` (figure and tables of
        all runs), ``transfer``, ``training``, ``held_out`` (of ``training``, where images are held
        out). Panels are in the order of the table.
    family, parameter
        Of a member of a family: its name, and the classifier or the number of images a class.
    """

    name: str
    kind: str
    label: str
    title: str
    axis: str
    meaning: str
    source: str
    unit: str = ""
    logarithmic: bool = False
    complement: bool = False
    ideal: float | None = None
    better: str = ""
    panels: tuple[str, ...] = ()
    family: str = ""
    parameter: str | int | None = None

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a share of images that are right."""
        return self.unit == "%"

    @property
    def label_with_unit(self) -> str:
        """The label, with the unit where there is one."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def on_axis(self, values: Any) -> Any:
        """Values as figures draw them."""
        if self.complement:
            return 100 * (1 - values)
        return 100 * values if self.unit else values

    def member(self, parameter: str | int) -> "Quantity":
        """The member of a family for a classifier, or a number of images a class."""
        name = f"{self.name}{parameter}"
        words = {key: getattr(self, key).format(parameter) for key in ("label", "title", "meaning")}
        return replace(self, name=name, family=self.name, parameter=parameter, **words)


def _nc2(
    name: str,
    words: str,
    axis: str,
    meaning: str,
    source: str,
    title: str = "",
    panels: tuple[str, ...] = (),
) -> Quantity:
    """A part of NC2, zero for a simplex."""
    label, title = f"NC2, {words}", f"NC2, {title or words}"
    return Quantity(
        name,
        "statistics",
        label,
        title,
        axis,
        meaning,
        source,
        ideal=0,
        better="smaller",
        panels=panels,
    )


def _accuracy(name: str, kind: str, label: str, title: str, meaning: str, **more: Any) -> Quantity:
    """A share of images that are right."""
    given = {"axis": "%", "source": OURS, "unit": "%", "ideal": 1, "better": "larger", **more}
    return Quantity(name=name, kind=kind, label=label, title=title, meaning=meaning, **given)


_PAPYAN = "Papyan, Han and Donoho 2020 (PNAS 117)"
_LIU = "Liu et al. 2023 (arXiv:2303.06484)"
_ZHU = "Zhu et al. 2021 (arXiv:2105.02375)"
_LUTHRA = "Luthra, Salunkhe and Galanti 2026 (arXiv:2603.03530)"
_ONSET = "arXiv:2604.00230"
_NC1 = {"kind": "statistics", "logarithmic": True, "ideal": 0, "better": "smaller"}
_NORM = {"kind": "statistics", "source": _ONSET, "logarithmic": True}
_HELD_OUT = {"kind": "training", "panels": ("held_out",)}
_TRAINING = {"kind": "training", "source": OURS, "panels": ("training",)}

#: Families: the name of a member is that of the family and a parameter.
CLASSIFIER = _accuracy(
    "accuracy_",
    "classification",
    "{}",
    "Accuracy of {}",
    "share of the test images whose class the classifier {}, fitted on the training images, says",
)
BALANCED = _accuracy(
    "balanced_accuracy_",
    "classification",
    "{}, balanced",
    "Balanced accuracy of {}",
    "mean over the classes of the share of their images that the classifier {} is right on",
    source="interval: Zou and Donner 2008 (Statistics in Medicine 27)",
)
FEW_SHOT = _accuracy(
    "accuracy_few_shot_",
    "few_shot",
    "{} images a class",
    "Nearest class mean of {} images a class",
    "share of the other test images that are nearest to the mean of {} test images of their class, "
    "averaged over the classes and over draws",
)
BOUND = Quantity(
    "few_shot_bound_",
    "few_shot",
    "bound, {} images a class",
    "Bound on the errors from {} images a class",
    "bound on the errors",
    "bound on the share of errors of the nearest of means of {} images a class, from the moments "
    "of the test images",
    _LUTHRA,
    ideal=0,
    better="smaller",
)
#: The longest names first: a name is of the first family that it begins with.
FAMILIES = (FEW_SHOT, BALANCED, BOUND, CLASSIFIER)

QUANTITIES: dict[str, Quantity] = {
    entry.name: entry
    for entry in (
        Quantity(
            name="nc1",
            label="NC1",
            title="NC1, within-class covariance",
            axis=r"$\mathrm{tr}(\Sigma_W \Sigma_B^+)\,/\,C$",
            meaning="variance within the classes over the variance between their means, along the "
            "directions in which the means differ; divided by the number of classes",
            source=f"{_PAPYAN}, figure 6; report A, equation 1",
            panels=("epochs", "runs", "transfer"),
            **_NC1,
        ),
        Quantity(
            name="nc1_balanced",
            label="NC1, balanced",
            title="NC1, each class with the same weight",
            axis=r"$\mathrm{tr}(\Sigma_W \Sigma_B^+)\,/\,C$, balanced",
            meaning="NC1 with the same weight for each class, however many images it has",
            source="the between-class part as in the notebook of Papyan, Han and Donoho",
            **_NC1,
        ),
        Quantity(
            name="nc1_report_a",
            label="NC1, cutoff of report A",
            title="NC1, eigenvalues up to 0.00001 cut off",
            axis=r"$\mathrm{tr}(\Sigma_W \Sigma_B^+)\,/\,C$, cut off",
            meaning="NC1 without the directions in which the variance of the class means is "
            "0.00001 or less, whatever the scale of the features",
            source="report A",
            **_NC1,
        ),
        Quantity(
            name="nc1_quotient",
            label="NC1, quotient",
            title="NC1, quotient of traces",
            axis=r"$\mathrm{tr}\,\Sigma_W / \mathrm{tr}\,\Sigma_B$",
            meaning="total variance within the classes over total variance between the class means",
            source="Tirer, Huang and Niles-Weed 2023 (arXiv:2210.16658)",
            **_NC1,
        ),
        Quantity(
            name="log_fuzziness",
            kind="statistics",
            label="log D",
            title="Separation fuzziness",
            axis=r"$\log D$",
            meaning="natural logarithm of the separation fuzziness D; D of classes of equal size "
            "is NC1 times the number of classes",
            source="He and Su 2023 (arXiv:2210.17020)",
            ideal=-math.inf,
            better="smaller",
            panels=("layers",),
        ),
        Quantity(
            name="cdnv",
            label="CDNV",
            title="Class-distance normalised variance",
            axis="CDNV",
            meaning="mean of the variances of two classes over the squared distance of their "
            "means, averaged over the pairs of classes",
            source="Galanti, György and Hutter 2022 (arXiv:2112.15121), definition 1",
            panels=("epochs", "layers", "transfer"),
            **_NC1,
        ),
        Quantity(
            name="directional_cdnv",
            label="directional CDNV",
            title="Directional CDNV",
            axis="directional CDNV",
            meaning="variance of a class along the line to another class mean over the squared "
            "distance of the two means, averaged over the ordered pairs",
            source=_LUTHRA,
            panels=("epochs",),
            **_NC1,
        ),
        _nc2(
            "nc2_equinorm",
            "equal norms",
            r"$\mathrm{s.d.}\,/\,\mathrm{mean}\ \Vert\mu_c-\mu_M\Vert$",
            "standard deviation over mean of the lengths of the centred class means",
            f"{_PAPYAN}, figure 2; report A, equation 2",
            panels=("epochs", "runs"),
        ),
        _nc2(
            "nc2_equiangularity",
            "equal angles",
            r"$\mathrm{s.d.}\ \cos$",
            "standard deviation of the cosines between the centred class means",
            f"{_PAPYAN}, figure 3; report A, equation 3",
            panels=("epochs", "layers", "runs"),
        ),
        _nc2(
            "nc2_maximal_angle",
            "maximal angle",
            r"mean $|\cos + 1/(C-1)|$",
            "mean distance of the cosines between the centred class means from those of a simplex",
            f"{_PAPYAN}, figure 4; report A, equation 4",
            panels=("epochs", "runs"),
        ),
        _nc2(
            "nc2_equinorm_report_a",
            "equal norms, report A",
            r"$\mathrm{s.d.}\,/\,\mathrm{mean}\ \Vert\mu_c-\mu_G\Vert$",
            "standard deviation over mean of the lengths of the class means around the mean of "
            "all images",
            "report A, equation 2",
            title="equal norms around the mean of all images",
        ),
        _nc2(
            "nc2_equiangularity_report_a",
            "equal angles, report A",
            r"$\mathrm{s.d.}\ \cos$, around $\mu_G$",
            "standard deviation of the cosines between the class means around the mean of all "
            "images",
            "report A, equation 3",
            title="equal angles around the mean of all images",
        ),
        _nc2(
            "nc2_maximal_angle_report_a",
            "maximal angle, report A",
            r"mean $|\cos + 1/(C-1)|$, around $\mu_G$",
            "mean distance of the cosines between the class means, around the mean of all "
            "images, from those of a simplex",
            "report A, equation 4",
            title="maximal angle around the mean of all images",
        ),
        _nc2(
            "etf_distance",
            "distance to the simplex",
            "distance to the simplex",
            "distance of the scaled products of the centred class means from those of a simplex",
            f"Kothapalli 2023 (arXiv:2206.04041), after {_ZHU}, equation 8",
            panels=("epochs",),
        ),
        Quantity(
            name="hyperspherical_uniformity",
            kind="statistics",
            label="hyperspherical uniformity",
            title="Hyperspherical uniformity",
            axis=r"mean $\log(1/\Vert\hat m_i-\hat m_j\Vert)$",
            meaning="mean logarithm of the inverse distances between the directions of the centred "
            "class means: smallest where they are spread most evenly",
            source=_LIU,
            better="smaller",
        ),
        _nc2(
            "nc2_equinorm_head",
            "equal norms, W",
            r"$\mathrm{s.d.}\,/\,\mathrm{mean}\ \Vert w_c\Vert$",
            "standard deviation over mean of the lengths of the rows of the last layer's weight",
            f"{_PAPYAN}, figure 2",
            title="equal norms of the rows of W",
        ),
        _nc2(
            "nc2_equiangularity_head",
            "equal angles, W",
            r"$\mathrm{s.d.}\ \cos$, W",
            "standard deviation of the cosines between the rows of the last layer's weight",
            f"{_PAPYAN}, figure 3",
            title="equal angles of the rows of W",
        ),
        _nc2(
            "nc2_maximal_angle_head",
            "maximal angle, W",
            r"mean $|\cos + 1/(C-1)|$, W",
            "mean distance of the cosines between the rows of the last layer's weight from "
            "those of a simplex",
            f"{_PAPYAN}, figure 4",
            title="maximal angle of the rows of W",
        ),
        _nc2(
            "etf_distance_head",
            "distance to the simplex, W",
            "distance to the simplex, W",
            "distance of the scaled products of the rows of the last layer's weight from those "
            "of a simplex",
            f"{_ZHU}, equation 8",
            title="distance of the rows of W to the simplex",
        ),
        Quantity(
            name="hyperspherical_uniformity_head",
            kind="statistics",
            label="hyperspherical uniformity, W",
            title="Hyperspherical uniformity of the rows of W",
            axis=r"mean $\log(1/\Vert\hat w_i-\hat w_j\Vert)$",
            meaning="mean logarithm of the inverse distances between the directions of the rows of "
            "the last layer's weight",
            source=_LIU,
            better="smaller",
        ),
        Quantity(
            name="etf_distance_duality",
            kind="statistics",
            label="NC3, distance to the simplex",
            title="NC3, products of W and means",
            axis="distance to the simplex, W and means",
            meaning="distance of the scaled products of the last layer's rows and the centred "
            "class means from those of a simplex",
            source=f"{_ZHU}, equation 9",
            ideal=0,
            better="smaller",
        ),
        Quantity(
            name="nc3",
            kind="statistics",
            label="NC3",
            title="NC3, self-duality",
            axis=r"$\Vert W/\Vert W\Vert - M/\Vert M\Vert\,\Vert_F^2$",
            meaning="squared distance of the last layer's weight and the centred class means, each "
            "scaled to length 1",
            source=f"{_PAPYAN}, figure 5, squared as in the authors' notebook",
            logarithmic=True,
            ideal=0,
            better="smaller",
            panels=("epochs",),
        ),
        Quantity(
            name="nc3_cosine",
            kind="statistics",
            label="NC3, cosine",
            title="NC3, cosine of W and means",
            axis=r"mean $\cos(w_c, \mu_c-\mu_M)$",
            meaning="mean cosine of a class's row of the last layer's weight and its centred mean",
            source=OURS,
            ideal=1,
            better="larger",
        ),
        Quantity(
            name="nc4",
            kind="statistics",
            label="NC4",
            title="NC4, disagreement",
            axis="1 − NC4, %",
            meaning="share of the images for which the network says the class of the nearest "
            "training mean",
            source=f"{_PAPYAN}, figure 7, which has what is missing to 1",
            complement=True,
            ideal=1,
            better="larger",
            panels=("epochs",),
        ),
        _accuracy(
            "accuracy_nearest_mean",
            "statistics",
            "nearest class mean",
            "Accuracy of the nearest class mean",
            "share of the images that are nearest to the training mean of their own class",
            panels=("layers",),
        ),
        Quantity(
            name="norm_features",
            label="norm of features",
            title="Norm of the features",
            axis=r"mean $\Vert h\Vert$",
            meaning="mean length of the features",
            **_NORM,
        ),
        Quantity(
            name="norm_means",
            label="norm of means",
            title="Norm of the centred class means",
            axis=r"mean $\Vert\mu_c-\mu_M\Vert$",
            meaning="mean length of the centred class means",
            **_NORM,
        ),
        Quantity(
            name="norm_global_mean",
            label="norm of the global mean",
            title="Norm of the mean of all",
            axis=r"$\Vert\mu_G\Vert$",
            meaning="length of the mean of all features",
            **_NORM,
        ),
        Quantity(
            name="norm_head",
            label="norm of W",
            title="Norm of the last layer's weight",
            axis=r"$\Vert W\Vert_F$",
            meaning="length of the last layer's weight",
            **_NORM,
        ),
        _accuracy(
            "accuracy",
            "statistics",
            "network",
            "Accuracy of the network",
            "share of the images whose class the network says",
        ),
        Quantity(
            name=FEWEST_IMAGES,
            kind="statistics",
            label="fewest images",
            title="Images of the smallest class",
            axis="images",
            meaning="number of images of the class that has the fewest",
            source=OURS,
        ),
        Quantity(
            name="h_score",
            kind="spectrum",
            label="H-score",
            title="H-score",
            axis="H-score",
            meaning="variance between the classes over all variance, summed over the directions of "
            "the features: from 0 to the number of classes less 1",
            source="Bao et al. 2019",
            better="larger",
            panels=("transfer",),
        ),
        Quantity(
            name="logme",
            kind="spectrum",
            label="LogME",
            title="LogME",
            axis="LogME",
            meaning="logarithm of the evidence for a linear model of the classes, per image, "
            "averaged over the classes",
            source="You et al. 2021 (arXiv:2102.11005)",
            better="larger",
            panels=("transfer",),
        ),
        Quantity(
            name="effective_rank",
            kind="spectrum",
            label="effective rank",
            title="Effective rank",
            axis="effective rank",
            meaning="exponential of the entropy of the singular values of the centred features: "
            "how many directions they fill",
            source="Roy and Vetterli 2007",
            panels=("transfer",),
        ),
        Quantity(
            name="rankme",
            kind="spectrum",
            label="RankMe",
            title="RankMe",
            axis="RankMe",
            meaning="the effective rank of the features without centring",
            source="Garrido et al. 2023",
        ),
        Quantity(
            name="alpha_req",
            kind="spectrum",
            label="alpha-ReQ",
            title="alpha-ReQ",
            axis=r"$\alpha$",
            meaning="how fast the eigenvalues of the features' covariance fall: the exponent of a "
            "power law",
            source="Agrawal et al. 2022",
        ),
        Quantity(
            name="two_nn",
            kind="spectrum",
            label="TwoNN",
            title="Intrinsic dimension (TwoNN)",
            axis="dimension",
            meaning="intrinsic dimension, from the ratio of the distances to the two nearest other "
            "images",
            source="Facco et al. 2017",
        ),
        replace(CLASSIFIER.member("linear"), label="linear probe"),
        replace(CLASSIFIER.member("knn"), label="nearest neighbours"),
        _accuracy(
            WITH_ALL_IMAGES,
            "few_shot",
            "all training images",
            "Nearest class mean of all training images",
            "share of the test images that are nearest to the mean of all training images of their "
            "class, averaged over the classes",
        ),
        Quantity(
            name="loss",
            label="loss",
            title="training loss",
            axis="mean over the epoch",
            meaning="loss on the training images, mean over the epoch",
            logarithmic=True,
            better="smaller",
            **_TRAINING,
        ),
        Quantity(
            name="learning_rate",
            label="learning rate",
            title="learning rate",
            axis="of the last batch",
            meaning="learning rate of the last batch of the epoch",
            **_TRAINING,
        ),
        Quantity(
            name="gradient_norm",
            label="gradient norm",
            title="gradient norm",
            axis="mean over the epoch",
            meaning="length of the gradient, mean over the batches of the epoch",
            logarithmic=True,
            **_TRAINING,
        ),
        Quantity(
            name="images_per_second",
            label="speed",
            title="speed",
            axis="images per second",
            meaning="training images per second",
            better="larger",
            **_TRAINING,
        ),
        Quantity(
            name="validation_loss",
            label="validation loss",
            title="loss on held-out images",
            axis="after the epoch",
            meaning="loss on the training images that are held out, after the epoch",
            source=OURS,
            logarithmic=True,
            better="smaller",
            **_HELD_OUT,
        ),
        _accuracy(
            "validation_accuracy",
            label="validation accuracy",
            title="accuracy on held-out images",
            meaning="share of the training images that are held out, or of test images in training "
            "mode, whose class the network says",
            axis="after the epoch, %",
            **_HELD_OUT,
        ),
        _accuracy(
            "last_batch_accuracy",
            "training",
            "accuracy of the last batch",
            "accuracy of the last batch",
            "share of the images of an epoch's last batch whose class the network in training mode "
            "says",
            source="report A",
        ),
        Quantity(
            name="best_epoch",
            kind="training",
            label="best epoch",
            title="best epoch",
            axis="epoch",
            meaning="the epoch after which training stopped early, the best on held-out images",
            source=OURS,
        ),
        Quantity(
            name="seconds",
            kind="training",
            label="seconds",
            title="time of an epoch",
            axis="s",
            meaning="seconds that the epoch took",
            source=OURS,
            better="smaller",
        ),
        Quantity(
            name="gain_over_random",
            kind="transfer",
            label="gain over random",
            title="Gain over random weights",
            axis="points",
            meaning="accuracy of the linear probe less that on random weights of the same backbone",
            source=OURS,
            unit="points",
            better="larger",
        ),
        Quantity(
            name="intra_class",
            kind="variance",
            label="intra-class",
            title="intra-class variance",
            axis="trace of the class covariance",
            meaning="variance within a class, summed over the features",
            source="report B",
        ),
        Quantity(
            name="pooled_pair",
            kind="variance",
            label="pooled pair",
            title="variance of a pair of classes",
            axis="trace of the covariance of a pair of classes",
            meaning="variance of two classes taken together, summed over the features",
            source="report B",
        ),
        Quantity(
            name="mean_distance",
            kind="variance",
            label="squared distance of means",
            title="squared distance of class means",
            axis="squared distance",
            meaning="squared distance between the means of two classes",
            source=OURS,
        ),
        _accuracy(
            "accuracy_train",
            "flaws",
            "train accuracy",
            "Accuracy on the training images",
            "share of the training images whose class the network says",
        ),
        _accuracy(
            "accuracy_test",
            "flaws",
            "test accuracy",
            "Accuracy on the test images",
            "share of the test images whose class the network says",
        ),
    )
}


def quantity(name: str) -> Quantity:
    """What a quantity is, by its name; families are known here alone.

    Raises
    ------
    UserError
        If the table has no such name.
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    for family in FAMILIES:
        rest = name.removeprefix(family.name)
        counts = family.kind == "few_shot"
        if rest and rest != name and (rest.isdecimal() or not counts):
            return family.member(int(rest) if counts else rest)
    raise UserError(f"quantity {name!r}: is not in the table collapseflow/measures/quantities.py")


def panels_of(figure: str) -> list[str]:
    """The quantities that a figure has panels of, in the order of the table."""
    return [name for name, entry in QUANTITIES.items() if figure in entry.panels]
