"""Checks of a study against the libraries: what torchvision, PyTorch and scikit-learn refuse.

They run in a process of their own, because the libraries take seconds to import, and their answer
is kept.
"""

import hashlib
import json
import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from collapseflow import __version__
from collapseflow.features.families import family_of
from collapseflow.features.known import Architecture
from collapseflow.images.sources.known import SOURCES
from collapseflow.images.sources.places import OWN, check_saved, class_names, content
from collapseflow.running.errors import UserError
from collapseflow.running.files import writable
from collapseflow.running.words import printable
from collapseflow.study.elsewhere import missing_epochs
from collapseflow.study.recipes import recipe_of
from collapseflow.study.schema import (
    OF_WEIGHTS,
    VECTORS,
    Backbone,
    Study,
    is_distributed,
    is_pretrained,
    weight_state,
)

logger = logging.getLogger(__name__)

#: Seconds that one core takes for the spectrum of d features, over d^3: four decompositions of
#: d x d matrices with numpy and OpenBLAS, 24 s at d = 3,000 (2026-11-29).
SPECTRUM_SECONDS = 9e-10
#: Keys that decide what is found in a saved data set.
SAVED = {"location", "name", "arguments", "columns", "class_names"}
#: Minutes of one core from which on a spectrum is worth a warning.
SLOW = 10


def check_against_libraries(study: Study) -> list[str]:
    """Data sets, models, layers, image sizes, files of weights and classifier parameters that the
    libraries refuse, and names for more or fewer classes than there are.

    Returns one line for each; an empty list means that all is well. How a file of weights is taken
    is logged. Imports the libraries.
    """
    from collapseflow.features.checks import check_backbone
    from collapseflow.features.loading import check_weights
    from collapseflow.images.sources.prepare import DOWNLOADS, check_class_names
    from collapseflow.images.sources.torchvision import check_arguments
    from collapseflow.images.sources.vectors import check as check_vectors
    from collapseflow.measures.probes import build_classifier
    from collapseflow.presentation.logs import check_log
    from collapseflow.training.trained import check_trained

    warn(study)
    lines = []

    def ask(key: str, question, *arguments, **named) -> bool:
        try:
            question(*arguments, **named)
        except UserError as error:
            # Words of a user's file may end lines.
            lines.append(printable(f"config key {key}.{error}"))
            return False
        return True

    for key, dataset in study.datasets.items():
        here, readable = f"datasets.{key}", True
        if dataset.source == "torchvision":
            readable = ask(here, check_arguments, dataset.name, dataset.arguments)
        if dataset.source == VECTORS:
            readable = ask(here, check_vectors, dataset.location)
        if dataset.source == "huggingface":
            readable = ask(here, check_saved, dataset.model_dump())
        if readable and key in named_classes(study):
            ask(here, check_class_names, dataset.model_dump(), DOWNLOADS)
    sound = [
        ask(f"backbones.{key}", check_backbone, **questions)
        for key, questions in questions_about_networks(study).items()
    ]
    for key, *question in files_of_weights(study) if all(sound) else []:
        ask(f"backbones.{key}", check_weights, *question)
    for name, *question in checkpoints(study) if all(sound) else []:
        ask(f"trainings.{name}", check_weights, *question)
    for name, *question in logs(study):
        ask(f"trainings.{name}", check_log, *question)
    for point, model in trained_models(study) if all(sound) else []:
        trained = study.recipes[point].trained
        ask(f"recipes.{recipe_of(point)}", check_trained, model, trained)
    for key, classifier in study.classifiers.items():
        named = classifier.model_dump(include={"estimator", "parameters", "scaling"})
        ask(f"classifiers.{key}", build_classifier, **named, seed=0, threads=1)
    return lines


def questions_about_networks(study: Study) -> dict[str, dict[str, Any]]:
    """What :func:`collapseflow.features.checks.check_backbone` is asked, by backbone."""
    questions = {}
    runs = study.trained_names
    for key, backbone in study.backbones.items():
        batches = [study.recipes[run.recipe].batch_size for run in runs if run.backbone == key]
        if any(map(is_pretrained, backbone.weights)):
            batches.append(study.pretrain.batch_size)
        keys = {"model", "layers", "image_size", "normalize", "preprocessing", "head"}
        questions[key] = {
            **backbone.model_dump(include=keys),
            "pool": backbone.pool_of_job,
            "weights": [w for w in backbone.weights if is_distributed(weight_state(w))],
            "batch_size": min([2, *batches]) if batches else None,
        }
    return questions


def named_classes(study: Study) -> dict[str, dict[str, Any]]:
    """The data sets with names of the user's, whose classes only their files tell."""
    keys = {"source", "location", "name", "arguments", "class_names"}
    return {
        key: dataset.model_dump(include=keys)
        for key, dataset in study.datasets.items()
        if dataset.class_names and dataset.source in ("idx", "torchvision")
    }


def architecture_of(backbone: Backbone) -> Architecture:
    """The network of a backbone; of a size that only its weights say, the usual one."""
    size = None if backbone.image_size == OF_WEIGHTS else backbone.image_size
    return Architecture(backbone.model, size, backbone.head)


def files_of_weights(study: Study) -> list[tuple[str, Architecture, Path, bool, int | None]]:
    """What :func:`collapseflow.features.loading.check_weights` is asked of each backbone whose
    weights are a user's file, behind the backbone's key."""
    return [
        (
            *(key, architecture_of(backbone), Path(source)),
            backbone.classes_of_weights is not None,
            number_of_classes(study, backbone.classes_of_weights),
        )
        for key, backbone in study.backbones.items()
        for source in backbone.weights
        if weight_state(source) == "file"
    ]


def checkpoints(study: Study) -> list[tuple[str, Architecture, Path, bool, int | None, str]]:
    """As :func:`files_of_weights`, of the first and the last checkpoint of each seed of a training
    that was made elsewhere, behind its name.

    The others are checked when they are read: there may be hundreds.
    """
    return [
        (
            *(name, architecture_of(study.backbones[training.backbone]), Path(path)),
            True,
            *(number_of_classes(study, training.dataset), "checkpoints"),
        )
        for name, training in study.trainings.items()
        for files in study.checkpoints[name].values()
        for path in dict.fromkeys([files[min(files)], files[max(files)]])
    ]


def logs(study: Study) -> list[tuple[str, Path, dict[str, str], int, list[int]]]:
    """What :func:`collapseflow.presentation.logs.check_log` is asked of the log of each seed of a
    training that was made elsewhere, behind its name."""
    return [
        (name, Path(path), training.columns, training.counted_from, list(files))
        for name, training in study.trainings.items()
        for seed, files in study.checkpoints[name].items()
        for path in training.logs(seed)
    ]


def number_of_classes(study: Study, dataset: str | None) -> int | None:
    """The number of classes of a data set, where it is known before its images are prepared."""
    if dataset is None:
        return None
    entry = study.datasets[dataset]
    if entry.classes is not None:
        return len(entry.classes)
    if entry.source in SOURCES:
        return SOURCES[entry.source].classes
    return len(class_names(entry.model_dump())) if entry.source in OWN else None


def trained_models(study: Study) -> list[tuple[str, Architecture]]:
    """Each point of a recipe with each network that it trains."""
    runs = study.trained_names
    return list(
        dict.fromkeys((r.recipe, architecture_of(study.backbones[r.backbone])) for r in runs)
    )


def check_once(study: Study, cache: Path) -> None:
    """Run :func:`check_against_libraries` in its own process and remember that it passed.

    The libraries take seconds to import; planning a study a second time does not wait for them.

    Raises
    ------
    UserError
        With one line for each thing that is wrong.
    """
    asked = {
        "datasets": {
            key: [d.name, d.arguments]
            for key, d in study.datasets.items()
            if d.source == "torchvision"
        },
        "saved": {
            key: [d.model_dump(include=SAVED), content(d.model_dump())]
            for key, d in study.datasets.items()
            if d.source == "huggingface"
        },
        "class_names": named_classes(study),
        "vectors": {
            key: [(p, Path(p).stat().st_size, Path(p).stat().st_mtime_ns) for p in files.values()]
            for key, files in study.vectors.items()
            if files
        },
        "backbones": questions_about_networks(study),
        "files": [
            [str(model), path, path.stat().st_size, path.stat().st_mtime_ns, *classes]
            for _, model, path, *classes in files_of_weights(study) + checkpoints(study)
        ],
        "logs": [
            [path, path.stat().st_size, path.stat().st_mtime_ns, *named]
            for _, path, *named in logs(study)
        ],
        "trained": [[study.recipes[p].trained, model] for p, model in trained_models(study)],
        "classifiers": {key: c.model_dump() for key, c in study.classifiers.items()},
        "code": [family_of(b.model).code_of(b.model) for b in study.backbones.values()],
        "versions": [version(name) for name in ("torch", "torchvision", "scikit-learn")],
        "checked_by": __version__,
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    passed = cache / f"{digest}.ok"
    if passed.exists():
        warn(study)
        return
    answer = subprocess.run(
        # Names in a study are any text, also where the locale has ASCII alone.
        [sys.executable, "-X", "utf8", "-m", "collapseflow", "check-config", "-"],
        input=study.model_dump_json(),
        encoding="utf-8",
        capture_output=True,
        check=False,
    )
    if answer.returncode:
        raise UserError(answer.stdout.strip() or answer.stderr.strip())
    warn(study)
    with writable():
        cache.mkdir(parents=True, exist_ok=True)
        passed.touch()


def warn(study: Study) -> None:
    """Say of trainings which epochs have no checkpoint, and what takes long."""
    for name in study.trainings:
        if missing := missing_epochs(study.courses[name].measured_epochs()):
            epochs = ", ".join(map(str, missing))
            logger.warning("trainings.%s: has no checkpoint of epoch %s", name, epochs)
    _warn_of_slow_spectra(study)


def _warn_of_slow_spectra(study: Study) -> None:
    """Say of raw pixels and scattering whose spectrum takes long, a line for each: its time grows
    with the third power of their number, where that is known before the images are read."""
    if not {"spectrum", "transfer"} & set(study.analyses):
        return
    for key, dataset in study.datasets.items():
        if dataset.image_size is None:
            continue
        scattering = study.scattering_of(key)
        height, width = dataset.image_size
        places = {
            "raw": height * width,
            "scattering": (height // 2**scattering.J) * (width // 2**scattering.J),
        }
        for name in study.features if study.features is not None else places:
            if name not in places:
                continue
            values = places[name] * (1 if dataset.is_ink else 3)
            d = values * (scattering.n_coefficients if name == "scattering" else 1)
            minutes = SPECTRUM_SECONDS * d**3 / 60
            if minutes >= SLOW:
                logger.warning(
                    "datasets.%s: the spectrum of %s takes %s minutes of one core or "
                    "more (%s features%s); a smaller size, or `features` without it, takes less",
                    *(key, name, f"{minutes:,.0f}", f"{d:,}"),
                    "" if dataset.is_ink else ", if the images have colours",
                )
