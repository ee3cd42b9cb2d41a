"""The JSON schema of study files: up to date, and of one mind with what reads them."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from collapseflow.__main__ import main
from collapseflow.running.errors import UserError
from collapseflow.study.json_schema import json_schema
from collapseflow.study.schema import load

CONFIG = Path(__file__).parents[2] / "config"
GOOD = {"study": "toy", "datasets": {"digits": {"source": "digits"}}}


def complaints(content):
    return list(jsonschema.Draft202012Validator(json_schema()).iter_errors(content))


def test_the_file_beside_the_studies_is_what_the_command_prints(capsys):
    assert main(["schema"]) == 0
    printed = capsys.readouterr().out
    assert (CONFIG / "schema.json").read_text() == printed, (
        "python -m collapseflow schema > config/schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json.loads(printed))


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_studies_that_come_along_fit_and_name_it(path):
    text = path.read_text()
    assert complaints(yaml.safe_load(text)) == []
    assert text.splitlines()[0] == "# yaml-language-server: $schema=schema.json"


@pytest.mark.parametrize(
    "change",
    [
        {"backbones": {"resnet18": {}}},
        {"datasets": {"mine": {"source": "folder", "location": ".", "size": 64}}},
        {"datasets": {"mine": {"source": "folder", "location": ["."]}}},
        {"classifiers": "report_a"},
        {"classifiers": {"svc": {"estimator": "sklearn.svm.SVC", "parameters": {"C": 2}}}},
        {"variance": None},
        {"style": {"font_size": 9}},
    ],
    ids=str,
)
def test_what_the_workflow_reads_fits(change):
    load({**GOOD, **change})
    assert complaints({**GOOD, **change}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"finetun": {}},
        {"seed": "one"},
        {"device": "gpu"},
        {"datasets": {}},
        {"datasets": {"mine": {"source": "nowhere"}}},
        {"backbones": {"resnet18": {"layers": 3}}},
        {"classifiers": "report_c"},
        {"finetune": {"learning_rate": 0}},
        {"test_fraction": 1.5},
    ],
    ids=str,
)
def test_what_the_workflow_refuses_does_not_fit(change):
    with pytest.raises(UserError):
        load({**GOOD, **change})
    assert complaints({**GOOD, **change})
