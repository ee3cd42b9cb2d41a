"""Families of networks: a user's own modules, layers by hooks, tokens, sizes, last layers."""

import copy
import os
import sys

import pytest
import torch
import torchvision.models
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from collapseflow.features import reading
from collapseflow.features.checks import check_backbone, layer_shapes
from collapseflow.features.families import FAMILIES, family_of
from collapseflow.features.families.module import FOLDERS, code_of
from collapseflow.features.known import Architecture
from collapseflow.features.loading import load_network, open_extractor
from collapseflow.features.networks import (
    build,
    ends_in_head,
    evaluated,
    head_layer,
    head_parameters,
    layer_names,
    layers_before_the_last,
    make_head,
    penultimate_layer,
    poolings,
    skeleton,
)
from collapseflow.features.pooling import Pooling, pool
from collapseflow.features.reading import FeatureExtractor
from collapseflow.features.weights import save_state
from collapseflow.running.errors import UserError
from collapseflow.training.recipes import NetworkRecipe
from collapseflow.training.trained import set_to_train, trained_parameters

# A network of ten lines, and one that branches by what it sees, which no tracer follows.
MINE = '''
import torch
from torch import nn

from parts import block


class Mine(nn.Module):
    def __init__(self, n_classes, branches=False):
        super().__init__()
        self.one, self.two = block(3, 8), block(8, 16)
        self.classifier2 = nn.Linear(16, n_classes)
        self.branches = branches

    def forward(self, images):
        maps = self.two(self.one(images))
        if self.branches and maps.sum() < -1e9:
            maps = -maps
        return self.classifier2(maps.mean((2, 3)))


def plain(n_classes):
    return Mine(n_classes)


def branching(n_classes):
    return Mine(n_classes, branches=True)


class Tokens(nn.Module):
    """Tokens of patches of 8 x 8 pixels behind a class token and two registers."""

    def __init__(self, n_classes, image_size):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 12))
        self.registers = nn.Parameter(torch.randn(1, 2, 12))
        self.positions = nn.Parameter(torch.randn(1, (image_size // 8) ** 2, 12))
        self.block = nn.Sequential(nn.Linear(12, 12), nn.Tanh())
        self.head = nn.Linear(12, n_classes)

    def forward(self, images):
        places = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        extra = [p.expand(len(images), -1, -1) for p in (self.cls_token, self.registers)]
        return self.head(self.block(torch.cat([*extra, places], dim=1))[:, 0])


def tokens(n_classes, image_size=32):
    return Tokens(n_classes, image_size)


class TwoHeads(Mine):
    """The other one, which nothing reaches, comes first."""

    def __init__(self, n_classes, branches=False):
        nn.Module.__init__(self)
        self.auxiliary = nn.Linear(4, n_classes)
        whole = Mine(n_classes)
        self.one, self.two, self.classifier2 = whole.one, whole.two, whole.classifier2
        self.branches = branches


def two_heads(n_classes):
    return TwoHeads(n_classes)


def two_heads_branching(n_classes):
    return TwoHeads(n_classes, branches=True)


class Clock(Mine):
    """Makes a tensor on a device of its own."""

    def forward(self, images):
        return super().forward(images) * torch.arange(1, 2, device="cpu")


def clock(n_classes):
    return Clock(n_classes)


def for_seven(n_classes):
    return Mine(7)


def gives_text(n_classes):
    return "network"


def takes_nothing():
    return Mine(7)


def raises(n_classes):
    raise KeyError("depth")


class Pair(Mine):
    def forward(self, images):
        return super().forward(images), images


def pair(n_classes):
    return Pair(n_classes)


class Wrong(Mine):
    def forward(self, images):
        return self.classifer2(images)


def wrong(n_classes):
    return Wrong(n_classes)
'''
PARTS = """
from torch import nn


def block(n_in, n_out):
    layers = nn.Conv2d(n_in, n_out, 3, 2, 1), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)
    return nn.Sequential(*layers)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a user's modules, beside the study file."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "parts.py").write_text(PARTS)
    monkeypatch.setenv(FOLDERS, str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mine", "parts", "broken"):
            del sys.modules[name]
    for asked in (skeleton, layer_names, head_parameters, head_layer, penultimate_layer, evaluated):
        asked.cache_clear()
    ends_in_head.cache_clear()
    code_of.cache_clear()


def by_hand(network, images):
    """The maps before the in-place ReLU of the second block, and behind it, of ``Mine``."""
    convolution, norm, _ = network.two
    before = norm(convolution(network.one(images)))
    return before, torch.relu(before)


@pytest.mark.parametrize("model", ["mine:plain", "mine:branching"])
def test_a_network_of_ten_lines_is_read_as_it_computes_traced_or_by_hooks(mine, tmp_path, model):
    assert (reading.traced_names(skeleton(model, 7)) is None) == (model == "mine:branching")
    assert head_layer(model) == "classifier2"
    torch.manual_seed(0)
    network = make_head(build(model, 1000), model, 5, 1.0).eval()
    network.two[1].running_mean.uniform_(-1, 1)
    save_state(tmp_path / "w.safetensors", network.state_dict(), {"task": "theirs"})
    # The batch normalisation is read before the ReLU that works in place on it.
    last = penultimate_layer(model)
    layers = ["one", "two.1", "two", last]
    extractor = open_extractor(model, tmp_path / "w.safetensors", layers, "average", "theirs")
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        features, logits = extractor(images)
        before, behind = by_hand(network, images)
        expected = network(images)
    assert list(features) == layers
    torch.testing.assert_close(features["two.1"], before.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features["two"], behind.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features[last], behind.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    weight, bias = extractor.head
    assert (weight == network.classifier2.weight.detach().numpy()).all() and bias.shape == (5,)
    assert last in layers_before_the_last(model)


def test_one_network_read_both_ways_gives_equal_features(monkeypatch):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=6).eval()
    layers = ["layer1.0.bn1", "layer2.1", "layer4", "avgpool"]
    pools = {layer: Pooling("average", (2, 3)) for layer in layers}
    images = torch.randn(2, 3, 64, 64)
    found = []
    for traced in (True, False):
        if not traced:
            monkeypatch.setattr(reading, "traced_names", lambda network: None)
        extractor = FeatureExtractor(copy.deepcopy(network), pools, True, "fc", True)
        with torch.inference_mode():
            found.append(extractor(images))
    assert list(found[0][0]) == list(found[1][0]) == layers
    for layer in layers:
        torch.testing.assert_close(found[0][0][layer], found[1][0][layer], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


def test_by_hooks_nothing_is_computed_behind_the_last_layer_that_is_read(mine):
    network = build("mine:branching", 7)
    extractor = FeatureExtractor(network, {"one": Pooling("flatten")}, False, "classifier2")
    monitored = []
    network.two.register_forward_hook(lambda *_: monitored.append(1))
    with torch.inference_mode():
        _, logits = extractor(torch.randn(1, 3, 32, 32))
    assert logits is None and not monitored
    assert not network.one._forward_hooks


def test_layers_by_hooks_are_listed_with_their_shapes(mine):
    shapes = layer_shapes("mine:branching", 32)
    assert shapes["one"] == (8, 16, 16) and shapes["two.2"] == (16, 8, 8)
    assert shapes["penultimate"] == (16,) and shapes["classifier2"] == (1000,)
    assert list(shapes)[-2:] == ["penultimate", "classifier2"]


def test_a_network_that_makes_tensors_of_its_own_is_asked_with_values(mine):
    check_backbone("mine:clock", ["two", "penultimate"], [], 32, batch_size=2)
    assert not next(skeleton("mine:clock", 7).parameters()).is_meta


@pytest.mark.parametrize("model", ["mine:plain", "mine:branching"])
def test_what_is_not_trained_stays_in_evaluation_mode_by_hooks_too(mine, model):
    network = build(model, 7)
    recipe = NetworkRecipe(
        model=model, image_size=32, normalize="none", precision="float32", seed=0, trained="two.1"
    )
    set_to_train(network, recipe)
    assert network.two[1].training and network.classifier2.training
    assert not network.two[0].training and not network.one[1].training


@pytest.mark.parametrize("model", ["mine:plain", "mine:branching"])
def test_what_is_trained_from_a_layer_on_is_the_same_by_hooks(mine, model):
    of_two = {"two.0.weight", "two.0.bias", "two.1.weight", "two.1.bias"}
    head = {"classifier2.weight", "classifier2.bias"}
    assert trained_parameters(model, "two") == of_two | head
    assert trained_parameters(model, "head") == head


# --- a user's code ----------------------------------------------------------------------------


def test_the_digest_is_of_the_module_and_of_what_it_imports_beside_it(mine):
    def digest():
        code_of.cache_clear()
        return code_of("mine:plain")

    before = digest()
    (mine / "other.py").write_text("x = 1\n")
    assert digest() == before != ""
    (mine / "parts.py").write_text(PARTS + "\n# a comment\n")
    changed = digest()
    assert changed != before
    (mine / "mine.py").write_text(MINE + "\n")
    assert digest() not in (before, changed)
    assert code_of("torchvision.models:resnet18") == ""


@pytest.mark.parametrize(
    "line", ["from . import deep", "from .deep import x", "import pkg.deep", "from pkg import deep"]
)
def test_modules_of_a_package_count_however_they_are_imported(tmp_path, monkeypatch, line):
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    (tmp_path / "pkg").mkdir()
    for name, text in (("__init__", ""), ("nets", f"def f():\n    {line}\n"), ("deep", "x = 1")):
        (tmp_path / "pkg" / f"{name}.py").write_text(text)
    found = []
    for text in ("x = 1", "x = 2"):
        (tmp_path / "pkg" / "deep.py").write_text(text)
        code_of.cache_clear()
        found.append(code_of("pkg.nets:f"))
    code_of.cache_clear()
    assert found[0] != found[1]


def test_a_module_is_found_in_the_folder_that_one_works_in(tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDERS, raising=False)
    (tmp_path / "broken.py").write_text(
        "from torch import nn\ndef net(n):\n    return nn.Linear(3, n)"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert family_of("broken:net").build("broken:net", 4, None).out_features == 4
    assert sys.path == before
    del sys.modules["broken"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("mine:for_seven", "head: no layer of mine:for_seven has another shape .* classifier2$"),
        ("mine:gives_text", "model: 'mine:gives_text' gives str; allowed: a torch.nn.Module"),
        ("mine:takes_nothing", r"is takes_nothing\(\); allowed: function\(n_classes\)"),
        ("mine:raises", "model: 'mine:raises' raised KeyError: 'depth'"),
        ("mine:planes", "mine has no function 'planes'; did you mean 'plain'"),
        ("mine:pair", "model: mine:pair, built for 7 classes, gives tuple of 5 images"),
        ("mine:wrong", "mine:wrong fails with images of 32 pixels .*no attribute 'classifer2'"),
        ("nine:plain", "cannot be imported: there is no module 'nine' in "),
        ("broken:net", r"cannot be imported: SyntaxError: .*broken.py, line 1\)"),
        ("timm/resnet18", "timm is not installed; pip install timm"),
    ],
)
def test_what_is_wrong_with_a_user_s_network_is_told_in_one_line(mine, monkeypatch, model, words):
    (mine / "broken.py").write_text("def net(n:\n")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=words) as caught:
        check_backbone(model, ["penultimate"], [], 32, batch_size=2)
    assert "\n" not in str(caught.value)


def test_layers_that_no_image_reaches_are_told_apart_from_unknown_ones(mine):
    for model in ("mine:two_heads", "mine:two_heads_branching"):
        with pytest.raises(UserError, match=f"'auxiliary' of {model} is never reached"):
            check_backbone(model, ["auxiliary"], [], 32)
        with pytest.raises(UserError, match="layers: 'ones' is no layer .* did you mean 'one'"):
            check_backbone(model, ["ones"], [], 32)


def test_the_last_layer_can_be_named(mine):
    named = Architecture("mine:two_heads", head="classifier2")
    for model in ("mine:two_heads", "mine:two_heads_branching"):
        # The first that an image reaches.
        assert head_layer(model) == "classifier2"
    assert head_layer(named) == "classifier2"
    # All that depends on the classes is new with a new head.
    assert set(head_parameters(named)) == {
        f"{layer}.{kind}" for layer in ("classifier2", "auxiliary") for kind in ("weight", "bias")
    }
    with pytest.raises(UserError, match="head: 'classifier' is no layer .* mean 'classifier2'"):
        head_layer(Architecture("mine:two_heads", head="classifier"))
    with pytest.raises(UserError, match="head: 'auxiliary' of mine:two_heads is never reached"):
        penultimate_layer(Architecture("mine:two_heads", head="auxiliary"))


# --- tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("average", lambda t: t.mean(1)),
        ("average_places", lambda t: t[:, 3:].mean(1)),
        ("max", lambda t: t[:, 3:].amax(1)),
        ("class_token", lambda t: t[:, 0]),
        ("flatten", lambda t: t),
    ],
)
def test_tokens_become_a_vector(mine, tmp_path, how, expected):
    model = Architecture("mine:tokens", 32)
    network = build(model, 7).eval()
    save_state(tmp_path / "w.safetensors", network.state_dict(), {})
    images = torch.randn(2, 3, 32, 32)
    seen = []
    network.block.register_forward_hook(lambda *call: seen.append(call[2].clone()))
    with torch.inference_mode():
        network(images)
        extractor = open_extractor(model, tmp_path / "w.safetensors", ["block"], how, "")
        features, _ = extractor(images)
    assert seen[0].shape == (2, 3 + 16, 12)
    torch.testing.assert_close(features["block"], expected(seen[0]))


@pytest.mark.parametrize(
    ("model", "layer", "way", "found"),
    [
        # torchvision's vision transformer has a class token, Swin's maps have none.
        ("vit_b_32", "encoder.ln", "average_places", Pooling("average", (1,), 1)),
        ("vit_b_32", "encoder.ln", "average", Pooling("average", (1,), 0)),
        ("vit_b_32", "encoder.ln", "class_token", Pooling("class_token", (1,), 1)),
        ("vit_b_32", "penultimate", "class_token", Pooling("class_token", (), 0)),
        ("swin_t", "features.1", "average_places", Pooling("average", (1, 2), 0)),
        ("resnet18", "layer4", "max", Pooling("max", (2, 3), 0)),
    ],
)
def test_what_is_left_out_follows_from_the_sizes(model, layer, way, found):
    layer = penultimate_layer(model) if layer == "penultimate" else layer
    assert poolings(model, [layer], way) == {layer: found}


@pytest.mark.parametrize(("model", "layer"), [("resnet18", "layer4"), ("swin_t", "features.1")])
def test_a_class_token_is_refused_where_there_is_none(model, layer):
    with pytest.raises(UserError, match=f"pool: 'class_token' is refused for layer '{layer}'"):
        poolings(model, [layer], "class_token")


def test_pooled_maps_by_hand():
    maps = torch.arange(16.0).view(1, 2, 2, 4)
    assert pool(maps, "max", (2, 3)).tolist() == [[7.0, 15.0]]
    assert pool(maps, "average", (2, 3)).tolist() == [[3.5, 11.5]]
    copied = pool(maps, "flatten")
    copied.zero_()
    assert maps.sum() > 0


# --- image sizes ------------------------------------------------------------------------------


def test_a_vision_transformer_is_built_for_the_size_that_is_asked_for(tmp_path):
    check_backbone("vit_b_32", ["encoder.ln"], [], 64, pool="average_places")
    with pytest.raises(UserError, match="^image_size: 100 is refused by vit_b_32; allowed: 128$"):
        check_backbone("vit_b_32", ["encoder.ln"], [], 100)
    network = build("vit_b_32", 4)
    save_state(tmp_path / "w.safetensors", network.state_dict(), {})
    small, _ = load_network(Architecture("vit_b_32", 64), tmp_path / "w.safetensors")
    # As torchvision's own function for it.
    expected = interpolate_embeddings(64, 32, dict(network.state_dict()))
    for name, value in small.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    with torch.inference_mode():
        assert small.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 4)


def test_families_are_told_by_the_text_of_the_model():
    names = [family.name for family in FAMILIES]
    for model, name in (
        ("timm/resnet18.a1_in1k", "timm"),
        ("package.module:function", "a module"),
        ("resnet18", "torchvision"),
    ):
        assert family_of(model).name == name
        assert name in names


def test_a_folder_of_modules_is_no_place_for_others(mine):
    # What lies beside a study file is imported from there, and shadows nothing else.
    build("mine:plain", 3)
    assert str(mine) not in sys.path
    assert os.environ[FOLDERS] == str(mine)
    assert isinstance(nn.Linear(1, 1), nn.Module)
