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
        {"features": []},
        {"seeds": [0, 1]},
        {"recipes": {"papyan2020": {}, "report_a": {"epochs": 3}}},
        {"recipes": {"mine": {"preset": "linear_probe", "head_gain": None, "label": "Mine"}}},
        {"recipes": {"mine": {"weight_decay": [0, 0.1], "loss": ["mse", "cross_entropy"]}}},
        {"recipes": {"mine": {"head_gain": [None, 1], "trained": ["head", "layer4"]}}},
        {"recipes": {"mine": {"measure": "log"}}},
        {"recipes": {"mine": {"measure": [1, 2], "schedule": "step", "steps": [0.5]}}},
        {"backbones": {"resnet18": {"layers": ["layer4", "penultimate"]}}, "runs": [{}]},
        {"backbones": {"resnet18": {}}, "runs": [{"backbones": ["resnet18"], "seeds": [0]}]},
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
        {"finetune": {"epochs": 3}},
        {"pretrain": {"learning_rate": 0}},
        {"seeds": []},
        {"recipes": {"mine": {"learning_rate": 0}}},
        {"recipes": {"mine": {"weight_decay": []}}},
        {"recipes": {"mine": {"weight_decay": [0, -1]}}},
        {"recipes": {"mine": {"weight_decay": [[0]]}}},
        {"recipes": {"mine": {"preset": ["report_a"]}}},
        {"recipes": {"mine": {"preset": "report_b"}}},
        {"recipes": {"mine": {"measure": "some"}}},
        {"recipes": {"mine": {"measure": [0]}}},
        {"recipes": {"mine": {"measure": []}}},
        {"recipes": {"mine": {"steps": 0.5, "schedule": "step"}}},
        {"recipes": {"mine": {"augmentation": "turn"}}},
        {"runs": {}},
        {"runs": [{"seed": [0]}]},
        {"test_fraction": 1.5},
    ],
    ids=str,
)
def test_what_the_workflow_refuses_does_not_fit(change):
    with pytest.raises(UserError):
        load({**GOOD, **change})
    assert complaints({**GOOD, **change})
