"""Networks of timm, against timm itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

timm = pytest.importorskip("timm")

from collapseflow.features.checks import check_backbone  # noqa: E402
from collapseflow.features.families import download, family_of, weights_name  # noqa: E402
from collapseflow.features.inputs import inputs_of  # noqa: E402
from collapseflow.features.known import Architecture  # noqa: E402
from collapseflow.features.loading import load_network, open_extractor  # noqa: E402
from collapseflow.features.networks import (  # noqa: E402
    build,
    head_layer,
    penultimate_layer,
    poolings,
)
from collapseflow.features.pooling import Pooling  # noqa: E402
from collapseflow.features.preprocessing import preprocess  # noqa: E402
from collapseflow.features.weights import load_state, save_state  # noqa: E402
from collapseflow.running.errors import TemporaryError, UserError  # noqa: E402
from collapseflow.running.files import sha256_file  # noqa: E402
from collapseflow.study.check import check_against_libraries  # noqa: E402
from collapseflow.study.file import parse  # noqa: E402
from collapseflow.study.schema import load  # noqa: E402

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "my-network.md").read_text(encoding="utf-8")
VIT, CONVNEXT = Architecture("timm/test_vit", 64), Architecture("timm/test_convnext", 64)


def seen_by_hook(network, layer, images):
    seen = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda *call: seen.append(call[2].clone())
    )
    with torch.inference_mode():
        logits = network(images)
    handle.remove()
    return seen[0], logits


@pytest.mark.parametrize(
    ("model", "layer", "how", "expected"),
    [
        # A vision transformer that cannot be traced, whose first token is that of the class.
        (VIT, "blocks.1", "average_places", lambda t: t[:, 1:].mean(1)),
        (VIT, "blocks.1", "class_token", lambda t: t[:, 0]),
        (CONVNEXT, "stages.1", "average_places", lambda t: t.mean((2, 3))),
        (CONVNEXT, "stages.1", "max", lambda t: t.amax((2, 3))),
    ],
)
def test_features_and_logits_are_those_of_timm(tmp_path, model, layer, how, expected):
    torch.manual_seed(0)
    network = build(model, 6).eval()
    save_state(tmp_path / "w.safetensors", network.state_dict(), {"task": "theirs"})
    last = penultimate_layer(model)
    extractor = open_extractor(model, tmp_path / "w.safetensors", [layer, last], how, "theirs")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features, logits = extractor(images)
        of_last = network.forward_head(network.forward_features(images), pre_logits=True)
    output, own_logits = seen_by_hook(network, layer, images)
    torch.testing.assert_close(features[layer], expected(output), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features[last], of_last, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, own_logits, rtol=1e-4, atol=1e-5)
    weight, _ = extractor.head
    assert (weight == network.get_classifier().weight.detach().numpy()).all()
    assert network.get_submodule(head_layer(model)) is network.get_classifier()


def test_registers_are_left_out_and_are_no_class_token():
    model = Architecture("timm/vit_medium_patch16_reg4_gap_256", 256)
    assert poolings(model, ["blocks.1"], "average_places") == {
        "blocks.1": Pooling("average", (1,), 4)
    }
    with pytest.raises(UserError, match="pool: 'class_token' is refused"):
        poolings(model, ["blocks.1"], "class_token")


def test_position_embeddings_are_interpolated_as_timm_does(tmp_path):
    large = build(Architecture("timm/test_vit", 160), 4)
    save_state(tmp_path / "w.safetensors", large.state_dict(), {})
    small, _ = load_network(VIT, tmp_path / "w.safetensors")
    expected = timm.layers.resample_abs_pos_embed(large.pos_embed, [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(small.pos_embed, expected)


def test_position_embeddings_may_have_none_for_registers():
    # Four registers, a class token, and position embeddings of the places alone.
    network = {"cls_token": torch.zeros(1, 1, 8), "reg_token": torch.zeros(1, 4, 8)}
    places = torch.randn(1, 16, 8)
    small = {**network, "pos_embed": torch.zeros(1, 4, 8)}
    found = family_of("timm/x").as_built("timm/x", {"pos_embed": places}, small)
    expected = timm.layers.resample_abs_pos_embed(places, [2, 2], num_prefix_tokens=0)
    torch.testing.assert_close(found["pos_embed"], expected)
    # With those of all five: nine embeddings are no square of three.
    all_of_them = torch.cat([torch.randn(1, 5, 8), places], dim=1)
    small = {**network, "pos_embed": torch.zeros(1, 9, 8)}
    found = family_of("timm/x").as_built("timm/x", {"pos_embed": all_of_them}, small)
    expected = timm.layers.resample_abs_pos_embed(all_of_them, [2, 2], num_prefix_tokens=5)
    torch.testing.assert_close(found["pos_embed"], expected)


@pytest.mark.parametrize("model", ["timm/test_vit", "timm/test_convnext", "timm/resnet18.tv_in1k"])
def test_preprocessing_is_that_of_timm_s_own_transform(model):
    from PIL import Image
    from sklearn.datasets import load_sample_image

    inputs = inputs_of(model, "weights", "weights", "weights")
    network = build(model, 4)
    own = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    # Of noise PIL cuts off what bicubic weights overshoot, after each of its two passes.
    images = torch.from_numpy(load_sample_image("china.jpg")[None, 100:300, 200:410].copy())
    expected = torch.stack([own(Image.fromarray(image.numpy())) for image in images])
    found = preprocess(images, inputs.image_size, inputs.normalize, resizing=inputs.resizing)
    assert found.shape == expected.shape
    levels = (found - expected).abs() * max(inputs.normalize.std) * 255
    # PIL rounds to grey levels after each of its two passes.
    assert levels.mean() < 0.5 and (levels > 2).float().mean() < 0.02


@pytest.mark.parametrize(
    ("model", "weights", "words"),
    [
        ("timm/resnet19", [], "'timm/resnet19' is unknown; did you mean 'timm/resnet18'"),
        ("timm/resnet18.mine", [], "timm has no weights 'mine' of 'timm/resnet18'; .*a1_in1k"),
        ("timm/resnet18", ["a1_in2k"], "no weights that timm has .* did you mean 'a1_in1k'"),
        ("timm/vit_small_patch14_dinov2", ["imagenet"], "no ImageNet weights .* lvd142m"),
    ],
)
def test_what_timm_does_not_have_is_refused_in_one_line(model, weights, words):
    with pytest.raises(UserError, match=words) as caught:
        check_backbone(model, ["penultimate"], weights, 64)
    assert "\n" not in str(caught.value)


def test_weights_go_by_timm_s_tags():
    assert weights_name("timm/resnet18", "imagenet") == "a1_in1k"
    assert weights_name("timm/resnet18.tv_in1k", "imagenet") == "tv_in1k"
    assert weights_name("timm/resnet18", "tv_in1k") == "tv_in1k"
    assert "timm/resnet18" in family_of("timm/resnet18").models()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub, offline; a function puts a file of weights into it."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(content, digest):
        folder = tmp_path / "hub" / "models--timm--test_convnext.r160_in1k"
        snapshot = folder / "snapshots" / ("0" * 40)
        for path in (folder / "blobs", folder / "refs", snapshot):
            path.mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        (folder / "blobs" / digest).write_bytes(content)
        (snapshot / "model.safetensors").symlink_to(folder / "blobs" / digest)

    assert huggingface_hub.hf_hub_download
    return put


def test_weights_come_from_the_hub_s_cache(hub, tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    state = timm.create_model("test_convnext").state_dict()
    save_file(state, tmp_path / "file")
    hub((tmp_path / "file").read_bytes(), sha256_file(tmp_path / "file"))
    download("timm/test_convnext", "imagenet", tmp_path / "w.safetensors")
    found, words = load_state(tmp_path / "w.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert words["weights"] == "timm/test_convnext r160_in1k"


def test_a_damaged_file_in_the_cache_is_refused(hub, tmp_path):
    hub(b"damaged", "0" * 64)
    with pytest.raises(UserError, match="the hub's is 0000"):
        download("timm/test_convnext", "imagenet", tmp_path / "w.safetensors")


def test_without_hub_and_cache_it_is_said_how_to_give_a_file(hub, tmp_path):
    with pytest.raises(TemporaryError, match="timm/test_convnext.r160_in1k.*weights$") as caught:
        download("timm/test_convnext", "r160_in1k", tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def test_the_study_of_the_page_is_made(tmp_path):
    text = next(
        block
        for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.M | re.S)
        if "timm/" in block
    )
    study = load(parse(text, "timm-study.yaml"))
    assert study.backbones["vit"].normalize == "weights"
    assert check_against_libraries(study) == []
    (tmp_path / "timm-study.yaml").write_text(text)
    words = ["-m", "snakemake", "results/my-timm/measures.csv", "--cores", "2"]
    words += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "timm-study.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
    measures = pd.read_csv(tmp_path / "results" / "my-timm" / "measures.csv")
    assert set(measures["backbone"]) == {"vit", "convnext"}
    # Of both the last layer is known: its weights, and what it predicts.
    trained = measures[(measures["epoch"] == 1) & (measures["layer"] == "penultimate")]
    for _, rows in trained.groupby("backbone"):
        assert {"nc1", "nc3", "nc4"} <= set(rows["quantity"])
