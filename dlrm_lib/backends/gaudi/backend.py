"""Training and scoring on one Intel Gaudi card, through Habana's plugin for torch.

Written against the plugin's public source (HabanaAI/gaudi-pytorch-bridge at 5a56187e, version 1.19) and the vendor's
documentation up to 1.24. It has not been run on a Gaudi.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn

from dlrm_lib.backends.backend import AnyBatch, Backend
from dlrm_lib.backends.gaudi import environment
from dlrm_lib.backends.gaudi.step import CoalescedStep, sums
from dlrm_lib.backends.inference import Inference
from dlrm_lib.config import ResolvedTraining, TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM
from dlrm_lib.optim import OPTIMIZERS, Adagrad


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


class Hpu(Backend):
    """The first Gaudi card.

    Batches come in static shapes. They are read and prepared by the thread that trains: calls return before the device
    has done its work, so that this happens meanwhile all the same, and no second thread enters the plugin, whose lazy
    mode is recording.
    """

    torch_type = "hpu"
    readers = 0
    whole_batches = True

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
        """In lazy mode, has the operations up to here compiled and run."""
        if environment.is_lazy():  # elsewhere it does nothing, with a warning
            self._core.mark_step()

    def resolved_precision(self, name: str) -> str:
        if name in ("fp16", "tf32"):
            raise InputError(
                f"{name} is not there on Gaudi: mixed precision is bf16, whose range is that of fp32.",
                found=name,
                remedy="Use --precision bf16, which needs no loss scale, or fp32.",
            )
        return "bf16" if name == "auto" else name

    def resolved_execution(self, name: str) -> str:
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

    def resolved(self, config: TrainingConfig, model: DLRM, rows: int) -> ResolvedTraining:
        """As every backend's.

        Raises:
            InputError: also for a rule that is not static, and for a schedule where the rule keeps its first rate.
        """
        static = [name for name, rule in OPTIMIZERS.items() if rule.is_static]
        if config.optimizer not in static:
            raise InputError(
                f"--optimizer {config.optimizer} is not there on {self.description}.",
                found=config.optimizer,
                remedy=f"Use one of: {', '.join(static)}.",
            )
        resolved = super().resolved(config, model, rows)
        constant = resolved.warmup_steps <= 1 and resolved.decay_steps == 0
        if self._keeps_lr(config) and not constant:
            raise InputError(
                "In lazy mode Adagrad keeps the learning rate it was made with: --warmup_steps and --decay_steps would "
                "do nothing.",
                found=f"warmup_steps {resolved.warmup_steps}, decay_steps {resolved.decay_steps}",
                remedy="Add --warmup_steps 0 --decay_steps 0, or use --execution compile or eager.",
            )
        return resolved

    def training_step(self, model: DLRM, config: ResolvedTraining) -> CoalescedStep:
        """Habana's own bag operators are not used: they take tensors of variable size, and only in lazy mode."""

        def dense(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
            # Habana's fused one works in lazy mode alone.
            if self._keeps_lr(config):
                return _plugin("hpex.optimizers").FusedAdagrad(parameters, lr=config.lr)
            return OPTIMIZERS[config.optimizer].dense_class(parameters, lr=config.lr, foreach=False)

        parts = model.parts
        if config.execution == "compile":
            bottom = model.bottom and _compiled(model.bottom)
            parts = parts._replace(bottom=bottom, top=_compiled(model.top))
        return CoalescedStep(model, config, self, dense=dense, parts=parts, mark_step=self.mark_step)

    def inference(self, model: DLRM, precision: str = "fp32", execution: str = "eager") -> Inference:
        """In lazy mode the layers are an HPU graph for each size of batch: recorded once, replayed without Python."""
        tables, parts = model.tables, model.parts
        if self.resolved_execution(execution) == "lazy":
            parts = parts._replace(bottom=model.bottom and self._graph(model.bottom), top=self._graph(model.top))

        def lookup(ids: torch.Tensor) -> torch.Tensor:
            return sums(tables.weight, tables.row_ids(ids))

        precision = self.resolved_precision(precision)
        return Inference(model, self, precision, parts=parts, lookup=lookup, after=self.mark_step)

    def _keeps_lr(self, config: TrainingConfig) -> bool:
        """Whether the layers' optimizer never looks at its learning rate again: Habana's fused Adagrad does not."""
        return environment.is_lazy() and OPTIMIZERS[config.optimizer].dense_class is Adagrad.dense_class

    def _graph(self, mlp: nn.Sequential) -> Callable[[torch.Tensor], torch.Tensor]:
        # Of a new module with the same layers: it changes the module that it is given, which goes on training.
        graph = self._hpu.wrap_in_hpu_graph(nn.Sequential(*mlp))
        return lambda inputs: graph(inputs).clone()  # the next replay writes where this one did

    def seed(self, seed: int) -> None:
        super().seed(seed)
        self._hpu.manual_seed_all(seed)

    def put(self, batch: AnyBatch) -> AnyBatch:
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


def _compiled(mlp: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.compile(mlp, backend="hpu_backend", dynamic=False)
