"""Which types of numbers go through the layers of a network: what autocast really does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dlrm_lib.model import DLRM


def layer_types(model: DLRM, run: Callable[[], object]) -> dict[str, list[str]]:
    """Name of each layer that runs → its class, and the types of what it takes, of its weights and of what it gives.

    Args:
        model: Its MLPs and its interaction are watched, each layer by itself.
        run: Has the model compute, once.
    """
    seen = {}
    names = {part: name for name, part in model.named_modules()}

    def look(layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        weight = getattr(layer, "weight", None)
        seen[names[layer]] = [type(layer).__name__, _types(*inputs), _types(weight), _types(output)]

    hooks = [part.register_forward_hook(look) for part in (*(model.bottom or ()), model.interaction, *model.top)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _types(*tensors: torch.Tensor | None) -> str:
    return " + ".join(str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor is not None)
