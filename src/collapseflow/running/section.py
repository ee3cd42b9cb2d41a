"""What every section of the study file is made of: strict sections, numbers, texts."""

import re
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
)

from collapseflow.running.words import CONTROL

#: What each pattern of the schema allows, in words.
PATTERNS: dict[str, str] = {}


def text(pattern: str, words: str) -> type:
    """The type of a text that has a pattern, which messages tell in words."""
    PATTERNS[pattern] = words
    return Annotated[str, StringConstraints(pattern=pattern)]


def number(value: Any) -> Any:
    """A number for a text such as ``2e-4``; every other value as it is.

    It is a number in YAML 1.2 and JSON, but text in YAML 1.1, which PyYAML and Snakemake read:
    there the mantissa needs a point and the exponent a sign.
    """
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+", value):
        return float(value)
    return value


def at_most(most: int) -> type:
    """The type of a whole number from 1 to ``most``."""
    return Annotated[PositiveInt, Field(le=most)]


def between(least: float, most: float) -> type:
    """The type of a number from ``least`` to ``most``."""
    return Annotated[float, Field(ge=least, le=most), BeforeValidator(number)]


#: Names in figures, tables and on pages.
Label = text(
    rf"^[^{CONTROL}]{{1,200}}$", "1 to 200 characters, none of which ends a line or turns the text"
)
#: Epochs of a training.
Epochs = at_most(10_000)
#: Pixels a side.
Pixels = at_most(10_000)
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(number)]
Fraction = Annotated[float, Field(gt=0, lt=1), BeforeValidator(number)]


class Section(BaseModel):
    """A part of the study file: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
