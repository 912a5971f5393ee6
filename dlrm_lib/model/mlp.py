"""Multilayer perceptrons, initialised as in NVIDIA's DLRM."""

from __future__ import annotations

import itertools
import math

from torch import nn


def mlp(inputs: int, sizes: tuple[int, ...], *, last_is_linear: bool) -> nn.Sequential:
    """Linear layers with ReLU between them: [B, inputs] → [B, sizes[-1]].

    Weights are drawn from normal(0, sqrt(2 / (in + out))), biases from normal(0, sqrt(1 / out)).

    Args:
        inputs: Width of the input.
        sizes: Width of each layer's output.
        last_is_linear: Leave out the last ReLU, for layers that end in a logit.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise((inputs, *sizes)):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.normal_(linear.weight, 0.0, math.sqrt(2.0 / (fan_in + fan_out)))
        nn.init.normal_(linear.bias, 0.0, math.sqrt(1.0 / fan_out))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*(layers[:-1] if last_is_linear else layers))
