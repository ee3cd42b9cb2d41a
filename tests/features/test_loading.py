"""Files of weights in the forms that people have, and the last layer that a file brings."""

import copy
import json
import logging
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel

from collapseflow.features.loading import (
    check_weights,
    describe_weights,
    load_network,
    open_extractor,
)
from collapseflow.features.weights import save_state, weights_digest
from collapseflow.running.errors import UserError

MODEL = "shufflenet_v2_x0_5"
CLASSES = ["ant", "bee", "cat", "dog", "eel"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torchvision.models.get_model(MODEL, num_classes=len(CLASSES)).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def said(caplog):
    """What is logged, as one text."""
    caplog.set_level(logging.INFO, logger="collapseflow")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def optimizer_of(network):
    optimizer = torch.optim.SGD(copy.deepcopy(network).parameters(), 0.1, momentum=0.9)
    return optimizer.state_dict()


def by_lightning(network):
    """What Lightning writes of a module with the network under `net` and a loss with weights."""
    state = {**prefixed("net.", network.state_dict()), "loss.weight": torch.ones(len(CLASSES))}
    return {
        "epoch": 4,
        "global_step": 500,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 5}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [optimizer_of(network)],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "width": None, "classes": CLASSES},
    }


def by_torchvision(network):
    """What torchvision's scripts of reference write."""
    arguments = Namespace(lr=0.1, output_dir=Path("out"), model=MODEL)
    state = network.state_dict()
    return {"model": state, "optimizer": optimizer_of(network), "epoch": 3, "args": arguments}


def compiled_inside(network):
    """Names of a network of which one part is compiled."""
    return {
        name.replace("stage2.", "stage2._orig_mod.", 1): value
        for name, value in network.state_dict().items()
    }


FORMS = {
    "plain": (lambda n: n.state_dict(), ""),
    "lightning": (
        by_lightning,
        "the entry state_dict, names without 'net.', 1 tensor beside it left out (loss.weight)",
    ),
    "torchvision": (by_torchvision, "the entry model"),
    "numpy": (
        lambda n: {"net": n.state_dict(), "best": np.float64(0.9), "n": np.int64(3)},
        "the entry net",
    ),
    **{
        key: (lambda n, key=key: {key: n.state_dict(), "epoch": 2}, f"the entry {key}")
        for key in ("model_state_dict", "network", "ema", "model_ema", "state_dict_ema")
    },
    "averaged beside": (
        lambda n: {"model_ema": prefixed("x", n.state_dict()), "state_dict": n.state_dict()},
        "the entry state_dict, not model_ema",
    ),
    **{
        prefix: (lambda n, p=prefix: prefixed(p, n.state_dict()), f"names without {prefix!r}")
        for prefix in ("model.", "backbone.", "encoder.", "net.", "network.", "model.module.net.")
    },
    "parallel": (lambda n: nn.DataParallel(n).state_dict(), "names without 'module.'"),
    "compiled": (lambda n: torch.compile(n).state_dict(), ""),
    "compiled, parallel": (
        lambda n: torch.compile(nn.DataParallel(n)).state_dict(),
        "names without 'module.'",
    ),
    "parallel, compiled": (
        lambda n: nn.DataParallel(torch.compile(n)).state_dict(),
        "names without 'module.'",
    ),
    "compiled inside": (compiled_inside, ""),
    "averaged": (
        lambda n: {"ema": AveragedModel(n).state_dict()},
        "the entry ema, names without 'module.', 1 tensor beside it left out (n_averaged)",
    ),
}


def assert_is(network, path, images):
    """The file gives the network: equal tensors, equal logits."""
    loaded, _ = load_network(MODEL, path)
    state = network.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(loaded.state_dict()[name], state[name]) for name in state)
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(images), network(images))


@pytest.mark.parametrize("form", FORMS)
def test_weights_come_back_from_each_form_that_people_have_and_it_is_said(
    form, tmp_path, network, images, said
):
    make, words = FORMS[form]
    path = tmp_path / "w.ckpt"
    torch.save(make(network), path)
    assert_is(network, path, images)
    assert said() == (f"{path}: {words}" if words else "")


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "ckpt", "old", "safetensors"])
def test_every_kind_of_file_is_taken(suffix, tmp_path, network, images):
    path = tmp_path / f"w.{suffix}"
    state = prefixed("module.", network.state_dict())
    if suffix == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save({"model": state}, path, _use_new_zipfile_serialization=suffix != "old")
    assert_is(network, path, images)


def assert_refused(path, words, model=MODEL):
    with pytest.raises(UserError, match=words) as caught:
        load_network(model, path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_two_networks_in_one_file_are_refused(tmp_path, network):
    state = network.state_dict()
    path = tmp_path / "w.pth"
    torch.save({**prefixed("student.", state), **prefixed("module.teacher.", state)}, path)
    assert_refused(path, "holds 2 networks, under the prefixes 'module.teacher.', 'student.'; ")
    # The network's own names are no prefix of another one: there is one without, and too much.
    torch.save({**state, **prefixed("teacher.", state)}, path)
    assert_refused(path, rf"{len(state)} tensors are unknown to it \(teacher.conv1.0.weight, ")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "omegaconf-like",
            lambda n: {"state_dict": n.state_dict(), "hyper_parameters": Settings()},
        ),
        ("loss", lambda n: {"state_dict": n.state_dict(), "loss": nn.CrossEntropyLoss()}),
        ("whole", lambda n: n),
    ],
)
def test_what_could_run_code_is_refused_with_what_to_do(name, content, tmp_path, network):
    path = tmp_path / "w.ckpt"
    torch.save(content(network), path)
    line = assert_refused(path, "could run any code")
    named = {"omegaconf-like": "Settings", "loss": "CrossEntropyLoss", "whole": "ShuffleNetV2"}
    assert named[name] in line
    assert "torch.save(torch.load(..., weights_only=False)['state_dict'], ...)" in line


class Settings:
    """What a program of one's own puts into a checkpoint."""


def test_code_does_not_run(tmp_path):
    path, mark = tmp_path / "w.pth", tmp_path / "ran"
    torch.save({"state_dict": {}, "args": Runs(mark)}, path)
    assert_refused(path, "could run any code")
    assert not mark.exists()


class Runs:
    """Makes a file when it is read with pickle."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.filterwarnings("ignore")
def test_a_network_in_torchscript_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    assert_refused(path, r"holds Python objects \(TorchScript\)")


def test_what_does_not_fit_is_counted_and_told_with_shapes(tmp_path, network):
    state = network.state_dict()
    path = tmp_path / "w.pth"
    changed = {
        name: value for name, value in state.items() if not name.startswith("stage2.0.branch1.0.")
    }
    changed |= {"a.weight": torch.ones(1), "conv1.0.weight": torch.ones(24, 1, 3, 3)}
    torch.save({"state_dict": prefixed("net.", changed)}, path)
    line = assert_refused(path, f"not the weights of {MODEL} ")
    assert "(names without 'net.')" in line
    assert "1 tensor is missing (stage2.0.branch1.0.weight)" in line
    assert "1 tensor is unknown to it (a.weight)" in line
    assert (
        "1 tensor is of another shape (conv1.0.weight 24 x 1 x 3 x 3 instead of 24 x 3 x 3" in line
    )
    assert "they fit" not in line
    torch.save({"a": torch.tensor(1.0), "fc.weight": torch.tensor(1.0)}, path)
    line = assert_refused(path, f"not the weights of {MODEL}: ")
    missing = [n for n in state if "num_batches" not in n and not n.startswith("fc.")]
    assert f"{len(missing)} tensors are missing ({', '.join(missing[:3])}, ...)" in line
    assert "1 tensor is of another shape (fc.weight () instead of 1000 x 1024)" in line


def test_the_depth_that_fits_is_told(tmp_path):
    path = tmp_path / "w.pth"
    state = torchvision.models.resnet34(num_classes=7).state_dict()
    torch.save(prefixed("module.", state), path)
    line = assert_refused(path, "; they fit model: resnet34$", "resnet18")
    assert "tensors are unknown to it (layer1.2.conv1.weight, " in line


# --- the last layer ---------------------------------------------------------------------------


def logits(path, images, names, told=False):
    """What the network of a file predicts for a data set; None where it does not."""
    extractor = open_extractor(MODEL, path, ["mean"], "average", "a digest", names, told)
    with torch.inference_mode():
        return extractor(images)[1]


ORDER = [3, 0, 4, 1, 2]


@pytest.mark.parametrize(
    "beside",
    [
        {"class_names": CLASSES},
        {"classes": tuple(CLASSES)},
        {"class_to_idx": {name: CLASSES.index(name) for name in reversed(CLASSES)}},
        {
            "hyper_parameters": {
                "lr": 0.1,
                "class_to_idx": {name: CLASSES.index(name) for name in CLASSES},
            }
        },
        {"classes": 5, "hyper_parameters": {"class_names": CLASSES}},
    ],
    ids=str,
)
@pytest.mark.parametrize("order", [range(5), ORDER], ids=["same", "other"])
def test_the_last_layer_is_used_where_its_class_names_are_the_data_set_s(
    beside, order, tmp_path, network, images, said
):
    path = tmp_path / "w.pth"
    torch.save({"model": network.state_dict(), **beside}, path)
    found = logits(path, images, [CLASSES[n] for n in order])
    with torch.inference_mode():
        # By hand: what the network says of each class, in the order of the data set.
        torch.testing.assert_close(found, network(images)[:, list(order)])
    assert ("put into the data set's order" in said()) == (order is ORDER)


@pytest.mark.parametrize("names", [CLASSES, {name: n for n, name in enumerate(CLASSES)}])
def test_metadata_of_safetensors_name_the_classes(names, tmp_path, network, images):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(network.state_dict(), path, {"class_names": json.dumps(names)})
    with torch.inference_mode():
        torch.testing.assert_close(logits(path, images, CLASSES), network(images))


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"class_names": ["ant", "bee", "cat", "dog", "elk"]},
        {"class_names": [*CLASSES, "fly"]},
        {"class_names": ["ant", "ant", "cat", "dog", "eel"]},
        {"class_names": [[1], [2]]},
        {"class_to_idx": {name: 1 + n for n, name in enumerate(CLASSES)}},
        {"class_to_idx": dict.fromkeys(CLASSES, 0)},
        {"class_names": 5, "hyper_parameters": 3},
    ],
    ids=str,
)
def test_equal_numbers_of_classes_are_no_equal_classes(beside, tmp_path, network, images, said):
    path = tmp_path / "w.pth"
    torch.save({"model": network.state_dict(), **beside}, path)
    assert logits(path, images, CLASSES) is None
    assert ("its last layer is not used: it tells other classes (ant, " in said()) == (
        isinstance(beside.get("class_names"), list) and beside["class_names"][0] == "ant"
    )
    # The study may say what the file does not.
    with torch.inference_mode():
        torch.testing.assert_close(logits(path, images, CLASSES, told=True), network(images))
    assert "as the study file says" in said()


def test_names_put_classes_into_order_also_where_the_study_says_that_they_are(
    tmp_path, network, images
):
    path = tmp_path / "w.pth"
    torch.save({"model": network.state_dict(), "classes": CLASSES}, path)
    found = logits(path, images, [CLASSES[n] for n in ORDER], told=True)
    with torch.inference_mode():
        torch.testing.assert_close(found, network(images)[:, ORDER])


def test_a_last_layer_of_other_classes_or_none_is_refused_where_the_study_says_it_tells_them(
    tmp_path, network
):
    path = tmp_path / "w.pth"
    torch.save(network.state_dict(), path)
    check_weights(MODEL, path, told=True, n_classes=5)
    check_weights(MODEL, path, told=True, n_classes=None)
    with pytest.raises(UserError, match="^weights: .*its last layer tells 5 classes, .* has 4; "):
        check_weights(MODEL, path, told=True, n_classes=4)
    with pytest.raises(UserError, match="w.pth: its last layer tells 5 classes, .* has 4; "):
        open_extractor(MODEL, path, ["mean"], "average", "a digest", CLASSES[:4], told=True)
    body = {name: v for name, v in network.state_dict().items() if not name.startswith("fc.")}
    torch.save(body, path)
    with pytest.raises(UserError, match=r"^weights: .*w.pth: lacks fc.weight, fc.bias, "):
        check_weights(MODEL, path, told=True, n_classes=5)


def test_before_any_job_it_is_said_how_a_file_is_taken(tmp_path, network, said):
    path = tmp_path / "w.ckpt"
    torch.save(by_lightning(network), path)
    check_weights(MODEL, path)
    assert (
        said() == f"{path}: {FORMS['lightning'][1]}; a last layer of 5 classes (ant, bee, cat, ...)"
    )


def test_the_provenance_says_how_a_file_was_taken_and_which_last_layer_predicts(tmp_path, network):
    path = tmp_path / "w.ckpt"
    torch.save(by_lightning(network), path)
    of_tensors = f"SHA-256 of the tensors {weights_digest(path)}"
    words = [f"file w.ckpt; {FORMS['lightning'][1]}", of_tensors]
    used = "its last layer tells the data set's classes"
    assert describe_weights(MODEL, path, "", CLASSES, False) == f"{words[0]}; {used}; {words[1]}"
    # Ours say themselves what they are.
    save_state(path.with_suffix(".safetensors"), network.state_dict(), {"weights": "ours"})
    plain = describe_weights(MODEL, path.with_suffix(".safetensors"), "", CLASSES, False)
    digest = weights_digest(path.with_suffix(".safetensors"))
    assert plain == f"ours; SHA-256 of the tensors {digest}"
