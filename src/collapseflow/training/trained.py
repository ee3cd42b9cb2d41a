"""Which layers of a network a recipe trains; the others stay as they are."""

from functools import cache

from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from collapseflow.features.networks import head_parameters, layer_names, skeleton
from collapseflow.running.errors import UserError, did_you_mean
from collapseflow.training.recipes import NetworkRecipe


@cache
def _evaluated(model: str) -> list[tuple[int, str]]:
    """For each layer its place in the order of evaluation and the path of the module or parameter
    behind it (the layer's own name where there is none); for a parameter, where it is used."""
    body = create_feature_extractor(skeleton(model, 7), {n: n for n in layer_names(model)})
    layers = next(node for node in body.graph.nodes if node.op == "output").args[0]
    places = {node: place for place, node in enumerate(layers.values())}
    evaluated = []
    for name, node in layers.items():
        if node.op == "get_attr":
            place = min(places[user] for user in node.users if user in places)
        else:
            place = places[node]
        evaluated.append((place, node.target if node.op in ("call_module", "get_attr") else name))
    return evaluated


def _enclosing(path: str) -> list[str]:
    """A path and those of the modules around it, the outermost last."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _first_trained(model: str, trained: str) -> int:
    """The place, in the order of evaluation, of the first layer that is trained."""
    first = head_parameters(model)[0].rsplit(".", 1)[0] if trained == "head" else trained
    return next(n for n, name in enumerate(layer_names(model)) if first in _enclosing(name))


@cache
def trained_parameters(model: str, trained: str) -> frozenset[str]:
    """Names of the parameters that are first used at a layer or behind it.

    ``trained`` as in :class:`~collapseflow.training.recipes.TrainingRecipe`, but not ``all``.
    """
    first_used: dict[str, int] = {}
    for place, path in sorted(_evaluated(model)):
        first_used.setdefault(path, place)
    start = _first_trained(model, trained)
    return frozenset(
        name
        for name, _ in skeleton(model, 7).named_parameters()
        if next(first_used[path] for path in _enclosing(name) if path in first_used) >= start
    )


def check_trained(model: str, trained: str) -> None:
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
        trained = trained_parameters(recipe.model, recipe.trained)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trained)


def set_to_train(network: nn.Module, recipe: NetworkRecipe) -> None:
    """Put a network into training mode, but what is evaluated before the trained layers into
    evaluation mode: what is frozen always gives the same features."""
    network.train()
    if recipe.trained == "all":
        return
    start = _first_trained(recipe.model, recipe.trained)
    trained = {path for place, path in _evaluated(recipe.model) if place >= start}
    around = {path for name in trained for path in _enclosing(name)}
    for name, module in network.named_modules():
        inside = not trained.isdisjoint(_enclosing(name))
        module.training = name == "" or name in around or inside
