"""The network against naive loops and float64 autograd of plain torch modules."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dlrm_lib.config import ModelConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import DLRM
from dlrm_lib.model.interaction import CatInteraction, DotInteraction
from dlrm_lib.model.mlp import mlp
from dlrm_lib.training.step import RowsLeafStep

SPEC = FeatureSpec(numerical=5, cardinalities=(4, 9, 30))
CONFIG = ModelConfig(embedding_dim=6, bottom_mlp_sizes=(8, 6), top_mlp_sizes=(10, 1))


def random_batch(rows: int = 64, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    categorical = torch.stack([torch.randint(c, (rows,), generator=generator) for c in SPEC.cardinalities], 1)
    numerical = torch.randn(rows, SPEC.numerical, generator=generator)
    return Batch(numerical, categorical.int(), torch.randint(2, (rows,), generator=generator).float())


@pytest.mark.parametrize(("rows", "columns", "dim"), [(3, 4, 5), (1, 1, 2), (2, 0, 3)])
def test_dot_interaction_equals_a_naive_loop(rows, columns, dim):
    bottom, embedded = torch.randn(rows, dim), torch.randn(rows, columns, dim)
    interaction = DotInteraction(columns + 1, dim)
    result = interaction(bottom, embedded)
    for b in range(rows):
        vectors = [bottom[b], *embedded[b]]
        expected = [float(v) for v in bottom[b]]
        for i in range(len(vectors)):
            for j in range(i):
                expected.append(sum(float(x) * float(y) for x, y in zip(vectors[i], vectors[j], strict=True)))
        expected.append(0.0)
        assert result[b].tolist() == pytest.approx(expected, abs=1e-5)
    assert result.shape == (rows, interaction.width)


def test_cat_interaction_keeps_every_vector_in_order():
    bottom, embedded = torch.randn(2, 3), torch.randn(2, 4, 3)
    interaction = CatInteraction(5, 3)
    expected = [[*bottom[b].tolist(), *embedded[b].flatten().tolist()] for b in range(2)]
    assert interaction(bottom, embedded).tolist() == expected
    assert interaction.width == 15


def test_initial_weights_have_the_published_spread():
    torch.manual_seed(0)
    layer = mlp(400, (300,), last_is_linear=True)[0]
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.02)
    assert layer.bias.std().item() == pytest.approx(math.sqrt(1 / 300), rel=0.15)
    weight = DLRM(FeatureSpec(numerical=5, cardinalities=(100, 10_000)), CONFIG).tables.weight
    for table, rows in ((weight[:100], 100), (weight[100:], 10_000)):
        bound = rows**-0.5
        assert table.abs().max() <= bound
        assert table.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_the_mlp_ends_as_it_says():
    assert isinstance(mlp(3, (4, 2), last_is_linear=False)[-1], nn.ReLU)
    assert isinstance(mlp(3, (4, 1), last_is_linear=True)[-1], nn.Linear)


@pytest.mark.parametrize("op", ["dot", "cat"])
def test_the_padding_column_starts_at_zero_and_only_with_dot(op):
    model = DLRM(SPEC, ModelConfig(embedding_dim=6, bottom_mlp_sizes=(6,), top_mlp_sizes=(3, 1), interaction_op=op))
    assert (model.top[0].weight[:, -1] == 0).all().item() == (op == "dot")


class PlainDlrm(nn.Module):
    """The same network from nn.Embedding modules and dense gradients, in float64: the oracle."""

    def __init__(self, model: DLRM) -> None:
        super().__init__()
        edges = np.cumsum([0, *SPEC.cardinalities])
        weight = model.tables.weight.double()
        self.tables = nn.ModuleList(
            nn.Embedding.from_pretrained(weight[a:b].clone(), freeze=False) for a, b in itertools.pairwise(edges)
        )
        copies = ([layer.double() for layer in part] for part in (_clone(model.bottom), _clone(model.top)))
        self.bottom, self.top = (nn.Sequential(*layers) for layers in copies)

    def forward(self, batch: Batch) -> torch.Tensor:
        bottom = self.bottom(batch.numerical.double())
        vectors = [bottom] + [table(batch.categorical[:, j].long()) for j, table in enumerate(self.tables)]
        pairs = [(vectors[i] * vectors[j]).sum(1) for i in range(len(vectors)) for j in range(i)]
        return self.top(torch.cat([bottom, torch.stack([*pairs, torch.zeros_like(pairs[0])], 1)], 1)).squeeze(1)


def _clone(part: nn.Sequential) -> nn.Sequential:
    layers = []
    for layer in part:
        if isinstance(layer, nn.Linear):
            copy = nn.Linear(layer.in_features, layer.out_features)
            copy.load_state_dict(layer.state_dict())
            layers.append(copy)
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("name", "oracle", "lr"), [("sgd", torch.optim.SGD, 0.5), ("adagrad", torch.optim.Adagrad, 0.1)]
)
def test_steps_equal_dense_float64_autograd_with_duplicates(name, oracle, lr):
    torch.manual_seed(1)
    model = DLRM(SPEC, CONFIG)
    plain = PlainDlrm(model)
    optimizer = oracle(plain.parameters(), lr=lr)
    step = RowsLeafStep(model, name)
    for seed in range(5):
        batch = random_batch(seed=seed)  # 64 rows over tables of 4, 9 and 30: every table has duplicates
        loss = step(batch, lr)
        expected = functional.binary_cross_entropy_with_logits(plain(batch), batch.label.double())
        assert loss.item() == pytest.approx(expected.item(), abs=2e-6)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
    weight = torch.cat([table.weight for table in plain.tables])
    assert torch.allclose(model.tables.weight.double(), weight, atol=2e-5)
    for ours, theirs in zip([*model.bottom, *model.top], [*plain.bottom, *plain.top], strict=True):
        if isinstance(ours, nn.Linear):
            assert torch.allclose(ours.weight.double(), theirs.weight, atol=2e-5)


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_a_step_leaves_rows_that_are_not_in_the_batch_alone(name):
    model = DLRM(SPEC, CONFIG)
    before = model.tables.weight.clone()
    batch = random_batch(rows=3)
    RowsLeafStep(model, name)(batch, 0.5)
    touched = torch.unique(model.tables.row_ids(batch.categorical))
    changed = (model.tables.weight != before).any(1).nonzero().flatten()
    assert set(changed.tolist()) <= set(touched.tolist())
    assert len(changed) > 0
