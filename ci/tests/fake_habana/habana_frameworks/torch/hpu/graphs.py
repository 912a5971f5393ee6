"""HPU graphs: the first call with inputs of some shapes records, later ones replay into the same output.

That is what can go wrong with them, and what is imitated: an output that was kept changes with the next call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from habana_frameworks.torch.record import record

import torch
from torch import nn


def wrap_in_hpu_graph(module, asynchronous=False, disable_tensor_cache=False, dry_run=False, max_graphs=None):
    """Replaces the forward pass of a module that returns one tensor; for inference, a replay has no gradients."""
    forward, outputs = module.forward, {}

    @functools.wraps(forward)
    def recorded(*args, **kwargs):
        with torch.no_grad():
            result = forward(*args, **kwargs)
        key = _shapes(*args, *kwargs.values())
        if key in outputs:
            record("graph: replay")
            return outputs[key].copy_(result)
        if max_graphs is None or len(outputs) < max_graphs:
            record("graph: record")
            outputs[key] = result
        return result

    module.forward = recorded
    module.clear_cache = outputs.clear
    return module


def make_graphed_callables(
    callables,
    sample_args,
    warmups=0,
    allow_unused_input=False,
    asynchronous=False,
    disable_tensor_cache=False,
    dry_run=False,
):
    """Callables that take tensors of the samples' shapes only, and differentiate."""
    if not isinstance(callables, tuple):
        return make_graphed_callables((callables,), (sample_args,))[0]
    return tuple(_graphed(function, sample) for function, sample in zip(callables, sample_args, strict=True))


def _graphed(function: Callable[..., Any], sample: tuple[torch.Tensor, ...]) -> Callable[..., Any]:
    assert all(isinstance(argument, torch.Tensor) for argument in sample), "graphs take tensors by position"
    original = function.forward if isinstance(function, nn.Module) else function

    def replayed(*args):
        assert _shapes(*args) == _shapes(*sample), "a graph replays inputs of the shapes that it was recorded with"
        record("graph: replay")
        return original(*args)

    record("graph: record")
    if isinstance(function, nn.Module):
        function.forward = replayed
        return function
    return replayed


class ModuleCacher(nn.Module):
    """Graphs for training a module: one for each combination of shapes, up to ``max_graphs``."""

    def __init__(self, max_graphs=10):
        super().__init__()
        self.max_graphs = max_graphs

    def __call__(
        self,
        model,
        use_lfu=False,
        inplace=True,
        allow_unused_input=False,
        asynchronous=False,
        have_grad_accumulation=False,
        log_frequency=100,
        verbose=False,
        disable_tensor_cache=False,
        dry_run=False,
    ):
        forward, known = model.forward, set()

        def cached(*args, **kwargs):
            key = _shapes(*args, *kwargs.values())
            if model.training and torch.is_grad_enabled() and (key in known or len(known) < self.max_graphs):
                record("graph: replay" if key in known else "graph: record")
                known.add(key)
            return forward(*args, **kwargs)

        model.forward = cached
        return model


def _shapes(*values: Any) -> tuple[Any, ...]:
    return tuple((v.shape, v.dtype) if isinstance(v, torch.Tensor) else v for v in values)
