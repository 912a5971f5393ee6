"""What Habana's plugin reads from the environment, set before anything imports it.

The plugin looks at these variables once, when it is loaded, and on a Gaudi machine ``import torch`` may load it. So
they are set by a module that imports no torch. A value that the user has set is never changed.

- ``PT_HPU_LAZY_MODE``: 0 runs each operation when it is called, and is what ``torch.compile`` needs; 1 collects
  operations into a graph until ``mark_step``. The default has changed between versions (1 in 1.19, 0 since 1.21), so it
  is always said.
- ``PT_HPU_AUTOCAST_LOWER_PRECISION_OPS_LIST`` and ``PT_HPU_AUTOCAST_FP32_OPS_LIST``: files that name the operators that
  autocast runs in bf16 and in fp32, one a line, instead of the plugin's own lists. Ours are those that Habana published
  for DLRM (``ops_bf16_dlrm.txt`` and ``ops_fp32_dlrm.txt`` in HabanaAI/Model-References at 4b841ff8): matrix products
  in bf16, the loss in fp32. In place of its two custom embedding operators stand today's names of looking up, and
  beside its loss the one that takes logits.

Habana's script of 2021 also set ``MAX_WAIT_ATTEMPTS``, ``HCL_CPU_AFFINITY`` and ``RUN_TPC_FUSER``. The plugin's public
source (HabanaAI/gaudi-pytorch-bridge at 5a56187e) reads none of them: they are left to the user.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from dlrm_lib.errors import InputError

LAZY_MODE = "PT_HPU_LAZY_MODE"
OPERATOR_LISTS = {
    "PT_HPU_AUTOCAST_LOWER_PRECISION_OPS_LIST": "autocast_bf16_operators.txt",
    "PT_HPU_AUTOCAST_FP32_OPS_LIST": "autocast_fp32_operators.txt",
}
_FOLDER = Path(__file__).parent


def plugin_is_installed() -> bool:
    """Whether there is a plugin to import; there may be no Gaudi all the same."""
    return importlib.util.find_spec("habana_frameworks") is not None


def is_lazy() -> bool:
    """Whether this process uses the plugin in lazy mode; ``prepare`` has been called."""
    return os.environ[LAZY_MODE] != "0"


def prepare(execution: str) -> None:
    """Sets the variables for a way of execution: lazy, eager or compile; ``auto`` is the user's choice, or not lazy.

    Raises:
        InputError: the process is bound to the other mode, by a variable or because the plugin is loaded.
    """
    given, wanted = os.environ.get(LAZY_MODE), "1" if execution == "lazy" else "0"
    if given is None and wanted == "1" and "habana_frameworks.torch" in sys.modules:
        raise InputError(
            "--execution lazy comes too late: the plugin has been loaded without it.",
            found=f"{LAZY_MODE} is not set",
            remedy=f"Start anew with {LAZY_MODE}=1.",
            fields=("execution",),
        )
    if given is not None and execution != "auto" and (given != "0") != (wanted == "1"):
        raise InputError(
            f"--execution {execution} needs {LAZY_MODE}={wanted}, which the plugin reads once per process.",
            found=f"{LAZY_MODE}={given}",
            remedy=f"Start anew with {LAZY_MODE}={wanted}, or without it.",
            fields=("execution",),
        )
    os.environ.setdefault(LAZY_MODE, wanted)
    for variable, name in OPERATOR_LISTS.items():
        os.environ.setdefault(variable, str(_FOLDER / name))
