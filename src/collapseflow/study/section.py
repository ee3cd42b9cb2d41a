"""What every section of the study file is made of: strict sections, and texts with a pattern."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: What each pattern of the schema allows, in words.
PATTERNS: dict[str, str] = {}


def text(pattern: str, words: str) -> type:
    """The type of a text that has a pattern, which messages tell in words."""
    PATTERNS[pattern] = words
    return Annotated[str, StringConstraints(pattern=pattern)]


PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A part of the study file: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
