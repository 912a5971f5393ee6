"""Makes ``torch.hpu``, and ends steps."""

from habana_frameworks.torch import hpu

import torch

from .step_closure import mark_step as mark_step

torch._register_device_module("hpu", hpu)
