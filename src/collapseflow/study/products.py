"""The tables and figures of a study: one entry each.

All else follows from this list: the rules that draw (``workflow/rules/products.smk``), the targets
and why a study has none of one, the sections of the summary, categories, labels and captions of
Snakemake's report. A figure more is a function of one object
(:class:`collapseflow.presentation.material.Material`) in a file of its own, an entry here and a
test.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.running.errors import UserError
from collapseflow.study.ingredients import COMPUTED, READS, SHOWS
from collapseflow.study.paths import FeatureSet, State
from collapseflow.study.plan import Plan

#: What files a product is, by their suffixes; the text is the caption of a figure, and further
#: formats of its picture are those of the study's style.
FIGURE = ("pdf", "png", "txt")
TABLE = ("csv", "md", "tex", "json")
FOLDERS = {**dict.fromkeys((*FIGURE, "svg"), "figures"), **dict.fromkeys(TABLE, "tables")}
#: Those that the summary and Snakemake's report show.
SHOWN = {"png": "figure", "md": "table"}
#: By what there is one of: how its file is called, and its log below the name of its rule.
NAMES = {
    "study": ("{name}", ""),
    "dataset": ("{name}_{{dataset}}", "/{dataset}"),
    "run": ("{name}/{{dataset}}/{{run}}", "/{dataset}/{run}"),
}


#: What the study file may choose for figures (``style.only``): how their captions say it.
CHOSEN: dict[str, tuple[str, Callable[[str], str]]] = {
    "only_recipes": ("recipes", str),
    "only_splits": ("splits", {"train": "training images", "test": "test images"}.get),
    "only_measures": ("measures", lambda name: quantity(name).label),
}


@dataclass(frozen=True)
class Place:
    """Which one of a product: data set and run; empty where there is one a study, or a data set."""

    dataset: str = ""
    run: str = ""


# --- why a study has none ---------------------------------------------------------------------
#
# Functions of the plan and the data set (empty: of the whole study): the reason, or None.

NO_SECOND = "this study has one data set only, and this target is of the second"
NO_IMAGES = "this data set has vectors and no images"
NO_VECTORS = "this data set has images; vectors are of a data set with `source: features`"
NO_TRAINING = (
    "this study trains no network; it takes backbones, and where the key `runs` is given, a "
    "selection there"
)
NO_FEATURES = "this study compares no features there; it takes names under the key `features`"
ONE_FEATURE_SET = "this study has one feature set only there, and nothing to compare it with"
NO_VARIANCE = "this study has no comparison of variances; it takes the key `variance`"
NO_SWEEP = "no recipe of this study is run with several values of a list"
NO_MAP = "no recipe of this study is run with several values of two keys"
NO_LAYERS = "no trained backbone of this study is read at several layers"
NO_ANALYSIS = "this study does not ask for it; it takes {} under the key `analyses`"
NO_FLAWS = (
    "this study has nothing with and without a flaw of the reports; it takes the recipes report_a "
    "and report_a_faithful, or a backbone with and without ImageNet's normalisation"
)

Absent = Callable[[Plan, str], str | None]


def never(plan: Plan, dataset: str) -> None:
    """Every study has it."""


def without_images(plan: Plan, dataset: str) -> str | None:
    return None if dataset in plan.study.with_images else NO_IMAGES


def without_vectors(plan: Plan, dataset: str) -> str | None:
    return without_features(plan, dataset) if plan.study.vectors[dataset] else NO_VECTORS


def without_training(plan: Plan, dataset: str) -> str | None:
    return None if (plan.runs.replicates(dataset) if dataset else plan.runs) else NO_TRAINING


def without_features(plan: Plan, dataset: str) -> str | None:
    return None if plan.columns.compared(dataset) else NO_FEATURES


def without_pairs(plan: Plan, dataset: str) -> str | None:
    reason = without_features(plan, dataset)
    return reason or (None if len(plan.columns.compared(dataset)) > 1 else ONE_FEATURE_SET)


def without_few_shot(plan: Plan, dataset: str) -> str | None:
    reason = without_features(plan, dataset)
    return reason if plan.asks("few_shot") else NO_ANALYSIS.format("few_shot")


def without_similarity(plan: Plan, dataset: str) -> str | None:
    if not plan.asks("similarity"):
        return NO_ANALYSIS.format("similarity")
    return None if plan.runs.layered_replicates(dataset) else NO_LAYERS


def without_similarity_of_vectors(plan: Plan, dataset: str) -> str | None:
    if not plan.study.vectors[dataset]:
        return NO_VECTORS
    if not plan.asks("similarity"):
        return NO_ANALYSIS.format("similarity")
    return None if len(plan.study.vectors[dataset]) > 1 else ONE_FEATURE_SET


def without_transfer(plan: Plan, dataset: str) -> str | None:
    return None if plan.asks("transfer") else NO_ANALYSIS.format("transfer")


def without_layers(plan: Plan, dataset: str) -> str | None:
    return None if plan.described.layered_runs() else NO_LAYERS


def without_sweep(plan: Plan, dataset: str) -> str | None:
    return None if plan.described.swept_runs() else NO_SWEEP


def without_sweep_map(plan: Plan, dataset: str) -> str | None:
    return None if plan.described.runs_swept_twice() else NO_MAP


def without_flaws(plan: Plan, dataset: str) -> str | None:
    return None if plan.faithful() or plan.without_imagenet() else NO_FLAWS


def without_variance(plan: Plan, dataset: str) -> str | None:
    return None if plan.study.variance else NO_VARIANCE


# --- an entry ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """A table or figure.

    Attributes
    ----------
    name
        Of its files.
    draw
        The function that makes it of a :class:`collapseflow.presentation.material.Material`, as a
        text: reading this list imports nothing that draws.
    makes
        The suffixes of the files that every study has of it.
    message
        What its job is doing, for the screen.
    per
        One a ``study``, one a ``dataset``, or one a ``run`` (of those that differ by
        seed only the first).
    reads, shows
        What it is made of: names of :data:`collapseflow.study.ingredients.READS` and ``SHOWS``.
    splits
        The splits whose images its numbers are of, as in measures.csv: the text beside it counts
        them. None where a figure shows single images, or says the number itself.
    targets
        The name on the command line; several are of the first data set, the second and so on.
    absent
        Why a study, or a data set of it, has none.
    section
        The heading in the summary; ``{title}`` is the label of the data set.
    category, label
        Where Snakemake's report has it, and as what.
    caption
        What Snakemake's report, the page and the text beside a figure say of it, and what to look
        for in it, in reStructuredText; names in braces are of ``shows``.
    megabytes, minutes
        What its job asks for.
    """

    name: str
    draw: str
    makes: tuple[str, ...]
    message: str
    per: str = "study"
    reads: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    absent: Absent = never
    section: str = ""
    category: str = ""
    label: str = ""
    caption: str = ""
    megabytes: int = 1000
    minutes: int = 15

    @property
    def rule(self) -> str:
        """The name of its rule."""
        return f"{'plot' if 'png' in self.makes else 'tabulate'}_{self.name}"

    @property
    def job(self) -> str:
        """The place of its log below ``logs``, without a suffix, by wildcards."""
        return self.rule + NAMES[self.per][1]

    def outputs(self, plan: Plan) -> dict[str, str]:
        """Its files below the results of a study, by suffix and wildcards."""
        name = NAMES[self.per][0].format(name=self.name)
        formats = plan.study.style.formats if "png" in self.makes else ()
        suffixes = dict.fromkeys((*self.makes, *formats))
        return {suffix: f"{FOLDERS[suffix]}/{name}.{suffix}" for suffix in suffixes}

    def report_labels(self, suffix: str) -> dict[str, str]:
        """What tells one of its files from others in Snakemake's report."""
        dataset = {} if self.per == "study" else {"data set": "{dataset}"}
        return {SHOWN[suffix]: self.label, **dataset}

    @property
    def in_caption(self) -> set[str]:
        """What the caption says of what the job is told."""
        return {*re.findall(r"{(\w+)", self.caption), *(set(self.shows) & set(CHOSEN))}

    def caption_of(self, told: Mapping[str, Any]) -> str:
        """The caption of one product.

        Parameters
        ----------
        told
            The values of :attr:`in_caption`.
        """
        words = {
            name: value.strip().replace("`", "'") if isinstance(value, str) else value
            for name, value in told.items()
        }
        left_out = [
            f"Of the {what} only these are shown, where the figure has them: "
            f"{', '.join(map(label, told[name]))}."
            for name, (what, label) in CHOSEN.items()
            if told.get(name)
        ]
        return " ".join([" ".join(self.caption.split()).format(**words), *left_out])

    def places(self, plan: Plan, datasets: Iterable[str] | None = None) -> list[Place]:
        """Where a study has it, of all data sets or of some."""
        if self.per == "study":
            found = [Place()]
        else:
            datasets = plan.study.datasets if datasets is None else datasets
            found = [Place(dataset) for dataset in datasets]
        found = [place for place in found if self.absent(plan, place.dataset) is None]
        if self.per == "run":
            return [Place(p.dataset, run) for p in found for run in plan.geometry_runs(p.dataset)]
        return found

    def files(self, plan: Plan, places: Iterable[Place]) -> list[str]:
        """Its files at some places."""
        return [
            f"{plan.files.results}/{path.format(**vars(place))}"
            for place in places
            for path in self.outputs(plan).values()
        ]


def _defined(figure: str) -> str:
    """The quantities that a figure has panels of, each with its definition."""
    shown = map(quantity, panels_of(figure))
    return "; ".join(f"{one.label} ({one.meaning})" for one in shown)


#: Captions of a figure and a table of the same.
SWEPT = f"""
    Accuracy and neural collapse after the last epoch, at the values that recipes are swept over.
    {{}} Several seeds: mean and one standard deviation (ddof = 1), of NC1 the geometric ones. Where
    training images are held out, the point that is the best on them is marked; without, no point is
    called best. The measures: {_defined("runs")}. Look for values at which the accuracy on test
    images and the collapse of training images part."""
VARIANCES = """
    Variances within classes and between pairs of classes, as report B computed them (t-SNE
    coordinates) and as it meant them (features). Of more than 60 classes the largest variances and
    the nearest pairs; the CSV has all. Look for variances within classes that are small
    beside the distances between their means, and for whether they are so on test images."""

PRODUCTS: tuple[Product, ...] = (
    # Of each data set.
    Product(
        name="samples",
        draw="collapseflow.presentation.figures.images.plot_samples",
        makes=FIGURE,
        message="Drawing sample images of {wildcards.dataset}",
        per="dataset",
        reads=("images",),
        shows=("title", "ink", "seed", "style"),
        targets=("fig_samples",),
        absent=without_images,
        section="{title}: images",
        category="Data",
        label="samples",
        caption="""
            Training images of ``{title}``, one class a row. Images of ink, as MNIST's, are printed
            black on white. Look for labels that are wrong, and for images that are cut off or
            empty.""",
        megabytes=2000,
    ),
    Product(
        name="audit",
        draw="collapseflow.presentation.figures.audit.plot_audit",
        makes=FIGURE,
        message="Drawing classes and closest pairs of {wildcards.dataset}",
        per="dataset",
        reads=("audit", "images"),
        shows=("title", "ink", "style"),
        splits=("train", "test"),
        targets=("fig_audit",),
        absent=without_images,
        section="{title}: images",
        category="Data",
        label="classes and closest pairs",
        caption="""
            Numbers of images of the classes of ``{title}``, the largest class first; and the pairs
            of images whose 16 × 16 thumbnails have the largest correlations, across the splits and
            within them, with their classes. Equal images have the same pixels. Look for test images
            that are training images, and for pairs of one image with two labels.""",
    ),
    Product(
        name="audit",
        draw="collapseflow.presentation.tables.audit.audit_table",
        makes=TABLE,
        message="Tabulating classes and duplicates of {wildcards.dataset}",
        per="dataset",
        reads=("audit",),
        shows=("title",),
        targets=("fig_audit",),
        absent=without_images,
        section="{title}: images",
        category="Data",
        label="classes and duplicates",
        caption="""
            Classes, constant images and duplicates of ``{title}``. Look for test images that are
            training images: what a network is tested on it has then learned by heart.""",
    ),
    Product(
        name="scattering",
        draw="collapseflow.presentation.figures.images.plot_scattering",
        makes=FIGURE,
        message="Drawing scattering coefficients of {wildcards.dataset}",
        per="dataset",
        reads=("images",),
        shows=("title", "ink", "scattering", "style"),
        targets=("fig1",),
        absent=without_images,
        section="{title}: scattering coefficients",
        category="Features",
        label="scattering coefficients",
        caption="""
            A training image of ``{title}``, of up to a hundred the one whose pixels vary most, and
            up to six of the first-order scattering coefficients of its grey values, the mean over
            the colours (J = {scattering[J]}, L = {scattering[L]}, order {scattering[order]}), by
            scale j and the direction of the strokes and edges they answer to. Images of ink, as
            MNIST's, are printed black on white. Look for the scales and directions that answer to
            the strokes and edges of the image.""",
        megabytes=2000,
    ),
    Product(
        name="embedding",
        draw="collapseflow.presentation.figures.embedding.plot_embeddings",
        makes=FIGURE,
        message="Drawing the t-SNE of {wildcards.dataset}",
        per="dataset",
        reads=("embeddings", "images"),
        shows=("column_labels", "embedding_heading", "style"),
        targets=("fig2", "fig3"),
        absent=without_features,
        section="{title}: t-SNE of the features",
        category="Features",
        label="t-SNE",
        caption="""
            t-SNE of ``{embedding_heading}``: training and test images in one map, in which all are
            neighbours of each other; training images, which a fine-tuned network has learned to
            keep apart, are faint. Of more than 60 classes the 20 with the most images are named and
            coloured. Under each panel: the number of points, the perplexity, and the
            share of each point's 10 nearest neighbours among the features that are among its 10
            nearest in the picture. Look for classes that are mixed with each other; how large a
            cloud is and how far it is from another says little.""",
        megabytes=2000,
    ),
    Product(
        name="accuracy",
        draw="collapseflow.presentation.tables.accuracy.accuracy_table",
        makes=TABLE,
        message="Tabulating the accuracies on {wildcards.dataset}",
        per="dataset",
        reads=("classification",),
        shows=("title", "columns", "classifiers", "neighbours", "published_classifiers"),
        targets=("table1", "table2"),
        absent=without_features,
        section="{title}: test accuracy",
        category="Classification",
        label="test accuracy",
        caption="""
            Test accuracy in % on ``{title}``: classifiers (rows) on features (columns); of several
            seeds mean and standard deviation (ddof = 1). Look for features that are good with
            all classifiers; the table of differences says which differ by more than chance.""",
    ),
    Product(
        name="confusion",
        draw="collapseflow.presentation.figures.confusion.plot_confusion",
        makes=(*FIGURE, "csv"),
        message="Drawing what is taken for what on {wildcards.dataset}",
        per="dataset",
        reads=("classification", "images"),
        shows=("title", "columns", "confused", "confused_label", "style"),
        splits=("test",),
        targets=("fig_confusion",),
        absent=without_features,
        section="{title}: test accuracy",
        category="Classification",
        label="confusion",
        caption="""
            What the classifier ``{confused_label}`` takes for what on the test images of
            ``{title}``, a panel for each feature set: of each true class (rows) the shares that are
            taken for each class (columns), of all seeds together. Colours go by the root of the
            share. Below a panel: the class that is recognised least, of many classes three, or how
            many share that place, and, where the largest class has 1.5 times the test images of
            the smallest, the balanced accuracy. More than 20 classes have no names, and similar
            ones stand beside each other; of more than 100 only those most often taken for each
            other are shown. The CSV has all counts, and with them the recall of each class. Look
            for dark cells beside the diagonal:
            classes that are taken for each other.""",
    ),
    Product(
        name="few_shot",
        draw="collapseflow.presentation.figures.few_shot.plot_few_shot",
        makes=FIGURE,
        message="Drawing accuracy from few images a class of {wildcards.dataset}",
        per="dataset",
        reads=("measures",),
        shows=("dataset", "title", "columns", "style"),
        splits=("test",),
        targets=("fig_few_shot",),
        absent=without_few_shot,
        section="{title}: test accuracy",
        category="Classification",
        label="few images a class",
        caption="""
            What few images of a class are worth: accuracy of the nearest mean of m test images a
            class on the other test images, averaged over the classes, against m; a class gives half
            of its images at most. Single seeds: the mean over draws of the images with its 95 %
            interval; several seeds: mean and one standard deviation (ddof = 1). Hollow: the means
            of all training images, on all test images. Dotted: one minus the bound on the share of
            errors from directional CDNV (class-distance normalised variance) and other moments of
            the test images, where it is above 0. Look for lines that are high from the first number
            on: few images say where their classes are.""",
    ),
    Product(
        name="comparison",
        draw="collapseflow.presentation.tables.comparisons.comparison_table",
        makes=TABLE,
        message="Comparing the accuracies on {wildcards.dataset}",
        per="dataset",
        reads=("classification",),
        shows=("title", "columns", "classifiers"),
        targets=("table_comparison",),
        absent=without_pairs,
        section="{title}: which differ",
        category="Classification",
        label="differences",
        caption="""
            Which feature sets of ``{title}`` differ: difference of the test accuracies in points on
            the same test images, with the 95 % interval of a paired bootstrap; marked where it is
            not larger than chance (McNemar 1947). Where images have groups, these are resampled
            (Field and Welsh 2007). Look for intervals without 0.""",
    ),
    Product(
        name="vectors",
        draw="collapseflow.presentation.figures.vectors.plot_vectors",
        makes=FIGURE,
        message="Drawing neural collapse of the vectors of {wildcards.dataset}",
        per="dataset",
        reads=("measures",),
        shows=("dataset", "title", "columns", "style"),
        splits=("train_matched", "test"),
        targets=("fig_vectors",),
        absent=without_vectors,
        section="{title}: neural collapse of the vectors",
        category="Neural collapse",
        label="measures of vectors",
        caption=f"""
            Neural collapse (Papyan, Han and Donoho 2020) of the vectors of ``{{title}}``, file by
            file, or over the epochs that the files are of. Panels: {_defined("epochs")}. Solid:
            training vectors, for measures as many of each class as there are test vectors, because
            NC1 and CDNV depend on their number; dashed: test vectors, around their own class means.
            Dotted: the first of the epochs without an error on the training vectors. Panels of a
            last layer are there where the files have its weight. Look for files at which the solid
            line goes on towards collapse and the dashed one does not follow.""",
    ),
    Product(
        name="similarity_of_vectors",
        draw="collapseflow.presentation.figures.similarity.plot_similarity_of_vectors",
        makes=(*FIGURE, "csv"),
        message="Drawing the similarity of the vectors of {wildcards.dataset}",
        per="dataset",
        reads=("similarity",),
        shows=("title", "style"),
        targets=("fig_similarity_of_vectors",),
        absent=without_similarity_of_vectors,
        section="{title}: similarity of the vectors",
        category="Features",
        label="similarity of vectors",
        caption="""
            How similar the files of vectors of ``{title}`` represent the same training rows: linear
            CKA with the unbiased estimator, 1 for vectors that are equal but for rotation, scale
            and shift, around 0 for independent ones. Look for files that are alike, and for the
            place in their order where they begin to differ.""",
    ),
    # Of the trainings.
    Product(
        name="accuracy_per_epoch",
        draw="collapseflow.presentation.figures.epochs.plot_accuracy",
        makes=FIGURE,
        message="Drawing accuracy per epoch",
        reads=("measures", "failures"),
        shows=("runs", "datasets", "backbones", "style", "only_recipes", "only_splits"),
        splits=("train", "test"),
        targets=("fig4",),
        absent=without_training,
        section="Fine-tuning: accuracy per epoch",
        category="Neural collapse",
        label="accuracy per epoch",
        caption="""
            Train and test accuracy after each measured epoch of training, on the whole split in
            evaluation mode, all data sets on the same axes. Solid: training images; dashed: test
            images. Several seeds: mean, band of one standard deviation (ddof = 1). One seed: 95 %
            intervals (Wilson 1927; of images in groups over these) of the accuracy on the test
            images, which are a sample; the bars of an epoch stand beside each other. Dotted:
            the first measured epoch without an error on the training images, the onset of the
            terminal phase (Papyan, Han and Donoho 2020). Look for how far the dashed lines stay
            below the solid ones, and what becomes of them after the dotted line.""",
    ),
    Product(
        name="collapse",
        draw="collapseflow.presentation.figures.epochs.plot_collapse",
        makes=FIGURE,
        message="Drawing neural collapse on {wildcards.dataset} per epoch",
        per="dataset",
        reads=("measures", "failures"),
        shows=(
            *("dataset", "runs", "datasets", "backbones", "style"),
            *("only_recipes", "only_splits", "only_measures"),
        ),
        splits=("train_matched", "test"),
        targets=("fig5",),
        absent=without_training,
        section="Fine-tuning: neural collapse per epoch",
        category="Neural collapse",
        label="measures per epoch",
        caption=f"""
            Neural collapse (Papyan, Han and Donoho 2020) on one data set, after each measured epoch
            of training; epoch 0 is the network before it. Panels: {_defined("epochs")}. Solid:
            training images, as many of each class as there are test images, because NC1 and CDNV
            depend on their number; dashed: test images, around their own class means, but for NC4,
            where the nearest class mean is that of the training images. Several seeds: mean and one
            standard deviation (ddof = 1), on logarithmic axes the geometric ones. Grey: raw pixels
            and scattering coefficients (training images, as many), which no network made, and the
            start that several recipes have in common. Published curves are of all training images;
            ours beside them, too. Dotted: the first measured epoch without an error on the training
            images, the onset of the terminal phase. Panels of the network's last layer are there
            where it tells the classes of the data set. Look for solid lines that go on towards
            collapse after the dotted one, and for how far the dashed ones follow.""",
    ),
    Product(
        name="collapse",
        draw="collapseflow.presentation.tables.runs.collapse_table",
        makes=TABLE,
        message="Tabulating accuracy and collapse of the first and the last epoch",
        reads=("measures", "failures"),
        shows=("runs", "datasets"),
        splits=("train", "test"),
        targets=("table_collapse",),
        absent=without_training,
        section="Fine-tuning: neural collapse per epoch",
        category="Neural collapse",
        label="first and last epoch",
        caption="""
            Accuracy and neural collapse of every run, before training and after its last epoch; the
            CSV has all measured epochs, layers and splits. Several seeds: mean ± standard deviation
            (ddof = 1), of what figures draw on logarithmic axes geometric mean ×÷ geometric
            standard deviation. Look for measures that fall on training images and not on test
            images.""",
    ),
    Product(
        name="probes",
        draw="collapseflow.presentation.figures.probes.plot_probes",
        makes=FIGURE,
        message="Drawing collapse and the accuracy of probes, per epoch and by layer",
        reads=("measures", "failures"),
        shows=("runs", "datasets", "backbones", "style", "only_recipes"),
        splits=("train_matched", "test"),
        targets=("fig_probes",),
        absent=without_training,
        section="Fine-tuning: collapse and probes",
        category="Neural collapse",
        label="collapse and probes",
        caption="""
            Accuracy on the test images beside neural collapse, over the epochs of training and,
            where a network is read at several layers, over its layers: of the network itself, of
            the nearest class mean of the training images, and of the probes that the study fitted.
            Log D is the separation fuzziness of He and Su (2023), of five layers or more with its
            least squares line. Solid: training images, as many of each class as there are test
            images; dashed, and hollow markers: test images. Faint: before training; grey: a start
            of several recipes; strong: after the last epoch. Several seeds: mean and one standard
            deviation (ddof = 1), of NC1 the geometric ones. Look for whether probes gain or lose
            where NC1 and log D fall.""",
    ),
    Product(
        name="geometry",
        draw="collapseflow.presentation.figures.geometry.plot_geometry",
        makes=FIGURE,
        message="Drawing the geometry of {wildcards.run} on {wildcards.dataset}",
        per="run",
        reads=("statistics", "images"),
        shows=("states", "layer", "run_heading", "style"),
        splits=("train_matched", "test"),
        targets=("fig_geometry",),
        absent=without_training,
        section="Fine-tuning: geometry of the class means",
        category="Neural collapse",
        label="geometry of {run}",
        caption="""
            The geometry of the class means of one run, before training, at the first measured epoch
            and after the last. Training images are as many of each class as there are test images.
            From the left: their class means (full) in the plane of their first two principal axes,
            with its share of the variance of these means and an ellipse of one standard deviation
            within the classes, pooled over them, and those of the test images (hollow) in the same
            plane; cosines between the centred class means of training and of test images, grey
            where they are those of a simplex and lighter where means are nearer, many classes in an
            order in which similar ones stand beside each other; norms of the centred class means
            and, where the network's last layer tells the classes of the data set, of the rows of
            its weight, over their mean. Look for cosines that turn grey and norms that come to 1
            from row to row: class means that become a simplex.""",
    ),
    Product(
        name="training",
        draw="collapseflow.presentation.tables.runs.training_table",
        makes=("csv",),
        message="Collecting the logs of all trainings",
        reads=("logs",),
        shows=("runs",),
        absent=without_training,
    ),
    Product(
        name="training",
        draw="collapseflow.presentation.figures.training.plot_training",
        makes=FIGURE,
        message="Drawing loss, rate, gradient norm and speed per epoch",
        reads=("training", "failures"),
        shows=("runs", "datasets", "backbones", "style", "only_recipes"),
        targets=("fig_training",),
        absent=without_training,
        section="Fine-tuning: loss, rate, gradient, speed",
        category="Neural collapse",
        label="loss, rate, gradient, speed",
        caption="""
            Loss, learning rate (of the last batch), norm of the gradient (mean over the batches)
            and images per second of each epoch of training; where training images are held out,
            also loss and accuracy on them after each epoch; of trainings made elsewhere what their
            logs have of it. Several seeds: mean and one standard deviation (ddof = 1), of losses
            and gradient norm the geometric ones. Look for a loss that no longer falls, and for one
            on held-out images that rises again.""",
    ),
    Product(
        name="similarity",
        draw="collapseflow.presentation.figures.similarity.plot_similarity",
        makes=FIGURE,
        message="Drawing the similarity of layers on {wildcards.dataset}",
        per="dataset",
        reads=("similarity",),
        shows=("series", "title", "style"),
        targets=("fig_similarity",),
        absent=without_similarity,
        section="Fine-tuning: similarity of layers",
        category="Neural collapse",
        label="similarity of layers",
        caption="""
            How similar layers represent the same training images: linear CKA with the unbiased
            estimator, 1 for features that are equal but for rotation, scale and shift, around 0 for
            independent ones. Heat maps: layers with each other before training, after it, and
            before (rows) with after (columns), of the first seed. Right: each layer with itself
            before and after training, and after training in different seeds (mean over the pairs of
            seeds). Look for the layers that training changes most, and whether seeds agree on
            them.""",
    ),
    Product(
        name="layers",
        draw="collapseflow.presentation.figures.layers.plot_layers",
        makes=FIGURE,
        message="Drawing NC1 and NC2 of neural collapse by layer",
        reads=("measures", "failures"),
        shows=(
            *("layered_runs", "datasets", "backbones", "style"),
            *("only_recipes", "only_splits", "only_measures"),
        ),
        splits=("train", "train_matched", "test"),
        targets=("fig_layers",),
        absent=without_layers,
        section="Neural collapse by layer",
        category="Neural collapse",
        label="measures by layer",
        caption=f"""
            Neural collapse from layer to layer: {_defined("layers")}. The straight line of log D of
            five layers or more is its least squares line, with Pearson's r on the training images
            (He and Su 2023). Several seeds: mean and one standard deviation (ddof = 1), on
            logarithmic axes the geometric ones. Solid: training images (for measures as many of
            each class as there are test images); dashed: test images. Faint: before training, grey
            where several recipes start from it; strong: after the last epoch. Look for points of
            log D that are on its line: each layer separates the classes by the same factor.""",
    ),
    Product(
        name="sweep",
        draw="collapseflow.presentation.figures.sweep.plot_sweep",
        makes=FIGURE,
        message="Drawing the last epoch across the values of recipes",
        reads=("measures", "failures", "training"),
        shows=(
            *("swept_runs", "datasets", "backbones", "style"),
            *("only_recipes", "only_splits", "only_measures"),
        ),
        splits=("train", "train_matched", "test"),
        targets=("fig_sweep",),
        absent=without_sweep,
        section="Across the values of the recipes",
        category="Neural collapse",
        label="across swept values",
        caption=SWEPT.format(
            "Solid: training images (for measures as many of each class as there are test images); "
            "dashed: test images."
        ),
    ),
    Product(
        name="sweep",
        draw="collapseflow.presentation.tables.runs.sweep_table",
        makes=TABLE,
        message="Tabulating the last epoch across the values of recipes",
        reads=("measures", "failures", "training"),
        shows=("swept_runs", "datasets", "backbones"),
        splits=("train", "test"),
        targets=("table_sweep",),
        absent=without_sweep,
        section="Across the values of the recipes",
        category="Neural collapse",
        label="across swept values",
        caption=SWEPT.format("The measures are of all training images."),
    ),
    Product(
        name="sweep_map",
        draw="collapseflow.presentation.figures.sweep_map.plot_sweep_map",
        makes=FIGURE,
        message="Drawing the last epoch at the values of two keys of recipes",
        reads=("measures", "failures", "training"),
        shows=("runs_swept_twice", "datasets", "backbones", "style", "only_recipes"),
        splits=("train", "train_matched", "test"),
        targets=("fig_sweep_map",),
        absent=without_sweep_map,
        section="Across the values of the recipes",
        category="Neural collapse",
        label="two swept keys together",
        caption="""
            Accuracy of the network itself and NC1 of its last layer after the last epoch, at each
            pair of values of two swept keys: the first key goes to the right, the second one down.
            NC1 of training images: of as many of each class as there are test images. Several
            seeds: the mean, of NC1 the geometric one. Colours have one scale for each quantity and
            data set. Framed, where training images are held out: the point that is the best on
            them. Look for a key whose best value depends on the other key.""",
    ),
    Product(
        name="transfer",
        draw="collapseflow.presentation.figures.transfer.plot_transfer",
        makes=(*FIGURE, "csv"),
        message="Drawing collapse of the starts against transfer",
        reads=("measures",),
        shows=("runs", "starts", "datasets", "backbones", "style", "only_recipes", "only_measures"),
        splits=("train", "test"),
        targets=("fig_transfer",),
        absent=without_transfer,
        section="Collapse and transfer",
        category="Transfer",
        label="collapse and transfer",
        caption=f"""
            Neural collapse and other measures of the features of first weights, on the training
            images of each data set before any training on them, against the accuracy on the test
            images. The measures: {_defined("transfer")}. The accuracies: of a linear probe on the
            same features, and of the network after fine-tuning. A point is a data set, backbone,
            start and layer, the mean over its seeds (of NC1 and CDNV the geometric one); hollow:
            not the last layer; starts that have been trained on the data set itself are left out.
            Above each panel Spearman's correlation over the points of a data set, averaged over the
            data sets that have six points or more, with a 95 % bootstrap interval; points share
            networks, so that the interval is rather too narrow. Look for correlations whose
            interval is without 0.""",
    ),
    Product(
        name="transfer_matrix",
        draw="collapseflow.presentation.figures.transfer.plot_transfer_matrix",
        makes=FIGURE + TABLE,
        message="Drawing transfer from source to target",
        reads=("measures",),
        shows=("starts", "datasets", "backbones", "style"),
        splits=("train", "test"),
        targets=("fig_transfer",),
        absent=without_transfer,
        section="Transfer between tasks",
        category="Transfer",
        label="source by target",
        caption="""
            From each source (first weights, rows) to each target (data set, columns), before any
            training on the target: accuracy of a linear probe on the features of the last layer on
            the test images; its gain over random weights of the same backbone in points; and NC1 of
            the training images. Several seeds: the mean, of NC1 the geometric one. Framed: the
            source is the target itself. Grey: not in the study, or failed; random weights have no
            gain. Look for gains below 0: sources that are worth less than random weights.""",
    ),
    # Of the reports.
    Product(
        name="flaws",
        draw="collapseflow.presentation.tables.flaws.flaws_table",
        makes=TABLE,
        message="Tabulating what each flaw of the reports is worth",
        reads=("measures", "failures", "training", "variance"),
        shows=(
            *("runs", "faithful", "without_imagenet"),
            *("datasets", "backbones", "starts", "variance_features"),
        ),
        splits=("train", "test"),
        targets=("table_flaws",),
        absent=without_flaws,
        section="What each flaw of the reports is worth",
        category="Neural collapse",
        label="what each flaw is worth",
        caption="""
            What each flaw of the two reports is worth, in points of accuracy and in NC1: what the
            report would say beside what is so. Several seeds: mean ± standard deviation (ddof = 1),
            of NC1 the geometric ones. Report A: train accuracy of the last batch, test images in
            training mode and in the statistics of batch normalisation, an absolute cutoff. Report
            B: no ImageNet normalisation, and variances of t-SNE coordinates. Look for differences
            that would change what is concluded.""",
    ),
    Product(
        name="embedding_train_test",
        draw="collapseflow.presentation.figures.embedding.plot_train_test",
        makes=FIGURE,
        message="Drawing the t-SNE of training and test features",
        reads=("variance_embeddings", "variance_images"),
        shows=("variance_titles", "variance_heading", "style"),
        targets=("fig_embedding_b",),
        absent=without_variance,
        section="t-SNE of training and test features",
        category="Variance",
        label="t-SNE of train and test",
        caption="""
            t-SNE of training and test features of ``{variance_heading}`` with scikit-learn's
            defaults, each split embedded on its own. Look for classes that are apart in training
            images and mixed in test images.""",
        megabytes=2000,
    ),
    Product(
        name="variance",
        draw="collapseflow.presentation.figures.variance.plot_variance",
        makes=FIGURE,
        message="Drawing the variances within and between classes",
        reads=("variance", "variance_images"),
        shows=("variance_features", "variance_heading", "backbone_names", "style"),
        targets=("fig_variance",),
        absent=without_variance,
        section="Variance within and between classes",
        category="Variance",
        label="variances",
        caption=VARIANCES,
    ),
    Product(
        name="variance",
        draw="collapseflow.presentation.tables.variance.variance_table",
        makes=TABLE,
        message="Variances within and between classes",
        reads=("variance_statistics", "variance_embeddings", "variance_images"),
        shows=(
            *("variance_states", "variance_features"),
            *("variance_identities", "variance_published"),
        ),
        targets=("table_variance",),
        absent=without_variance,
        section="Variance within and between classes",
        category="Variance",
        label="variances",
        caption=VARIANCES,
        megabytes=2000,
        minutes=60,
    ),
    Product(
        name="runtime",
        draw="collapseflow.presentation.tables.runtime.runtime_table",
        makes=TABLE,
        message="Tabulating wall time and memory of the jobs that compute",
        reads=("benchmarks",),
        shows=("jobs", "job_logs", "published_minutes"),
        targets=("table_runtime",),
        section="Run time and memory",
        category="Run time",
        label="wall time and memory",
        caption="""
            Wall time and peak memory of the jobs that compute; of a job that was interrupted or did
            more later, all its finished parts. Look for the jobs that take most of the time and of
            the memory.""",
    ),
)


# --- what follows from the list ---------------------------------------------------------------


def everything(plan: Plan) -> list[str]:
    """Every table and figure of the study, and the two tables that they are made of."""
    tables = [f"{plan.files.results}/{name}.csv" for name in ("measures", "failures")]
    made = [product.files(plan, product.places(plan)) for product in PRODUCTS]
    return tables + [path for paths in made for path in paths]


def target_names() -> list[str]:
    """The names of targets on the command line."""
    return sorted({name for product in PRODUCTS for name in product.targets})


def target_files(target: str, plan: Plan) -> list[str]:
    """The files of a target.

    Raises
    ------
    UserError
        In one line, if the study has none of them: why.
    """
    files, reason = [], None
    for product in PRODUCTS:
        if target not in product.targets:
            continue
        datasets = list(plan.study.datasets)
        if len(product.targets) > 1:
            position = product.targets.index(target)
            datasets = datasets[position : position + 1]
        files += product.files(plan, product.places(plan, datasets))
        first = "" if product.per == "study" else next(iter(datasets), None)
        reason = NO_SECOND if first is None else product.absent(plan, first)
    if not files:
        raise UserError(f"{target}: {reason}")
    return files


def contents(plan: Plan) -> list[dict[str, Any]]:
    """The figures and tables that readers are shown: first those of one data set after the other,
    then those of the whole study.

    Returns
    -------
    Of each ``rule``, ``dataset`` (empty where it is of the study), ``heading``, ``category``,
    ``label``, ``caption``, and ``files``, paths relative to the page by their suffixes.
    """
    shown = [product for product in PRODUCTS if product.section]
    of_datasets = [product for product in shown if "{title}" in product.section]
    order = [(product, [dataset]) for dataset in plan.study.datasets for product in of_datasets]
    order += [(product, None) for product in shown if product not in of_datasets]
    return [
        {
            "rule": product.rule,
            "dataset": place.dataset,
            "heading": product.section.format(
                title=plan.labels.dataset(place.dataset) if place.dataset else ""
            ),
            "category": product.category,
            "label": SHOWS["run_heading"](plan, place) if place.run else product.label,
            "caption": product.caption_of(
                {name: SHOWS[name](plan, place) for name in product.in_caption}
            ),
            "files": {
                suffix: path.format(**vars(place)) for suffix, path in product.outputs(plan).items()
            },
        }
        for product, datasets in order
        for place in product.places(plan, datasets)
    ]


def comparison_tables(plan: Plan) -> dict[str, str]:
    """By data set the table of which feature sets differ, as CSV."""
    return {
        one["dataset"]: f"{plan.files.results}/{one['files']['csv']}"
        for one in contents(plan)
        if one["rule"] == "tabulate_comparison"
    }


def _moving(plan: Plan) -> list[tuple[str, list[State]]]:
    """The runs whose class means the page moves: data sets, and starts with the measured epochs."""
    return [
        (dataset, [plan.runs.run(run).at(e) for e in (0, *plan.jobs.measured_epochs(run))])
        for dataset in plan.study.datasets
        for run in plan.geometry_runs(dataset)
    ]


def geometry(plan: Plan) -> list[dict[str, Any]]:
    """The runs whose class means the page moves through their epochs: of each ``dataset``,
    ``heading``, ``layer``, and ``states``, epochs with the files of their statistics."""
    return [
        {
            "dataset": dataset,
            "heading": plan.labels.run_heading(dataset, states[-1]),
            "layer": plan.study.backbones[states[0].backbone].layers[-1],
            "states": [(s.epoch, plan.files.statistics(dataset, s.path)) for s in states],
        }
        for dataset, states in _moving(plan)
    ]


def geometry_statistics(plan: Plan) -> list[str]:
    """What jobs make of the statistics of these states: one makes the start, one all epochs."""
    made = [
        plan.files.statistics_made(dataset, FeatureSet(state=state))
        for dataset, states in _moving(plan)
        for state in (states[0], states[-1])
    ]
    return list(dict.fromkeys(made))


def small_results(plan: Plan) -> list[str]:
    """The small files behind tables and figures, which say what they were made with."""
    files = [path for analysis in plan.analyses() for path in plan.results(analysis)]
    for product in PRODUCTS:
        for kind in [kind for kind in product.reads if kind in COMPUTED]:
            files += [path for place in product.places(plan) for path in READS[kind](plan, place)]
    files += plan.untrained_statistics()
    files += [plan.files.statistics_of_run(run.dataset, run.path) for run in plan.runs.trainings]
    return list(dict.fromkeys(files))
