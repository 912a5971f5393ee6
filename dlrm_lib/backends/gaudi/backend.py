"""One Intel Gaudi card, through Habana's plugin for torch.

Written against the plugin's public source (HabanaAI/gaudi-pytorch-bridge at 5a56187e, version 1.19) and the vendor's
documentation up to 1.24. It has not been run on a Gaudi.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn

from dlrm_lib import gaudi_environment as environment
from dlrm_lib.devices.base import Batch, Device, ModelShape
from dlrm_lib.errors import InputError


def is_available(execution: str = "auto") -> bool:
    """Whether there is a card to be used; a plugin alone is not enough. It binds the process to a mode, as ``Hpu``.

    Raises:
        InputError: the process is bound to the other mode.
    """
    if not environment.plugin_is_installed():
        return False
    environment.prepare(execution)
    try:
        return _plugin("hpu").is_available()
    except InputError:
        return False


class Hpu(Device):
    """The first Gaudi card.

    Batches come in static shapes. They are read and prepared by the thread that trains: calls return before the device
    has done its work, so that this happens meanwhile all the same, and no second thread enters the plugin, whose lazy
    mode is recording.
    """

    torch_type = "hpu"
    readers = 0
    coalesces = True
    sums_bags = False

    def __init__(self, execution: str = "auto") -> None:
        """``execution``: as in ``TrainingConfig``; lazy mode is a matter of the whole process.

        Raises:
            InputError: there is no plugin or no card, or the process is bound to the other mode.
        """
        if not environment.plugin_is_installed():
            raise _no_gaudi("no module habana_frameworks")
        environment.prepare(execution)
        self._core, self._hpu = _plugin("core"), _plugin("hpu")
        if not self._hpu.is_available():
            raise _no_gaudi("the plugin is installed and finds no card")
        self.torch_device = torch.device(self.torch_type)
        self.adagrad_keeps_lr = environment.is_lazy()
        # Copies from pageable memory wait. Where torch does not take the card for its accelerator, pin_memory() would
        # be meant for another one.
        accelerator = torch.accelerator.current_accelerator()
        self._pins = accelerator is not None and accelerator.type == self.torch_device.type

    @property
    def description(self) -> str:
        return f"Intel Gaudi ({self._hpu.get_device_name()})"

    def synchronize(self) -> None:
        self.mark_step()
        self._hpu.synchronize()

    def mark_step(self) -> None:
        if environment.is_lazy():  # elsewhere it does nothing, with a warning
            self._core.mark_step()

    def precision(self, name: str) -> str:
        if name in ("fp16", "tf32"):
            raise InputError(
                f"{name} is not there on Gaudi: mixed precision is bf16, whose range is that of fp32.",
                found=name,
                remedy="Use --precision bf16, which needs no loss scale, or fp32.",
            )
        return "bf16" if name == "auto" else name

    def execution(self, name: str) -> str:
        """As every device's; ``auto`` is compile, the vendor's way since 1.21, or lazy in a process bound to it."""
        lazy = environment.is_lazy()
        if name == "graph":
            raise InputError(
                "CUDA graphs need an NVIDIA GPU.", found="Intel Gaudi", remedy="Use --execution compile or lazy."
            )
        if name != "auto" and (name == "lazy") != lazy:
            raise InputError(
                f"--execution {name} needs the other mode of Habana's plugin, which is chosen once per process.",
                found=f"{environment.LAZY_MODE}={int(lazy)}",
                remedy="Start anew.",
            )
        return ("lazy" if lazy else "compile") if name == "auto" else name

    def kernels(self, execution: str, shape: ModelShape) -> None:
        """None: Habana's own bag operators take tensors of variable size, and only in lazy mode."""
        self.execution(execution)

    def compiled(self, mlp: nn.Module, execution: str) -> Callable[[torch.Tensor], torch.Tensor]:
        if self.execution(execution) == "compile":
            return torch.compile(mlp, backend="hpu_backend", dynamic=False)
        return mlp

    def for_inference(self, mlp: nn.Sequential, execution: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """In lazy mode an HPU graph for each size of batch: recorded once, replayed without Python."""
        if self.execution(execution) != "lazy":
            return mlp
        # Of a new module with the same layers: it changes the module that it is given, which goes on training.
        graph = self._hpu.wrap_in_hpu_graph(nn.Sequential(*mlp))
        return lambda inputs: graph(inputs).clone()  # the next replay writes where this one did

    def adagrad(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Habana's fused one in lazy mode, torch's elsewhere, where the fused one does not work."""
        if environment.is_lazy():
            return _plugin("hpex.optimizers").FusedAdagrad(parameters, lr=lr)
        return super().adagrad(parameters, lr)

    def seed(self, seed: int) -> None:
        super().seed(seed)
        self._hpu.manual_seed_all(seed)

    def put(self, batch: Batch) -> Batch:
        """Starts the copies, from pinned memory, and does not wait for them."""
        return super().put(type(batch)(*(tensor.pin_memory() for tensor in batch)) if self._pins else batch)


def _plugin(part: str) -> ModuleType:
    try:
        return importlib.import_module(f"habana_frameworks.torch.{part}")
    except (ImportError, AssertionError, OSError) as error:  # another torch than it was built for, or no driver
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise _no_gaudi(f"the plugin cannot be loaded ({reason})") from None


def _no_gaudi(found: str) -> InputError:
    return InputError(
        "No Intel Gaudi can be used here.",
        found=found,
        remedy="Use --device cpu, or a machine with a Gaudi and Habana's build of torch with its plugin.",
    )
