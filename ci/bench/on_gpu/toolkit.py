"""The programs of NVIDIA's CUDA toolkit."""

from __future__ import annotations

import os
import shutil

from dlrm_lib.errors import InputError


def tool(name: str, what_for: str) -> str:
    """Where a program of the toolkit is: on PATH, or in the folder that CUDA_HOME names.

    Args:
        name: nvcc, or compute-sanitizer.
        what_for: The sentence to say if it is not there.

    Raises:
        InputError: it is not there.
    """
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = shutil.which(name) or shutil.which(name, path=f"{home}/bin")
    if not found:
        raise InputError(
            what_for,
            found=f"neither on PATH nor in {home}/bin",
            remedy="Install NVIDIA's CUDA toolkit; CUDA_HOME names its folder.",
        )
    return found
