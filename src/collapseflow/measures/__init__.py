"""What features are asked: collapse, variances, probes, t-SNE."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collapseflow.measures.online import Collapse as Collapse

#: What stands here under its own name, and the module it is imported from when it is asked for.
_MODULES = {"Collapse": "online"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
