"""The study file's keys as a JSON schema, by which editors complete and check them."""

from typing import Any

from collapseflow.study.recipes import NOT_SWEPT
from collapseflow.study.schema import NAME, PRESETS, Study

#: A key of a study file, by the section that it is in, and a form in which it can be given beside
#: the one that it has once a study file is read.
SHORTHANDS = {
    ("Dataset", "location"): {"type": "string"},
    ("Study", "classifiers"): {
        "anyOf": [
            {"type": "string", "enum": sorted(PRESETS)},
            {"type": "array", "items": {"type": "string", "enum": sorted(PRESETS)}},
        ]
    },
}
#: Keys that reading a study file fills in where they are absent.
FILLED_IN = {("Backbone", "model")}


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of study files as users write them."""
    whole = Study.model_json_schema()
    sections = {**whole["$defs"], "Study": whole}
    for section in sections.values():
        # Pydantic's titles repeat the keys.
        section.pop("title", None)
        for properties in section["properties"].values():
            properties.pop("title", None)
    for (section, key), form in SHORTHANDS.items():
        properties = sections[section]["properties"]
        properties[key] = {"anyOf": [form, properties[key]]}
    recipe = sections["Recipe"]["properties"]
    for key, one in recipe.items():
        if key not in NOT_SWEPT:
            recipe[key] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    # Points with their longer names come from lists alone.
    recipes = sections["Study"]["properties"]["recipes"]
    recipes["patternProperties"] = {NAME: {"$ref": "#/$defs/Recipe"}}
    for section, key in FILLED_IN:
        sections[section]["required"].remove(key)
        if not sections[section]["required"]:
            del sections[section]["required"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}
