"""Recipes of the study file: named ways of training, their presets, and lists that open a sweep.

A recipe with lists becomes one recipe for each combination of their values, a *point*, named
``<recipe>/<key>=<value>``: names that do not change when a value is added to a list.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from collapseflow.running.section import Label, number
from collapseflow.running.words import as_word
from collapseflow.training.recipes import TrainingRecipe

_REPORT_A = {"epochs": 10, "batch_size": 512, "learning_rate": 2e-4, "head_gain": 0.02}
#: What each preset says; what it leaves out are the defaults of :class:`Recipe`.
PRESETS: dict[str, dict[str, Any]] = {
    # Report A, and with its flaw: batch normalisation took in test images before each checkpoint.
    "report_a": _REPORT_A,
    "report_a_faithful": {**_REPORT_A, "validation": "training_mode"},
    # Papyan, Han and Donoho 2020; the rate is the public notebook's for MNIST.
    "papyan2020": {
        "epochs": 350,
        "batch_size": 128,
        "optimizer": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.0679,
        "weight_decay": 5e-4,
        "schedule": "step",
        "head_gain": None,
        "measure": "log",
    },
    # The last layer alone, on the features of the start.
    "linear_probe": {
        "trained": "head",
        "epochs": 20,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "head_gain": None,
    },
}
#: Keys whose value is a list in itself, or no matter of training: a list there is no sweep.
NOT_SWEPT = ("preset", "label", "steps", "measure")


def _words_or_epochs(value: Any) -> Any:
    words = isinstance(value, str) and value in ("all", "log")
    epochs = isinstance(value, list) and value and all(type(e) is int and e > 0 for e in value)
    if not words and not epochs:
        raise PydanticCustomError("allowed", "all, log, or a list of epochs")
    return value


Measured = Annotated[
    Any,
    AfterValidator(_words_or_epochs),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["all", "log"]},
                {
                    "type": "array",
                    "items": {"type": "integer", "exclusiveMinimum": 0},
                    "minItems": 1,
                },
            ]
        }
    ),
]


class Recipe(TrainingRecipe):
    """How a network is trained, and which epochs are measured."""

    preset: Literal[tuple(PRESETS)] | None = None
    label: Label | None = None
    measure: Measured = "all"

    @model_validator(mode="after")
    def _measured_epochs_are_trained(self) -> "Recipe":
        late = [epoch for epoch in self.measured_from_list() if epoch > self.epochs]
        if late:
            raise ValueError(f"measure: epoch {late[0]} of {self.epochs}; allowed: up to epochs")
        return self

    def measured_from_list(self) -> list[int]:
        """The epochs that are listed one by one; none where a word says which."""
        return self.measure if isinstance(self.measure, list) else []

    def measured_epochs(self) -> list[int]:
        """The trained epochs that are measured, in order; the last one always is.

        ``log`` takes the first five, then each about a quarter later than the one before.
        """
        epochs = {self.epochs, *self.measured_from_list()}
        epoch = 1
        while isinstance(self.measure, str) and epoch < self.epochs:
            epochs.add(epoch)
            epoch = max(epoch + 1, round(1.25 * epoch)) if self.measure == "log" else epoch + 1
        return sorted(epochs)

    def changed(self) -> dict[str, Any]:
        """The preset, and what differs from it; from the defaults where there is none."""
        before = Recipe(preset=self.preset, **PRESETS.get(self.preset, {})).model_dump()
        values = self.model_dump(exclude={"label"})
        different = {key: value for key, value in values.items() if value != before[key]}
        return {**({"preset": self.preset} if self.preset else {}), **different}

    def training(self) -> dict[str, Any]:
        """The keys of :class:`collapseflow.training.recipes.TrainingRecipe`."""
        # A job runs again when what it is told changes: a key that says nothing is not told.
        silent = {"patience"} if self.patience is None else set()
        return self.model_dump(include=TrainingRecipe.model_fields.keys() - silent)


def expand(recipes: Any) -> Any:
    """Take presets in and open sweeps: every point of every recipe by its name.

    What has another form than a study file's is left for the schema to refuse.

    Raises
    ------
    ValueError
        If a sweep has no value, or one twice.
    """
    if not isinstance(recipes, Mapping):
        return recipes
    points = {}
    for name, recipe in recipes.items():
        if not isinstance(recipe, Mapping):
            points[name] = recipe
            continue
        preset = recipe.get("preset", name if name in PRESETS else None)
        whole = {**recipe, "preset": preset}
        if isinstance(preset, str):
            whole = {**PRESETS.get(preset, {}), **whole}
        swept = {
            key: list(map(number, values))
            for key, values in whole.items()
            if isinstance(values, list) and key not in NOT_SWEPT
        }
        for key, values in swept.items():
            words = list(map(as_word, values))
            if not words or len(set(words)) < len(words):
                raise ValueError(
                    f"recipes.{name}.{key}: {values}; allowed: a value, or different ones in a list"
                )
        for chosen in itertools.product(*swept.values()):
            setting = dict(zip(swept, chosen, strict=True))
            points[point_name(name, setting)] = {**whole, **setting}
    return points


def point_name(recipe: object, setting: Mapping[str, Any]) -> Any:
    """The name of a recipe's point with these swept values; the recipe's own without any."""
    words = ",".join(f"{key}={as_word(value)}" for key, value in setting.items())
    return f"{recipe}/{words}" if words else recipe


def recipe_of(point: str) -> str:
    """The name of a point's recipe."""
    return point.partition("/")[0]


def setting_of(point: str, recipe: Recipe) -> dict[str, Any]:
    """The swept keys of a point and their values; none for a recipe without lists."""
    keys = re.findall(r"(?:^|,)(\w+)=", point.partition("/")[2])
    return {key: getattr(recipe, key) for key in keys if key in type(recipe).model_fields}
