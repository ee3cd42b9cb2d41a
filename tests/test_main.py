"""The commands for study files and layers."""

import pytest
import torch
from torchvision import models

from collapseflow.__main__ import main


def test_a_study_file_that_is_right_is_told_in_one_line(tmp_path, capsys):
    path = tmp_path / "my.yaml"
    path.write_text("study: toy\ndatasets: {digits: {source: digits}}\n")
    assert main(["check-config", str(path)]) == 0
    assert capsys.readouterr().out == (
        f"{path}: all right; study toy, data sets digits, backbones none\n"
    )


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("colour: 1\n", "config key colour: is unknown; "),
        ("study: two\n", "PATH, line 3: the key study stands in line 1 already"),
        (
            "backbones: {vgg16: {image_size: 16, weights: [random]}}\n",
            "config key backbones.vgg16.image_size: 16 is refused by vgg16; allowed: 32 or more",
        ),
    ],
)
def test_a_study_file_that_is_wrong_is_told_in_one_line(tmp_path, capsys, more, line):
    path = tmp_path / "my.yaml"
    path.write_text(f"study: toy\ndatasets: {{digits: {{source: digits}}}}\n{more}")
    assert main(["check-config", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(line.replace("PATH", str(path)))
    assert out.count("\n") == 1 and not err


def test_layers_are_listed_with_the_shapes_that_hooks_see(capsys):
    assert main(["layers", "resnet18", "--image-size", "64"]) == 0
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    width = max(map(len, rows))
    network = models.resnet18().eval()
    seen = {}

    def remember(name):
        def hook(module, inputs, output):
            seen.setdefault(name, output.shape[1:])

        return hook

    for name, module in network.named_modules():
        if name and not list(module.children()):
            module.register_forward_hook(remember(name))
    with torch.no_grad():
        network(torch.rand(1, 3, 64, 64))
    for name, shape in seen.items():
        assert rows[name] == f"{name:{width}}  {' x '.join(map(str, shape))}"
    assert rows["flatten"].split() == ["flatten", "512", "(default)"]
    assert list(rows)[-1] == "fc"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["resnet19"], "model: 'resnet19' is unknown; did you mean 'resnet18'? allowed: alexnet, "),
        (["vit_b_16", "--image-size", "32"], "image_size: 32 is refused by vit_b_16; allowed: 224"),
    ],
)
def test_layers_of_what_cannot_be_are_one_line(capsys, words, line):
    assert main(["layers", *words]) == 1
    assert capsys.readouterr().out.startswith(line)
