"""NVIDIA's DLRM made importable beside current software: its Python as it is, its CUDA sources compiled.

Nothing of it is part of this project. A checkout of github.com/NVIDIA/DeepLearningExamples, whose newest state of
PyTorch/Recommendation/DLRM is from 2024, is copied to a folder, and what is missing or does not fit is put beside it:

- its sources are compiled for the card that is here instead of those of 2020;
- ``sparse_gather``, which its model does not use for 26 tables of 128, is an empty module;
- packages that are not installed are stubs: apex (without it the MLPs are torch's own, see ``peer``) and absl.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path

import torch
from bench.on_gpu.toolkit import tool

from dlrm_lib.errors import InputError

# Extension → its sources and the macros that its own set-up gives them.
_EXTENSIONS = {
    "fused_embedding": (("pytorch_embedding_ops.cpp", "gather_gpu_fused_pytorch_impl.cu"), ()),
    "interaction_ampere": (
        ("dot_based_interact_ampere/pytorch_ops.cpp", "dot_based_interact_ampere/dot_based_interact_pytorch_types.cu"),
        (
            *("-DCUDA_HAS_FP16=1", "-D__CUDA_NO_HALF_OPERATORS__"),
            *("-D__CUDA_NO_HALF_CONVERSIONS__", "-D__CUDA_NO_HALF2_OPERATORS__"),
        ),
    ),
}
# What its modules take from packages when they are imported.
_STUBS = {
    "apex": {"apex/__init__.py": "", "apex/mlp.py": "class MLP: pass\nclass MlpFunction: pass\n"},
    "absl": {"absl/__init__.py": "", "absl/logging.py": "WARNING = 1\ndef log_first_n(*arguments): pass\n"},
}


def find(checkout: Path | None) -> Path:
    """The folder that holds its package ``dlrm``, from a checkout or that folder itself.

    Raises:
        InputError: it is not there.
    """
    for folder in (checkout, checkout and checkout / "PyTorch/Recommendation/DLRM"):
        if folder and (folder / "dlrm/model/distributed.py").exists():
            return folder
    raise InputError(
        "--stage peer needs NVIDIA's trainer: --peer PATH.",
        found=checkout or "no --peer",
        remedy="git clone https://github.com/NVIDIA/DeepLearningExamples, and --peer DeepLearningExamples",
    )


def prepare(source: Path, folder: Path, *, compiled: bool = True) -> list[str]:
    """Fills ``folder``, which then goes on ``sys.path``; returns in words what is not the original.

    Args:
        source: From ``find``.
        folder: An empty one.
        compiled: False leaves empty modules in the place of the extensions, which a CPU cannot run.

    Raises:
        InputError: no nvcc is here, or it does not manage.
    """
    shutil.copytree(source / "dlrm", folder / "dlrm")
    extensions = folder / "dlrm" / "cuda_ext"
    (extensions / "sparse_gather.py").touch()
    changes = ["sparse_gather is an empty module: the model with 26 tables of 128 does not use it"]
    for package, files in _STUBS.items():
        if importlib.util.find_spec(package) is None:
            for name, text in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(text)
            changes.append(f"{package} is a stub")
    if not compiled:
        for name in _EXTENSIONS:
            (extensions / f"{name}.py").touch()
        return [*changes, "its CUDA sources are not compiled"]
    capability = "".join(map(str, torch.cuda.get_device_capability()))
    builds = {}
    for name in _EXTENSIONS:
        log = (folder / f"{name}.log").open("w")
        command = compile_command(name, source, extensions, capability)
        builds[name] = log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    for name, (log, build) in builds.items():
        build.wait()
        log.close()
        if build.returncode:
            lines = Path(log.name).read_text().splitlines()
            error = next((line for line in lines if "error" in line), "no message")
            raise InputError(
                f"NVIDIA's {name} does not compile here.", found=error, remedy="Use torch 2.11, CUDA 13.0."
            )
    return [*changes, f"its CUDA sources are compiled for compute capability {capability} alone"]


def compile_command(
    name: str, source: Path, target: Path, capability: str, torch_folder: Path | None = None
) -> list[str]:
    """The command that makes one extension, in the folder ``target``, for a GPU of a compute capability (``90``).

    Raises:
        InputError: there is no nvcc.
    """
    nvcc = tool("nvcc", "NVIDIA's trainer must be compiled, and there is no nvcc.")
    library = torch_folder or Path(torch.__file__).parent
    # CUDA's libraries come with torch as packages, and their headers in these.
    headers = [library / "include", library / "include/torch/csrc/api/include", sysconfig.get_path("include")]
    headers += sorted(library.parent.glob("nvidia/*/include"))
    files, macros = _EXTENSIONS[name]
    return [
        *(nvcc, "-O3", "-std=c++20", "-gencode", f"arch=compute_{capability},code=sm_{capability}"),
        *("-Xcompiler", "-fPIC", "-shared", f"-DTORCH_EXTENSION_NAME={name}", *macros),
        *(f"-I{folder}" for folder in headers),
        *(str(source / "dlrm/cuda_src" / file) for file in files),
        *("-o", str(target / f"{name}.so"), f"-L{library / 'lib'}"),
        *("-lc10", "-lc10_cuda", "-ltorch", "-ltorch_cpu", "-ltorch_cuda", "-ltorch_python"),
    ]
