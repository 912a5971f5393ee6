"""Watching torch at work: layers with the types of their numbers, operators with their shapes, programs compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


class Recorder(TorchDispatchMode):
    """A model of a device that records: inside the context, every operator is noted with the shapes that it takes.

    The operators run all the same. At a cut, what was noted since the one before becomes a graph; "compiled" only means
    that it is seen for the first time.

    Attributes:
        ran: For each graph in order, how many operators it has and whether it is a new one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple[int, bool]] = []
        self._graph: list[tuple] = []
        self._known: set[tuple] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs))
        shapes = (tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor))
        self._graph.append((str(function), *shapes))
        return function(*args, **(kwargs or {}))

    def cut(self) -> None:
        """Makes a graph of what was noted, if anything was."""
        graph, self._graph = tuple(self._graph), []
        if graph:
            self.ran.append((len(graph), graph not in self._known))
            self._known.add(graph)


def programs_after_each(function: Callable[..., object], calls: Iterable[Sequence[torch.Tensor]]) -> list[int]:
    """How many programs ``torch.compile`` has made of a function after each call, where shapes may not be dynamic.

    Each new program is handed to a stand-in for a compiler, which counts it and lets it run as it is.

    Args:
        function: Of tensors.
        calls: The arguments of one call after the other.
    """
    programs, counts = [], []

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        programs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(function, backend=count, dynamic=False)
    for arguments in calls:
        compiled(*arguments)
        counts.append(len(programs))
    return counts


def functions_called(run: Callable[[], object]) -> list[str]:
    """The names of torch's functions that compute new floating-point tensors while ``run`` runs, in their order."""
    with _Names() as names:
        run()
    return names.seen


class _Names(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point() and not result._is_view():
            self.seen.append(function.__name__)
        return result
