"""The callback in a training with Lightning, against dense formulas of the network it leaves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

lightning = pytest.importorskip("lightning.pytorch")

from collapseflow.images.sources.vectors import check  # noqa: E402
from collapseflow.lightning import CollapseCallback  # noqa: E402
from collapseflow.presentation.comparison import compare_studies  # noqa: E402
from collapseflow.presentation.rows import COLUMNS, read_csv  # noqa: E402

ROOT = Path(__file__).parents[2]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    from collapse import dense_measures


class Network(lightning.LightningModule):
    def __init__(self, *, uses_head=True):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU())
        self.fc = torch.nn.Linear(16, 4)
        self.uses_head = uses_head

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.fc(self.body(images)), labels)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        if self.uses_head:
            self.fc(self.body(batch[0]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def made_up(n, seed):
    """Points around four centres, a data set."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    images = np.random.default_rng(0).normal(size=(4, 8))[labels] + 0.5 * rng.normal(size=(n, 8))
    return TensorDataset(torch.from_numpy(images).float(), torch.from_numpy(labels))


SETS = {"train": made_up(200, 1), "test": made_up(100, 2)}


def fit(network, callback, epochs, folder):
    trainer = lightning.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    loaders = [DataLoader(one, batch_size=32) for one in SETS.values()]
    trainer.fit(network, DataLoader(SETS["train"], batch_size=32, shuffle=True), loaders)
    return trainer, loaders


@pytest.fixture
def made(tmp_path):
    """A callback for a file of rows."""
    return lambda **others: CollapseCallback(
        *("fc", 4, tmp_path / "mine" / "rows.csv", ["train", "test"]),
        **{"dataset": "points", "backbone": "mlp", "recipe": "plain", "seed": 3} | others,
    )


def test_rows_of_every_epoch_are_what_dense_formulas_say(tmp_path, made):
    (tmp_path / "mine").mkdir()
    torch.manual_seed(0)
    hidden = tmp_path / "mine" / "hidden_{epoch}.h5"
    network, callback = Network(), made(collapse={"products": "float64"}, vectors=hidden)
    trainer, loaders = fit(network, callback, 3, tmp_path)
    rows = read_csv(callback.rows)
    assert list(rows.columns) == COLUMNS
    assert sorted(set(rows["epoch"])) == [1, 2, 3]
    assert set(rows["split"]) == {"train", "test"}
    assert (rows["recipe"] + rows["backbone"] + rows["dataset"] == "plainmlppoints").all()
    assert (rows["seed"] == 3).all()
    network.eval()
    means = None
    for split, images in SETS.items():
        with torch.no_grad():
            h = network.body(images.tensors[0])
            answers = network.fc(h).argmax(dim=1).numpy()
        features, labels = h.double().numpy(), images.tensors[1].numpy()
        weight = network.fc.weight.detach().double().numpy()
        expected = dense_measures(features, labels, answers, weight)
        with h5py.File(tmp_path / "mine" / "hidden_3.h5") as file:
            mine = file["split"][:] == split.encode()
            np.testing.assert_array_equal(file["vectors"][mine], h.numpy())
            np.testing.assert_array_equal(file["labels"][mine], labels)
            np.testing.assert_array_equal(file["predictions"][mine], answers)
            np.testing.assert_array_equal(file["weight"], network.fc.weight.detach().numpy())
            np.testing.assert_array_equal(file["bias"], network.fc.bias.detach().numpy())
        if means is None:
            means = np.stack([features[labels == c].mean(axis=0) for c in range(4)])
        nearest = ((features[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        expected["accuracy_nearest_mean"] = np.mean(nearest == labels)
        expected["nc4"] = np.mean(nearest == answers)
        expected["fewest_images"] = len(labels) // 4
        last = rows[(rows["epoch"] == 3) & (rows["split"] == split)].set_index("quantity")
        assert set(last.index) == set(expected) == set(callback.values[split])
        for name, value in expected.items():
            assert last.loc[name, "value"] == pytest.approx(value, rel=1e-11, abs=1e-13), name
        assert (last["n"] == len(labels)).all()
        assert last.loc["accuracy", "layer"] == ""
        assert set(last.drop("accuracy")["layer"]) == {"penultimate"}
        assert last.loc["accuracy", ["low", "high"]].notna().all() == (split == "test")
    written = sorted(file.name for file in hidden.parent.glob("*.h5"))
    assert written == ["hidden_1.h5", "hidden_2.h5", "hidden_3.h5"]
    # Once more the same, alone: nothing else changes.
    trainer.validate(network, loaders, verbose=False)
    again = read_csv(callback.rows).sort_values(COLUMNS[:9], ignore_index=True)
    assert again.equals(rows.sort_values(COLUMNS[:9], ignore_index=True))
    # Another training stands beside it, and what puts studies side by side reads both.
    other = tmp_path / "other" / "rows.csv"
    other.parent.mkdir()
    other.write_bytes(callback.rows.read_bytes())
    fit(Network(), made(seed=4), 1, tmp_path)
    both = read_csv(callback.rows)
    assert both.groupby("seed")["epoch"].nunique().to_dict() == {3: 3, 4: 1}
    assert re.search(r"penultimate \| test +\| nc1 ", compare_studies([callback.rows, other]))


def test_before_the_first_epoch_is_epoch_0(tmp_path, made):
    (tmp_path / "mine").mkdir()
    callback = made()
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    loaders = [DataLoader(one, batch_size=32) for one in SETS.values()]
    trainer.validate(Network(), loaders, verbose=False)
    assert set(read_csv(callback.rows)["epoch"]) == {0}


@pytest.mark.parametrize(
    ("network", "arguments", "words"),
    [
        (Network(), {"head": "head"}, "head: the module has no layer 'head'"),
        (Network(uses_head=False), {}, "head: 'fc' has run 0 times in a batch"),
        (Network(), {"splits": ["train"]}, "splits: train; the validation has more dataloaders"),
    ],
)
def test_what_does_not_fit_the_module_is_said_in_one_line(tmp_path, network, arguments, words):
    given = {"head": "fc", "n_classes": 4, "rows": tmp_path / "rows.csv"} | arguments
    given.setdefault("splits", ["train", "test"])
    callback = CollapseCallback(**given, dataset="points", backbone="mlp")
    with pytest.raises(ValueError, match=f"^{words}[^\n]*$"):
        fit(network, callback, 1, tmp_path)
    assert not network.fc._forward_hooks


def test_a_network_whose_class_means_coincide_is_no_end_of_a_training(tmp_path, made):
    network = Network()
    torch.nn.init.zeros_(network.body[0].weight)
    torch.nn.init.constant_(network.body[0].bias, -1.0)
    with pytest.warns(UserWarning, match="no measures on train after epoch 1: all class means"):
        trainer, _ = fit(network, made(), 1, tmp_path)
    assert trainer.state.finished


def test_definitions_of_others_get_no_rows(made):
    with pytest.raises(ValueError, match="^collapse: rows have our definitions; leave out"):
        made(collapse={"definitions": "papyan2020"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"vectors": "hidden.h5"}, "vectors: hidden.h5; a name with {epoch}"),
        (
            {"vectors": "{epoch}.h5", "collapse": {"keep": "moments"}},
            "vectors: keep='moments' keeps none",
        ),
        ({"vectors": "{epoch}.h5", "splits": ["test"]}, "vectors: of test; a study takes train"),
    ],
)
def test_vectors_that_cannot_be_written_are_said_before_the_training(arguments, words):
    arguments = {"splits": ["train", "test"], "dataset": "points", "backbone": "mlp"} | arguments
    with pytest.raises(ValueError, match=f"^{words}[^\n]*$"):
        CollapseCallback("fc", 4, "rows.csv", **arguments)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_example_of_the_page_runs(tmp_path, processes):
    page = (ROOT / "docs" / "inside-my-loop.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "lightning" in c)
    if processes == 2:
        # What they find stays with them, but for the rows.
        code = code.replace("print(callback", "#").replace(
            'accelerator="cpu")', 'accelerator="cpu", devices=2, strategy="ddp_fork")'
        )
        assert "ddp_fork" in code
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    rows = read_csv(tmp_path / "rows.csv")
    assert set(zip(rows["epoch"], rows["split"], rows["n"], strict=True)) == {
        (epoch, split, n) for epoch in (1, 2) for split, n in (("train", 300), ("test", 100))
    }
    check([str(tmp_path / f"hidden_{epoch}.h5") for epoch in (1, 2)])
    with h5py.File(tmp_path / "hidden_2.h5") as file:
        assert np.unique(file["split"][:], return_counts=True)[1].tolist() == [100, 300]
        labels = np.arange(400) % 4
        np.testing.assert_array_equal(np.bincount(file["labels"][:]), np.bincount(labels))
