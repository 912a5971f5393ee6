"""What the lab says of the types of numbers in a network."""

from __future__ import annotations

import pytest
import torch

from dlrm_lib.config import ModelConfig
from dlrm_lib.features import FeatureSpec
from dlrm_lib.lab.layer_types import layer_types
from dlrm_lib.model import DLRM


@pytest.mark.parametrize("numbers", [3, 0])
def test_layers_are_seen_with_the_types_that_autocast_gives_them(numbers):
    sizes = {"embedding_dim": 4, "bottom_mlp_sizes": (8, 4), "top_mlp_sizes": (6, 1)}
    model = DLRM(FeatureSpec(numerical=numbers, cardinalities=(5, 9)), ModelConfig(**sizes))
    batch = torch.ones(2, numbers), torch.zeros(2, 2, dtype=torch.int32)
    plain = layer_types(model, lambda: model(*batch))
    with torch.autocast("cpu", torch.bfloat16):
        half = layer_types(model, lambda: model(*batch))
    assert list(half) == [*(f"bottom.{i}" for i in range(4) if numbers), "interaction", "top.0", "top.1", "top.2"]
    assert {row[-1] for row in plain.values()} == {"float32"}
    assert half["interaction"] == ["DotInteraction", "bfloat16 + float32" if numbers else "float32", "", "bfloat16"]
    assert half["top.0"] == ["Linear", "bfloat16", "float32", "bfloat16"]
    assert half["top.1"] == ["ReLU", "bfloat16", "", "bfloat16"]


def test_nothing_is_watched_any_more_even_after_a_failure():
    model = DLRM(FeatureSpec(numerical=1, cardinalities=(5,)), ModelConfig())
    with pytest.raises(ZeroDivisionError):
        layer_types(model, lambda: 1 / 0)
    assert not any(part._forward_hooks for part in model.modules())
