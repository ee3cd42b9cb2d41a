"""Layers of networks that cannot be traced, read by forward hooks.

Layers are modules, by their paths; one that is called more than once is read at its first call. The
input of the last layer, which no module may give, is called ``penultimate``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from collapseflow.features.known import PENULTIMATE


class _AllRead(BaseException):
    """Ends a forward pass behind the last layer that is read; no network's own code catches it."""


class Hooked(nn.Module):
    """A network in evaluation mode that gives the outputs of modules.

    Parameters
    ----------
    taken
        By layer, what is done with its output the moment it is made: layers behind it may work in
        place.
    head
        The last layer, whose input is ``penultimate``.
    with_output
        Whether the network's own output is wanted; else nothing is computed behind the last layer
        that is read.
    """

    def __init__(
        self,
        network: nn.Module,
        taken: Mapping[str, Callable[[Any], Any]],
        head: str,
        with_output: bool,
    ):
        super().__init__()
        self.network = network.eval()
        self.taken = dict(taken)
        self.head = head
        self.with_output = with_output

    def forward(self, images: torch.Tensor) -> tuple[dict[str, Any], Any]:
        """What was taken of each layer, of those that are reached; the output or None."""
        found: dict[str, Any] = {}

        def take(layer: str, output: Any) -> None:
            if layer not in found:
                found[layer] = self.taken[layer](output)
            if not self.with_output and len(found) == len(self.taken):
                raise _AllRead

        handles = [self._listen(layer, take) for layer in self.taken]
        output = None
        try:
            output = self.network(images)
        except _AllRead:
            pass
        finally:
            for handle in handles:
                handle.remove()
        in_order = {layer: found[layer] for layer in self.taken if layer in found}
        return in_order, output if self.with_output else None

    def _listen(self, layer: str, take: Callable[[str, Any], None]):
        if layer == PENULTIMATE:
            module = self.network.get_submodule(self.head)
            return module.register_forward_pre_hook(lambda _, inputs: take(layer, inputs[0]))
        module = self.network.get_submodule(layer)
        return module.register_forward_hook(lambda _, inputs, output: take(layer, output))


@torch.no_grad()
def names_in_order(network: nn.Module, head: str, images: torch.Tensor) -> list[str]:
    """The modules that images pass, in the order in which their outputs are made, and
    ``penultimate`` before the last layer."""
    layers = [name for name, _ in network.named_modules() if name]
    order: list[str] = []
    taken = {layer: lambda _, layer=layer: order.append(layer) for layer in layers}
    taken[PENULTIMATE] = lambda _: order.append(PENULTIMATE)
    Hooked(network, taken, head, with_output=True)(images)
    return order


@torch.no_grad()
def ends_in(network: nn.Module, head: str, images: torch.Tensor) -> bool:
    """Whether what the last layer gives is what the network gives."""
    found, output = Hooked(network, {head: lambda given: given}, head, with_output=True)(images)
    return found.get(head) is output
