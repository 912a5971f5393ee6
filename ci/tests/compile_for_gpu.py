"""Compiles what the kernels' wrappers would launch on an H100, without one: python compile_for_gpu.py bf16.

Prints as JSON, for each launch, what the assembler says of it: registers, stack, shared memory and how often each
instruction occurs. Tensors are on torch's meta device, so the shapes are those of NVIDIA's model at full size.
"""

from __future__ import annotations

import collections
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from dlrm_lib.backends.backend import PRECISIONS
from dlrm_lib.backends.cuda.kernels import GpuKernels

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
# The cardinalities of NVIDIA's data set at frequency limit 15.
SIZES = (7912889, 33823, 17139, 7339, 20046, 4, 7105, 1382, 63, 5554114, 582469, 245828, 11, 2209, 10667, 104, 4, 968)
SIZES += (15, 8165896, 2675940, 7156453, 302516, 12022, 97, 35)


def compile_launch(kernel: JITFunction, *args: object, num_warps: int = 4, **constants: object) -> dict:
    """What Triton's launcher would compile for these arguments, for sm_90."""
    signature, constexprs, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = args[place] if place < len(args) else constants[parameter.name]
        is_tensor = isinstance(value, torch.Tensor)
        if parameter.is_constexpr or value is None or (not is_tensor and value == 1):
            signature[parameter.name], constexprs[(place,)] = "constexpr", value
            continue
        signature[parameter.name] = POINTERS[value.dtype] if is_tensor else "i32" if value < 2**31 else "i64"
        if is_tensor or value % 16 == 0:
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        code = subprocess.run([TOOLS / "nvdisasm", "-c", file.name], capture_output=True, text=True, check=True).stdout
        command = [TOOLS / "cuobjdump", "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage.stdout + usage.stderr)
    instructions = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)", code, re.M)
    return {
        "kernel": kernel.fn.__name__,
        "warps": num_warps,
        "registers": int(found[1]),
        "stack": int(found[2]) + int(found[3]),
        "shared": compiled.metadata.shared,
        "instructions": collections.Counter(instructions),
    }


def launches(precision: str, batch: int = 65536, dim: int = 128) -> list[dict]:
    """One step's launches, in both modes of the update, compiled."""
    found: list[dict] = []

    def run(kernel: JITFunction, *args: object, grid: tuple, warmup: bool, **settings: object) -> None:
        assert all(grid)
        found.append(compile_launch(kernel, *args, **settings))

    JITFunction.run = run
    empty = {"device": "meta", "dtype": PRECISIONS[precision], "requires_grad": True}
    ids = torch.empty(batch, len(SIZES), dtype=torch.int32, device="meta")
    weight, number = torch.empty(sum(SIZES), dim, device="meta"), torch.empty(1, device="meta")
    for deterministic in (False, True):
        settings = {"self_interaction": False, "precision": precision, "deterministic": deterministic}
        kernels = GpuKernels(SIZES, device="meta", **settings)
        rows, bottom = torch.empty(batch, len(SIZES), dim, **empty), torch.empty(batch, dim, **empty)
        if not deterministic:
            kernels.gather(weight, ids, PRECISIONS[precision])
            out = kernels.interact(bottom, rows, dim + 27 * 26 // 2 + 1, overflow=number)
            out.backward(torch.empty_like(out))
        kernels.add_rows(weight, ids, rows.detach(), number, number)
    return found


if __name__ == "__main__":
    print(json.dumps(launches(sys.argv[1])))
