"""Run in a process of its own: training steps on a device called hpu that has shapes and no numbers.

torch's fake tensors raise where a value of the device would be read. For each optimizer and step it prints a JSON line:
the operators, with shape, type and device of each tensor that they take.
"""

from __future__ import annotations

import json
import sys
import types

import torch
from fake_plugin import fake_plugin
from test_coalesced import BAGS, MODEL, Log, bags
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from dlrm_lib.backends.gaudi.backend import Hpu
from dlrm_lib.backends.gaudi.coalesce import coalesce
from dlrm_lib.config import TrainingConfig
from dlrm_lib.model import DLRM


def fake_device(execution: str) -> Hpu:
    """A Gaudi of the stand-in, whose name torch then takes for a device that runs nothing."""
    device = Hpu(execution)
    del torch.hpu  # the stand-in's: torch registers one with the device
    backend = types.SimpleNamespace(
        is_available=lambda: False,
        is_initialized=lambda: True,
        current_device=lambda: 0,
        get_amp_supported_dtype=lambda: [torch.bfloat16],
    )
    _setup_privateuseone_for_python_backend("hpu", backend_module=backend)
    device.torch_device = torch.device("hpu")  # another one than before
    return device


def run(device: Hpu, execution: str, optimizer: str, read: bool) -> None:
    """Three steps; ``read``: look at the loss of each, which must fail."""
    config = TrainingConfig(optimizer=optimizer, lr=0.01, warmup_steps=0, precision="fp32", execution=execution)
    model, layout = DLRM(BAGS, MODEL), DLRM(BAGS, MODEL).tables.layout
    batches = [bags(seed, shortest=seed) for seed in range(3)]
    batches = [coalesce(batch, layout.row_ids(batch.categorical)) for batch in batches]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        model.to("hpu")
        step = device.training_step(model, device.resolved(config, model, rows=1600))
        for group in step.optimizer.dense.param_groups:  # the plugin's own lie on the device
            group |= {name: group[name].to("hpu") for name in ("lr_t", "step_t") if name in group}
        for batch in batches:
            there = device.put(type(batch)(*map(fake.from_tensor, batch)))
            with Log() as log:
                loss = step(there, 0.01)
                if read:
                    loss.item()
            print(json.dumps([[name, *map(str, tensors)] for name, *tensors in log.calls]))


if __name__ == "__main__":
    with fake_plugin(lazy=sys.argv[1] == "lazy"):
        gaudi = fake_device(sys.argv[1])
        for rule in ("sgd", "adagrad", "rowwise_adagrad"):
            run(gaudi, sys.argv[1], rule, read=sys.argv[2:] == ["read"])
