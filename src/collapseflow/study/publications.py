"""Which experiments of a study the two reports have published (:mod:`collapseflow.published`)."""

from collections.abc import Iterable
from typing import Any

from collapseflow import published
from collapseflow.study.paths import FeatureSet
from collapseflow.study.recipes import Recipe
from collapseflow.study.schema import Study

#: The defaults of recipes, but of the number of epochs, under the names of :func:`condition`.
NEUTRAL = {f"recipe.{key}": value for key, value in Recipe().training().items() if key != "epochs"}


def condition(study: Study, dataset: str, features: FeatureSet) -> dict[str, Any]:
    """All that a feature set follows from, but for seeds and rounding, by flat keys."""
    entry = study.datasets[dataset]
    found = {
        "source": entry.source,
        "subset.train": entry.subset.train,
        "subset.test": entry.subset.test,
        # The reports have changed no labels, and have left out no class.
        **entry.changes,
    }
    if features.name == "raw":
        return {**found, "features": "raw"}
    if features.name == "scattering":
        return {
            **found,
            "features": "scattering",
            **study.scattering_of(dataset).model_dump(),
        }
    if features.state is None:
        return {**found, "features": features.name}
    state = features.state
    backbone = study.backbones[state.backbone]
    found |= {"features": "network", "weights": state.start, "layer": features.layer}
    found |= backbone.entry(
        set(type(backbone).model_fields)
        - {"label", "weights", "classes_of_weights", "layers", "batch_size"}
    )
    if state.recipe in study.trainings:
        return {**found, "recipe": "elsewhere"}
    if state.epoch:
        recipe = {**study.recipes[state.recipe].training(), "epochs": state.epoch}
        found |= {f"recipe.{name}": value for name, value in recipe.items()}
    return found


def published_features(
    study: Study, experiments: published.Experiments, dataset: str, features: FeatureSet
) -> tuple[str, str] | None:
    """The name under which a report published numbers of this very feature set, if it did."""
    return published.find(experiments, condition(study, dataset, features), NEUTRAL)


def published_curves(study: Study, dataset: str, last: FeatureSet) -> tuple[str, str] | None:
    """The name of report A's curves of a run, if it has them.

    Parameters
    ----------
    last
        The run's last epoch at the backbone's last layer.
    """
    return published.find_curves(condition(study, dataset, last), NEUTRAL)


def published_classifiers(study: Study) -> dict[str, str]:
    """The names under which report A has the study's classifiers, if it has them."""
    named = {
        key: published.find_classifier(classifier.model_dump())
        for key, classifier in study.classifiers.items()
    }
    return {key: name for key, name in named.items() if name}


def published_minutes(study: Study, shown: Iterable[tuple[str, FeatureSet]]) -> dict[str, float]:
    """What report B needed for the jobs that did the very same.

    Parameters
    ----------
    shown
        Data sets and feature sets of the study.
    """
    minutes = published.runtimes()
    found = {}
    for dataset, features in shown:
        name = published_features(study, published.REPORT_B, dataset, features)
        if name and len(study.backbones[features.state.backbone].layers) == 1:
            found[f"extract/{dataset}/{features.folder}"] = minutes[*name, "extract"]
    return found
