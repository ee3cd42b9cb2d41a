"""Fine-tuning: bit for bit the same as a plain PyTorch loop, in one go or from file to file."""

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from safetensors import safe_open
from torch import nn
from torchvision.transforms.functional import normalize

from collapseflow.datasets import make_split
from collapseflow.errors import UserError
from collapseflow.preprocessing import preprocess
from collapseflow.training import Recipe, finetune_epoch, initialize, pretrain, seed_everything

CPU = torch.device("cpu")
N_CLASSES = 10
RECIPE = Recipe(
    model="resnet18",
    image_size=32,
    normalize="imagenet",
    batch_size=16,
    learning_rate=2e-4,
    seed=5,
)


@pytest.fixture(scope="module")
def data(mnist_digits):
    """70 real digits: four batches of 16, and 6 images that are left over."""
    images, labels = mnist_digits
    return make_split(images[::71][:70], labels[::71][:70])


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Random weights that fine-tuning starts from."""
    path = tmp_path_factory.mktemp("start") / "random.safetensors"
    initialize("resnet18", seed=3, output=path)
    return path


def epoch_files(folder, epoch):
    return folder / f"epoch{epoch}.safetensors", folder / f"epoch{epoch}.state.safetensors"


def run_epoch(data, folder, epoch, start, recipe=RECIPE):
    weights, state = epoch_files(folder, epoch)
    before = epoch_files(folder, epoch - 1) if epoch > 1 else (start, None)
    finetune_epoch(
        data, N_CLASSES, recipe, epoch, CPU, 0.02, *before, weights, state, "random weights"
    )
    return safetensors.torch.load_file(weights), safetensors.torch.load_file(state)


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def from_files(data, start, tmp_path_factory):
    """Two epochs, the second one from the files of the first."""
    folder = tmp_path_factory.mktemp("epochs")
    return folder, {epoch: run_epoch(data, folder, epoch, start) for epoch in (1, 2)}


@pytest.fixture(scope="module")
def in_one_go(data, start):
    """The same two epochs as a plain loop in one process, with everything kept in memory."""
    seed_everything(RECIPE.seed, 0)
    network = torchvision.models.resnet18(weights=None, num_classes=N_CLASSES)
    body = safetensors.torch.load_file(start)
    network.load_state_dict({**body, "fc.weight": network.fc.weight, "fc.bias": network.fc.bias})
    nn.init.xavier_normal_(network.fc.weight, gain=0.02)
    nn.init.zeros_(network.fc.bias)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, fused=True)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    after = {}
    network.train()
    for epoch in (1, 2):
        order = seed_everything(RECIPE.seed, epoch).permutation(70)
        losses = []
        for batch in range(4):
            rows = order[16 * batch : 16 * batch + 16]
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(
                network(preprocess(images[rows], 32, "imagenet")), labels[rows]
            )
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        after[epoch] = (
            {name: value.clone() for name, value in network.state_dict().items()},
            [{k: v.clone() for k, v in optimizer.state[p].items()} for p in network.parameters()],
            np.mean(losses),
        )
    return after


@pytest.mark.parametrize("epoch", [1, 2])
def test_weights_equal_the_plain_loop_bit_for_bit(from_files, in_one_go, epoch):
    weights, _ = from_files[1][epoch]
    expected = in_one_go[epoch][0]
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name


@pytest.mark.parametrize("epoch", [1, 2])
def test_the_optimizer_s_state_equals_the_plain_loop(from_files, in_one_go, epoch):
    _, state = from_files[1][epoch]
    names = [name for name, _ in torchvision.models.resnet18().named_parameters()]
    assert len(state) == 3 * len(names)
    for name, expected in zip(names, in_one_go[epoch][1], strict=True):
        assert state[f"{name}/step"].item() == 4 * epoch
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(state[f"{name}/{key}"], expected[key]), name


def test_dropout_is_seeded_by_the_epoch(data, tmp_path):
    # Everything by hand here, the images too: MobileNet drops values in its classifier.
    torch.manual_seed(1)
    body = torchvision.models.mobilenet_v3_small(num_classes=26).state_dict()
    torch.save(body, tmp_path / "start.pth")
    recipe = Recipe(**{**vars(RECIPE), "model": "mobilenet_v3_small"})
    for epoch in (1, 2):
        torch.manual_seed(100 + epoch)  # what was drawn before an epoch must not matter
        found, _ = run_epoch(data, tmp_path, epoch, tmp_path / "start.pth", recipe)

    seed_everything(recipe.seed, 0)
    network = torchvision.models.mobilenet_v3_small(num_classes=N_CLASSES)
    last = network.classifier[3]
    head = {"classifier.3.weight": last.weight, "classifier.3.bias": last.bias}
    network.load_state_dict({**body, **head})
    nn.init.xavier_normal_(last.weight, gain=0.02)
    nn.init.zeros_(last.bias)
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, fused=True)
    images = nn.functional.interpolate(
        torch.from_numpy(data.images)[:, None].float(), (32, 32), mode="bilinear", antialias=True
    )
    images = (images / 255).repeat(1, 3, 1, 1)
    images = normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for epoch in (1, 2):
        order = seed_everything(recipe.seed, epoch).permutation(70)
        for rows in order[:64].reshape(4, 16):
            batch = images[rows].contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(network(batch), torch.from_numpy(data.labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for name, value in network.state_dict().items():
        assert torch.equal(found[name], value), name


def test_epochs_change_all_weights(from_files, start):
    before = safetensors.torch.load_file(start)
    for name, value in from_files[1][1][0].items():
        if not name.startswith("fc."):
            assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("epoch", [1, 2])
def test_metadata_say_what_the_weights_are(from_files, in_one_go, epoch):
    said = metadata(epoch_files(from_files[0], epoch)[0])
    assert said["weights"] == f"resnet18, random weights, fine-tuned for {epoch} epochs"
    assert said["epoch"] == str(epoch)
    assert said["task"]
    assert float(said["mean_loss"]) == pytest.approx(in_one_go[epoch][2], rel=1e-6)


def test_an_epoch_repeated_is_the_same_and_another_seed_is_not(data, start, from_files, tmp_path):
    again, _ = run_epoch(data, tmp_path, 1, start)
    expected, _ = from_files[1][1]
    assert all(torch.equal(again[name], value) for name, value in expected.items())
    other = Recipe(**{**vars(RECIPE), "seed": 6})
    (tmp_path / "other").mkdir()
    weights, _ = run_epoch(data, tmp_path / "other", 1, start, other)
    assert not torch.equal(weights["conv1.weight"], expected["conv1.weight"])


def test_each_seed_and_epoch_has_its_own_order_and_its_own_draws():
    orders, draws = set(), set()
    for seed in (0, 1):
        for epoch in (0, 1, 2):
            order = tuple(seed_everything(seed, epoch).permutation(50))
            draw = torch.rand(1).item()
            assert sorted(order) == list(range(50))
            assert tuple(seed_everything(seed, epoch).permutation(50)) == order
            assert torch.rand(1).item() == draw
            orders.add(order)
            draws.add(draw)
    assert len(orders) == len(draws) == 6


def test_the_last_partial_batch_is_dropped(from_files):
    # Batch norm counts the batches it has seen: 70 images are four whole batches of 16.
    for epoch in (1, 2):
        assert from_files[1][epoch][0]["bn1.num_batches_tracked"].item() == 4 * epoch


def test_fewer_images_than_a_batch_are_refused(data, start, tmp_path):
    few = data.take(np.arange(15))
    with pytest.raises(UserError, match="batch_size: 16 is more than the 15 training images"):
        run_epoch(few, tmp_path, 1, start)
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_loss_is_refused_and_leaves_no_weights(data, start, tmp_path):
    wild = Recipe(**{**vars(RECIPE), "learning_rate": 1e30})
    with pytest.raises(UserError, match="epoch 1 is not finite; lower the learning rate"):
        run_epoch(data, tmp_path, 1, start, wild)
    assert list(tmp_path.iterdir()) == []


def test_random_weights_say_that_they_were_never_trained(start, tmp_path):
    assert "never trained" in metadata(start)["weights"]
    assert "task" not in metadata(start)
    state = safetensors.torch.load_file(start)
    assert state["fc.weight"].shape == (1000, 512)
    # torchvision's own initialisation (He et al.): normal, variance 2 / (64 * 7 * 7).
    assert state["conv1.weight"].std().item() == pytest.approx(np.sqrt(2 / (64 * 49)), rel=0.05)
    for seed, same in ((3, True), (4, False)):
        path = tmp_path / f"{seed}.safetensors"
        initialize("resnet18", seed, path)
        value = safetensors.torch.load_file(path)["layer1.0.conv1.weight"]
        assert torch.equal(value, state["layer1.0.conv1.weight"]) is same


def test_pretraining_lowers_the_loss_and_says_so(data, tmp_path):
    recipe = Recipe(**{**vars(RECIPE), "learning_rate": 1e-3})
    losses = {}
    for epochs in (1, 4):
        path = tmp_path / f"{epochs}.safetensors"
        pretrain(data, N_CLASSES, recipe, epochs, CPU, path)
        said = metadata(path)
        assert f"pretrained on rendered letters for {epochs} epochs" in said["weights"]
        assert "task" not in said
        losses[epochs] = float(said["mean_loss"])
    assert losses[4] < 0.7 * losses[1]
    state = safetensors.torch.load_file(tmp_path / "4.safetensors")
    assert state["fc.weight"].shape == (N_CLASSES, 512)
    assert state["bn1.num_batches_tracked"].item() == 16
