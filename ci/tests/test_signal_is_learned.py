"""On rows with a planted signal a DLRM closes most of the gap to the ceiling, and a DLRM that is broken does not."""

from __future__ import annotations

import numpy as np
import pytest

from dlrm_lib import metrics
from dlrm_lib.baselines import logistic_regression
from dlrm_lib.config import Config
from dlrm_lib.devices import pick
from dlrm_lib.model import DLRM
from dlrm_lib.training import fit, predict, step
from dlrm_lib.workspace import Workspace

pytestmark = pytest.mark.slow
CONFIG = Config.from_preset("laptop", {"rows": 400_000, "days": 4, "batch_size": 256})


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("planted"), CONFIG)


@pytest.fixture(scope="module")
def closed(space):
    """The share of the gap between logistic regression and the ceiling of encoded rows that given scores close."""
    dataset = space.encoded()
    label, ceiling = np.asarray(dataset.test.label), space.ceiling()["test"]["encoded"]["auc"]
    linear = metrics.auc(label, logistic_regression(dataset))
    assert ceiling - linear > 0.03
    return lambda scores: (metrics.auc(label, scores) - linear) / (ceiling - linear)


def scores(dataset, config=CONFIG):
    device = pick("cpu")
    device.seed(config.training.seed)
    model = DLRM(dataset.spec, config.model)
    for _ in fit(model, dataset, config.training, device):
        pass
    return predict(model, dataset.test, batch_size=8192, device=device)


def test_a_dlrm_closes_most_of_the_gap(space, closed):
    assert closed(scores(space.encoded())) > 0.5


def test_frozen_embeddings_do_not(space, closed, monkeypatch):
    monkeypatch.setitem(step.UPDATES, "adagrad", lambda weight: lambda rows, gradient, lr: None)
    assert closed(scores(space.encoded())) < 0


def test_a_model_that_only_adds_does_not(space, closed):
    # Concatenated vectors and one linear layer: every feature has its own say, none depends on another.
    additive = CONFIG.override(interaction_op="cat", top_mlp_sizes=(1,))
    assert closed(scores(space.encoded(), additive)) < 0.1


def test_shuffled_labels_teach_nothing(space):
    dataset = space.encoded()
    dataset.train.label = np.random.default_rng(0).permutation(dataset.train.label)
    auc = metrics.auc(np.asarray(dataset.test.label), scores(dataset))
    assert abs(auc - 0.5) < 0.02
