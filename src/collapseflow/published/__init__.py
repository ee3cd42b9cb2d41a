"""Numbers that the two reports published (see README.md in this folder), and what of.

A published number stands beside one of ours only where both are of the same experiment. The
experiments are written down here as conditions: for each key the values that mean the same. Keys of
a recipe that the report does not speak of are left out: ours must have their defaults. One key has
two values that do not mean the same, ``recipe.validation``: the corrected recipe departs from
report A in that flaw alone, and stands beside the same numbers so that one sees what it is worth.
:func:`collapseflow.study.publications.condition` describes a study's feature sets with the same
keys.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

#: By data set and features, as the tables in this folder name them.
Experiments = dict[tuple[str, str], dict[str, tuple]]

# All images: no subset, or one as large as the data set.
_IMAGES = {"subset.train": (None, 60_000), "subset.test": (None, 10_000)}
_NETWORK = {
    "features": ("network",),
    "pool": ("average",),
    "image_size": (224,),
    "weights": ("imagenet",),
}
_RESNET18 = {**_NETWORK, "model": ("resnet18",), "layer": ("penultimate", "flatten")}
_VGG11 = {**_NETWORK, "model": ("vgg11_bn",), "layer": ("classifier.3",)}
_VGG16 = {**_NETWORK, "model": ("vgg16",), "layer": ("features.28",)}
_FINETUNED = {
    "recipe.epochs": (10,),
    "recipe.batch_size": (512,),
    "recipe.optimizer": ("adam",),
    "recipe.learning_rate": (2e-4,),
    "recipe.schedule": ("constant",),
    "recipe.loss": ("cross_entropy",),
    "recipe.trained": ("all",),
    "recipe.head_gain": (0.02,),
    # The report's own, and the corrected one.
    "recipe.validation": ("training_mode", "none"),
}
_SCATTERING = {
    "mnist": {"J": (2,), "L": (9,), "order": (1,)},
    "fashion_mnist": {"J": (2,), "L": (7,), "order": (2,)},
}


def _report_a() -> Experiments:
    experiments = {}
    for source, scattering in _SCATTERING.items():
        images = {"source": (source,), **_IMAGES}
        experiments[source, "raw"] = {**images, "features": ("raw",)}
        experiments[source, "scattering"] = {**images, "features": ("scattering",), **scattering}
        for backbone in (_VGG11, _RESNET18):
            model = backbone["model"][0]
            condition = {**images, **backbone, "normalize": ("imagenet",)}
            experiments[source, f"{model}_pretrained"] = condition
            experiments[source, f"{model}_finetuned"] = {**condition, **_FINETUNED}
    return experiments


REPORT_A = _report_a()
REPORT_B: Experiments = {
    ("fashion_mnist", f"{backbone['model'][0]}_pretrained"): {
        "source": ("fashion_mnist",),
        **_IMAGES,
        **backbone,
        "normalize": ("none",),
    }
    for backbone in (_RESNET18, _VGG16)
}
#: Report A, figures 4 and 5. An epoch is the same however many come after it: the learning rate
#: is constant.
REPORT_A_CURVES: Experiments = {
    name: {key: values for key, values in condition.items() if key != "recipe.epochs"}
    for name, condition in REPORT_A.items()
    if "recipe.epochs" in condition
}

#: Report A's classifiers: names of the class, and the parameters that may be chosen freely because
#: they do not change what is fitted. Which solver a cell of its tables used is not recorded.
CLASSIFIERS = {
    "lr": (
        ("sklearn.linear_model.LogisticRegression", "collapseflow.LogisticRegression"),
        {"solver", "max_iter", "tol", "n_jobs", "random_state", "verbose"},
    ),
    "svm": (
        ("sklearn.svm.LinearSVC", "collapseflow.LinearSVC"),
        {"dual", "max_iter", "tol", "random_state", "verbose"},
    ),
    "lda": (
        (
            "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
            "collapseflow.LinearDiscriminantAnalysis",
        ),
        {"solver"},
    ),
    "rf": (
        ("sklearn.ensemble.RandomForestClassifier", "collapseflow.RandomForestClassifier"),
        {"n_jobs", "random_state", "verbose"},
    ),
}


def find(
    experiments: Experiments, condition: Mapping[str, Any], neutral: Mapping[str, Any]
) -> tuple[str, str] | None:
    """The name of the experiment with exactly this condition; None if there is none.

    A key that an experiment leaves out must have the value that ``neutral`` gives it.
    """
    for name, published in experiments.items():
        unsaid = condition.keys() - published.keys()
        if (
            published.keys() <= condition.keys()
            and all(condition[key] in values for key, values in published.items())
            and all(key in neutral and condition[key] == neutral[key] for key in unsaid)
        ):
            return name
    return None


def find_curves(condition: Mapping[str, Any], neutral: Mapping[str, Any]) -> tuple[str, str] | None:
    """The name of report A's curves over the epochs of a fine-tuning; None if it has none."""
    condition = {key: value for key, value in condition.items() if key != "recipe.epochs"}
    return find(REPORT_A_CURVES, condition, neutral)


def find_classifier(classifier: Mapping[str, Any]) -> str | None:
    """Report A's name of a classifier; None if it is none of the report's.

    ``classifier`` has the keys of the study file: estimator, parameters, scaling, n_train.
    """
    for name, (estimators, free) in CLASSIFIERS.items():
        if classifier["estimator"] in estimators:
            as_published = classifier["scaling"] == "none" and classifier["n_train"] is None
            return name if as_published and set(classifier["parameters"]) <= free else None
    return None


def _read(name: str) -> pd.DataFrame:
    with files(__name__).joinpath(name).open(encoding="utf-8") as handle:
        return pd.read_csv(handle, comment="#")


def accuracies() -> dict[tuple[str, str, int, str], float]:
    """Report A, tables 1 and 2: percent by (data set, features, their number, classifier)."""
    table = _read("report_a_tables_1_2.csv")
    keys = table[["dataset", "features", "n_features", "classifier"]].itertuples(index=False)
    return dict(zip(map(tuple, keys), table["accuracy_percent"], strict=True))


def curves() -> pd.DataFrame:
    """Report A, figures 4 and 5: columns measure, dataset, features, split, epoch, value.

    Accuracies are fractions; ``nc1`` is the measure itself, not its logarithm.
    """
    accuracy = _read("report_a_fig4.csv")
    accuracy = accuracy.assign(measure="accuracy", value=accuracy["accuracy_percent"] / 100)
    collapse = _read("report_a_fig5.csv").assign(split="train")
    logarithm = collapse["measure"] == "log10_nc1"
    collapse.loc[logarithm, "value"] = 10 ** collapse.loc[logarithm, "value"]
    collapse["measure"] = collapse["measure"].replace(
        {
            "log10_nc1": "nc1",
            "equinorm": "nc2_equinorm",
            "equiangularity": "nc2_equiangularity",
            "max_angle": "nc2_maximal_angle",
        }
    )
    both = pd.concat([accuracy, collapse], ignore_index=True)
    both["features"] = both["backbone"] + "_finetuned"
    return both[["measure", "dataset", "features", "split", "epoch", "value"]]


def variances() -> dict[tuple, float]:
    """Report B: by (data set, features, split, intra or inter, class a, class b or None)."""
    table = _read("report_b_variances.csv")
    return {
        (r.dataset, r.features, r.split, r.kind, int(r.class_a),
         None if pd.isna(r.class_b) else int(r.class_b)): r.variance
        for r in table.itertuples()
    }  # fmt: skip


def runtimes() -> dict[tuple[str, str, str], float]:
    """Report B: minutes by (data set, features, stage)."""
    table = _read("report_b_runtime.csv")
    keys = zip(table["dataset"], table["features"], table["stage"], strict=True)
    return dict(zip(keys, table["minutes"], strict=True))
