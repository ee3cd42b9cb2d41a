"""Collapse beside metrics of torchmetrics in one loop: the same calls, the same accuracy."""

import numpy as np
import pytest
import torch

torchmetrics = pytest.importorskip("torchmetrics")

from torchmetrics.classification import MulticlassAccuracy  # noqa: E402

from collapseflow.measures import Collapse  # noqa: E402


def test_the_calls_are_those_of_torchmetrics():
    rng = np.random.default_rng(0)
    labels = torch.arange(120) % 3
    features = torch.from_numpy(rng.normal(size=(3, 6))[labels] + rng.normal(size=(120, 6)))
    head = torch.nn.Linear(6, 3, dtype=torch.float64)
    accuracy = MulticlassAccuracy(num_classes=3, average="micro")
    collapse = Collapse(n_classes=3)
    for _ in range(2):
        for start in range(0, 120, 32):
            part = slice(start, start + 32)
            logits = head(features[part])
            accuracy.update(logits, labels[part])
            collapse.update(features[part], labels[part], logits)
        found = collapse.compute(head)
        assert found["accuracy"] == pytest.approx(float(accuracy.compute()), rel=1e-6)
        x, means = features.numpy(), np.stack([features[labels == c].mean(0) for c in range(3)])
        within = np.concatenate([x[labels == c] - means[c] for c in range(3)])
        around = means - x.mean(axis=0)
        between = around.T @ around / 3
        nc1 = np.trace(within.T @ within / 120 @ np.linalg.pinv(between, rcond=1e-12)) / 3
        assert found["nc1"] == pytest.approx(nc1, rel=1e-10)
        for one in (accuracy, collapse):
            one.reset()
