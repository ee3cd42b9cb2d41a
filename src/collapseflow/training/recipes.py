"""A recipe: how a network is trained. Its keys, their defaults, and which of them go together.

Planning reads recipes, too: nothing here imports PyTorch.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from collapseflow.features.inputs import NetworkKeys
from collapseflow.running.section import Epochs, Fraction, PositiveFloat, Section, number, text

#: What ``validation`` may be beside a share of the training images.
VALIDATIONS = ("none", "training_mode")

Augmentation = text(
    r"^(none|(shift|flip|crop)(\+(shift|flip|crop))*)$",
    "none, or of shift, flip and crop some, with + between them",
)
Trained = text(r"^(all|head|[A-Za-z0-9_.]+)$", "all, head, or the name of a layer")


def _words_or_share(value: Any) -> Any:
    word = isinstance(value, str) and value in VALIDATIONS
    if not word and not (type(value) is float and 0 < value < 1):
        raise PydanticCustomError(
            "allowed", f"{', '.join(VALIDATIONS)}, or a share of the training images, as 0.1"
        )
    return value


Validation = Annotated[
    Any,
    BeforeValidator(number),
    AfterValidator(_words_or_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(VALIDATIONS)},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            ]
        }
    ),
]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(number)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), BeforeValidator(number)]


class TrainingRecipe(Section):
    """How networks are trained, whichever they are.

    Attributes
    ----------
    momentum, nesterov
        Of ``sgd`` only.
    weight_decay
        Of all parameters that are trained (Papyan, Han and Donoho 2020): added to the gradient by
        ``sgd`` and ``adam``, decoupled from it by ``adamw`` (Loshchilov and Hutter 2019).
    schedule
        ``step`` multiplies the rate by ``step_factor`` after each share of the epochs in
        ``steps``; ``cosine`` lowers it to 0 (Loshchilov and Hutter 2017).
    warmup
        Epochs in which the rate rises from 0, before ``schedule`` (Goyal et al. 2017).
    loss
        ``mse``: see :func:`collapseflow.training.optimisation.loss_function`.
        ``label_smoothing`` is of ``cross_entropy`` only (Szegedy et al. 2016).
    trained
        ``all``, ``head`` (the last layer), or a layer: this one and all that are evaluated after
        it.
    head_gain
        Gain of the new last layer's Xavier-normal weights; None leaves the network's own
        initialisation.
    augmentation
        ``none``, or of ``shift``, ``flip`` and ``crop`` some, joined by ``+`` in the order in which
        they are applied; see :func:`collapseflow.training.augmentation.augment`.
    validation
        A share of the training images, above 0 and below 1: they are held out, in the proportions
        of the classes and drawn by ``seed``, and say after each epoch how good the network is
        (:func:`collapseflow.training.loop.validate`). ``training_mode``: after each epoch the test
        images go through the network as it is left by training, as in report A; see
        :func:`collapseflow.training.loop.leak_test_images`.
    patience
        Training stops when the loss on the images that are held out has had no new minimum in so
        many epochs (Prechelt 1998); the epochs that would follow have the weights of the best one.
        None trains all epochs.
    """

    epochs: Epochs = 10
    batch_size: PositiveInt = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 2e-4
    momentum: ShareBelowOne = 0.0
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "step", "cosine"] = "constant"
    steps: Annotated[list[Fraction], Field(min_length=1)] = [1 / 3, 2 / 3]
    step_factor: Fraction = 0.1
    warmup: NonNegativeInt = 0
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    label_smoothing: ShareBelowOne = 0.0
    trained: Trained = "all"
    head_gain: PositiveFloat | None = 0.02
    augmentation: Augmentation = "none"
    validation: Validation = "none"
    patience: PositiveInt | None = None

    @model_validator(mode="after")
    def _keys_go_together(self) -> "TrainingRecipe":
        default = type(self).model_fields
        for key, needed, value in (
            ("momentum", "optimizer", "sgd"),
            ("steps", "schedule", "step"),
            ("step_factor", "schedule", "step"),
            ("label_smoothing", "loss", "cross_entropy"),
        ):
            if getattr(self, needed) != value and getattr(self, key) != default[key].default:
                raise ValueError(
                    f"{key}: goes only with {needed} {value!r}, not with {getattr(self, needed)!r}"
                )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: needs a momentum above 0 (optimizer 'sgd')")
        if self.patience and self.share_held_out is None:
            raise ValueError(
                f"patience: needs images that are held out, not validation {self.validation!r}; "
                "allowed: with a share of the training images as validation, as 0.1"
            )
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup: {self.warmup} epochs of {self.epochs}; allowed: fewer than epochs"
            )
        if sorted(set(self.steps)) != self.steps:
            raise ValueError(f"steps: {self.steps}; allowed: ascending shares of the epochs")
        parts = self.augmentation.split("+")
        if len(set(parts)) < len(parts):
            raise ValueError(f"augmentation: {self.augmentation!r}; allowed: each once")
        return self

    @property
    def share_held_out(self) -> float | None:
        """The share of the training images that is held out; None if all are trained on."""
        return None if isinstance(self.validation, str) else self.validation


class NetworkRecipe(TrainingRecipe, NetworkKeys):
    """How one network is trained.

    Attributes
    ----------
    precision
        See :func:`collapseflow.running.hardware.pick_precision`; the weights and the optimiser's
        moments are float32 in any case.
    """

    seed: int


def identity(recipe: NetworkRecipe) -> dict[str, Any]:
    """What decides the values of an epoch's weights, JSON-like.

    Keys that do nothing are left out. ``epochs`` is among the rest only where the course of the
    learning rate depends on it: else more epochs go on after the last one.
    """
    void = {
        "epochs": recipe.schedule == "constant",
        "momentum": recipe.optimizer != "sgd",
        "nesterov": recipe.optimizer != "sgd",
        "steps": recipe.schedule != "step",
        "step_factor": recipe.schedule != "step",
        "label_smoothing": recipe.loss != "cross_entropy",
        "validation": recipe.validation == "none",
        "patience": recipe.patience is None,
        **{key: getattr(recipe, key) == value for key, value in recipe.later().items()},
    }
    return {key: value for key, value in recipe.model_dump().items() if not void.get(key, False)}
