"""Which layers of a network a recipe trains; the others stay as they are."""

from functools import cache

from torch import nn

from collapseflow.features.known import Model
from collapseflow.features.networks import (
    evaluated,
    head_layer,
    head_parameters,
    layer_names,
    skeleton,
)
from collapseflow.running.errors import UserError, did_you_mean
from collapseflow.training.recipes import NetworkRecipe


def _enclosing(path: str) -> list[str]:
    """A path and those of the modules around it, the outermost last."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _first_trained(model: Model, trained: str) -> int:
    """The place, in the order of evaluation, of the first layer that is trained."""
    first = head_layer(model) if trained == "head" else trained
    return next(n for n, name in enumerate(layer_names(model)) if first in _enclosing(name))


@cache
def trained_parameters(model: Model, trained: str) -> frozenset[str]:
    """Names of the parameters that are first used at a layer or behind it.

    ``trained`` as in :class:`~collapseflow.training.recipes.TrainingRecipe`, but not ``all``.
    """
    first_used: dict[str, int] = {}
    for place, path in sorted(evaluated(model)):
        first_used.setdefault(path, place)
    start = _first_trained(model, trained)
    return frozenset(
        name
        for name, _ in skeleton(model, 7).named_parameters()
        if next(first_used[path] for path in _enclosing(name) if path in first_used) >= start
    )


def check_trained(model: Model, trained: str) -> None:
    """Refuse a recipe's ``trained`` that does not fit a model.

    Raises
    ------
    UserError
        If it is no layer of the model, or one behind the last layer, which is new.
    """
    if trained in ("all", "head"):
        return
    known = {path for name in layer_names(model) for path in _enclosing(name)}
    if trained not in known:
        raise UserError(
            f"trained: {trained!r} is no layer of {model}; {did_you_mean(trained, sorted(known))}"
            f"allowed: all, head, or a layer: python -m collapseflow layers {model}"
        )
    if not trained_parameters(model, trained).issuperset(head_parameters(model)):
        raise UserError(
            f"trained: {trained!r} leaves the last layer of {model} untrained; "
            "allowed: all, head, or a layer before it"
        )


def freeze(network: nn.Module, recipe: NetworkRecipe) -> None:
    """Let gradients reach only the parameters that are trained."""
    if recipe.trained != "all":
        trained = trained_parameters(recipe.architecture, recipe.trained)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trained)


def set_to_train(network: nn.Module, recipe: NetworkRecipe) -> None:
    """Put a network into training mode, but what is evaluated before the trained layers into
    evaluation mode: what is frozen always gives the same features."""
    network.train()
    if recipe.trained == "all":
        return
    start = _first_trained(recipe.architecture, recipe.trained)
    trained = {path for place, path in evaluated(recipe.model) if place >= start}
    around = {path for name in trained for path in _enclosing(name)}
    for name, module in network.named_modules():
        inside = not trained.isdisjoint(_enclosing(name))
        module.training = name == "" or name in around or inside
