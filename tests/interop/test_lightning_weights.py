"""A checkpoint that Lightning itself has written."""

import pytest
import torch
import torchvision
from torch import nn

from collapseflow.features.loading import load_network, open_extractor

lightning = pytest.importorskip("lightning")

MODEL = "shufflenet_v2_x0_5"
CLASSES = ["ant", "bee", "cat"]


class Classifier(lightning.LightningModule):
    """A network, a metric of its own state, and hyperparameters of plain types."""

    def __init__(self, classes, learning_rate=0.01, schedule=None):
        super().__init__()
        self.save_hyperparameters()
        self.net = torchvision.models.get_model(MODEL, num_classes=len(classes))
        self.register_buffer("class_weights", torch.ones(len(classes)))

    def training_step(self, batch, index):
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels, self.class_weights)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), self.hparams.learning_rate)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A module after an epoch, and the checkpoint that Lightning has kept."""
    folder = tmp_path_factory.mktemp("lightning")
    torch.manual_seed(0)
    images = torch.utils.data.TensorDataset(torch.randn(12, 3, 32, 32), torch.arange(12) % 3)
    module = Classifier(CLASSES)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(images, 4))
    (path,) = folder.rglob("*.ckpt")
    return module.eval(), path


def test_the_network_comes_back_with_its_last_layer(trained):
    module, path = trained
    assert "optimizer_states" in torch.load(path, weights_only=True)
    loaded, _ = load_network(MODEL, path)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = module.net(images)
        assert torch.equal(loaded.eval()(images), expected)
        names = ["cat", "ant", "bee"]
        extractor = open_extractor(MODEL, path, ["mean"], "average", "a digest", names)
        torch.testing.assert_close(extractor(images)[1], expected[:, [2, 0, 1]])


def test_it_is_said_how_it_was_taken(trained, caplog):
    caplog.set_level("INFO", logger="collapseflow")
    load_network(MODEL, trained[1])
    assert "the entry state_dict, names without 'net.', 1 tensor beside it" in caplog.text
    assert "left out (class_weights)" in caplog.text
