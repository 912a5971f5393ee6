"""Counted work against torch's own counter, and against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.flop_counter import FlopCounterMode

from dlrm_lib.config import Config, ModelConfig
from dlrm_lib.features import CRITEO_TERABYTE, FeatureSpec
from dlrm_lib.model import DLRM, Cost, blueprint, training_cost

SPEC = FeatureSpec(numerical=5, cardinalities=(30, 7, 11))
SIZES = {"embedding_dim": 4, "bottom_mlp_sizes": (6, 4), "top_mlp_sizes": (8, 3, 1)}


def counted(spec: FeatureSpec, config: ModelConfig, rows: int = 2) -> int:
    """FLOPs of torch's forward and backward pass per row."""
    model = DLRM(spec, config)
    ids = torch.zeros(rows, len(spec.cardinalities), dtype=torch.int32)
    leaf = model.tables.gather(model.tables.row_ids(ids)).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        logits = model.dense(torch.zeros(rows, spec.numerical), leaf)
        binary_cross_entropy_with_logits(logits, torch.zeros(rows)).backward()
    return counter.get_total_flops() // rows


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (SPEC, {}),
        (SPEC, {"self_interaction": True}),
        (SPEC, {"interaction_op": "cat"}),
        (FeatureSpec(numerical=0, cardinalities=(9, 9)), {}),
        (FeatureSpec(numerical=3, cardinalities=()), {}),
        (SPEC, {"flag_missing": True}),
        (SPEC, {"embed_numbers": True, "linear": True}),
        (SPEC, {"interaction_op": "dcn", "cross_layers": 2, "cross_rank": 3}),
    ],
)
def test_flops_are_those_that_torch_counts(spec, changes):
    config = ModelConfig(**SIZES, **changes)
    model = blueprint(spec, config)
    parts, interaction = training_cost(model), training_cost(model)["interaction"].flops
    if config.interaction_op == "dot":
        # Torch computes its gradient as two products, of G and of its transpose; their sum takes one.
        interaction *= 1.5
    if config.interaction_op == "dcn":
        # Torch counts matrix products alone: not those of numbers, one forward and two backward, each with a sum.
        interaction -= 6 * model.interaction.width * config.cross_layers
    assert parts["MLPs"].flops + interaction == counted(spec, config)
    assert parts == training_cost(DLRM(spec, config)), "a blueprint counts as the model does"


def test_nvidia_s_model():
    config = Config.from_preset("criteo_terabyte").model
    parts = training_cost(blueprint(CRITEO_TERABYTE, config))
    total = sum(parts.values(), Cost())
    multiplications = 13 * 512 + 512 * 256 + 256 * 128 + 480 * 1024 + 1024 * 1024 + 1024 * 512 + 512 * 256 + 256
    assert parts["MLPs"].flops == 6 * multiplications - 2 * 13 * 512
    assert parts["interaction"].flops == 2 * 2 * 27 * 27 * 128
    assert total.flops == pytest.approx(14.6e6, rel=0.01)
    # Each looked-up row: 512 bytes read, then read and written again.
    rest = training_cost(blueprint(CRITEO_TERABYTE, config), distinct=0.0)
    assert total.bytes - sum(rest.values(), Cost()).bytes == 26 * 3 * 512
    assert rest["lookup"].bytes == rest["embedding update"].bytes == 26 * (4 + 256)


def test_bytes_of_a_tiny_network_by_hand():
    spec = FeatureSpec(numerical=2, cardinalities=(5,))
    config = ModelConfig(embedding_dim=3, bottom_mlp_sizes=(3,), top_mlp_sizes=(1,))
    parts = training_cost(blueprint(spec, config), number_bytes=4)
    bottom = (2 + 3) + (3 + 2)  # forward; weights
    top = (5 + 1) + (1 + 5) + (1 + 5 + 5)  # width 3 + 1 + 1; forward; weights; input
    assert parts["MLPs"].bytes == 4 * (bottom + top)
    assert parts["interaction"].bytes == 4 * (6 + 5 + 6 + 5 + 6)  # vectors, output; vectors, gradient, gradients
    assert parts["lookup"].bytes == 4 + 12 + 12
    assert parts["embedding update"].bytes == 4 + 12 + 2 * 12


def test_bags_look_up_more_rows_and_16_bits_halve_what_the_layers_move():
    one, three = (training_cost(blueprint(SPEC, ModelConfig(**SIZES, num_indices_per_lookup=n))) for n in (1, 3))
    assert three["lookup"].bytes - one["lookup"].bytes == 2 * 3 * (4 + 4 * 4)
    assert one["MLPs"] == three["MLPs"]
    wide = training_cost(blueprint(SPEC, ModelConfig(**SIZES)), number_bytes=4)
    assert (wide["MLPs"].bytes, wide["MLPs"].flops) == (2 * one["MLPs"].bytes, one["MLPs"].flops)


def test_the_slower_of_computing_and_moving_decides():
    cost = Cost(flops=100.0, bytes=10.0)
    assert cost.seconds(50.0, 10.0) == 2.0
    assert cost.seconds(50.0, 1.0) == 10.0
