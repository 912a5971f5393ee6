"""Every Triton kernel under NVIDIA's compute-sanitizer, on small and odd sizes.

    python ci/bench/on_gpu/sanitize.py [--device cpu]

runs the kernels alone, which is what the stage ``sanitize`` of gpu.py has compute-sanitizer watch.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.on_gpu.card import Card
from bench.on_gpu.data import TINY
from bench.on_gpu.report import Part, Report
from bench.on_gpu.toolkit import tool

from dlrm_lib.model.interactions.dot import DotInteraction

# Tables below, at and above what kernels treat as small; lengths that are no power of two; batches around a block.
TABLES = (1, 128, 129, 1000)
DIMS = (20, 128)
BATCHES = (1, 17, 65)
# What the tools print at their end: ``ERROR SUMMARY: 0 errors`` and
# ``RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)``.
_SUMMARY = re.compile(r"========= (?:ERROR SUMMARY: (\d+) errors?|RACECHECK SUMMARY: (\d+) hazards? displayed)")


def run_kernels(device: torch.device, dtypes: tuple[torch.dtype, ...], *, atomics: bool = True) -> None:
    """Runs each kernel once on each size; ``atomics`` False leaves out those that add atomically."""
    from dlrm_lib.backends.cuda import gather, update

    sizes = torch.tensor(TABLES)
    offsets = (sizes.cumsum(0) - sizes).to(device)
    columns = update.columns_by_size(TABLES, device)
    step, none, flag = (torch.tensor(value, device=device) for value in (-0.1, 0.0, 0.0))
    for dim in DIMS:
        weight = torch.randn(sum(TABLES), dim, device=device)
        for rows in BATCHES:
            ids = torch.stack([torch.randint(size, (rows,), dtype=torch.int32) for size in TABLES], 1)
            ids[-1] = sizes - 1
            ids = ids.to(device)
            for dtype in dtypes:
                vectors = gather.gather(weight, ids, offsets, dtype).requires_grad_()
                for bottom in (None, torch.randn(rows, dim, device=device).to(dtype).requires_grad_()):
                    for both in (False, True):
                        _interact_both_ways(bottom, vectors, both, flag)
                gradient = vectors.grad
                update.add_rows_in_order(weight, ids, offsets, gradient, step, none)
                if atomics:
                    update.add_rows(weight, ids, offsets, columns, gradient, step, none)


def _interact_both_ways(
    bottom: torch.Tensor | None, rows: torch.Tensor, self_interaction: bool, overflow: torch.Tensor
) -> None:
    from dlrm_lib.backends.cuda.interaction import interact

    has_bottom, (_, columns, dim) = bottom is not None, rows.shape
    model = replace(TINY.model, embedding_dim=dim, bottom_mlp_sizes=(dim,), self_interaction=self_interaction)
    width = DotInteraction(columns + has_bottom, has_bottom, model).width
    out = interact(bottom, rows, width, self_interaction=self_interaction, precision="fp32", overflow=overflow)
    out.backward(torch.randn_like(out))


def errors(output: str) -> int | None:
    """Errors or hazards that compute-sanitizer counted; None if it did not come to its end."""
    found = _SUMMARY.findall(output)
    return sum(int(number) for pair in found for number in pair if number) if found else None


def sanitizer() -> str:
    """Where compute-sanitizer is.

    Raises:
        InputError: it is not here.
    """
    return tool("compute-sanitizer", "compute-sanitizer is not installed here.")


def watched(card: Card, report: Report, tool: str, *, atomics: bool) -> None:
    """Runs the kernels under a tool of compute-sanitizer and counts what it finds."""
    script = [str(Path(__file__).resolve()), *([] if atomics else ["--no_atomics"])]
    if card.rehearsal:
        script += ["--device", "cpu"]
    # Each tensor in memory of its own, so that what lies behind it is out of bounds.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    command = [sys.executable, *script]
    # Once without the tool: kernels are compiled and kept for the run under it.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the kernels fail without the tool: {done.stderr.strip().splitlines()[-1:]}")
    if card.rehearsal:
        report.line(f"      {tool} is not asked in a rehearsal; the kernels ran")
        return
    # Not what torch asks the driver for in vain when it starts.
    command = [sanitizer(), "--tool", tool, "--report-api-errors", "no", *command]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=max(30, report.left() - 10)
        )
    except subprocess.TimeoutExpired:
        report.check(f"{tool} came to its end", False, "the time was over")
        return
    found = errors(done.stdout + done.stderr)
    passed = found == 0 and done.returncode == 0
    report.check(f"{tool} finds nothing", passed, "no summary" if found is None else f"{found} found")
    if not passed:
        print((done.stdout + done.stderr)[-4000:])
    report.keep(tool, found=found, command=" ".join(command), tables=TABLES, dims=DIMS, batches=BATCHES)


def memcheck(card: Card, report: Report) -> None:
    """Accesses out of bounds, misaligned, or of freed memory; leaks are the caching allocator's business."""
    watched(card, report, "memcheck", atomics=True)


def racecheck(card: Card, report: Report) -> None:
    """Hazards in shared memory, in kernels without atomic additions."""
    watched(card, report, "racecheck", atomics=False)


PARTS = {"memcheck": Part(150, memcheck), "racecheck": Part(90, racecheck)}


def main() -> None:
    """Runs the kernels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: in Triton's interpreter")
    parser.add_argument("--no_atomics", action="store_true", help="leave out the kernels that add atomically")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
        global DIMS, BATCHES
        DIMS, BATCHES = DIMS[:1], BATCHES[1:2]
    dtypes = (torch.float32, torch.float16) + ((torch.bfloat16,) if arguments.device == "cuda" else ())
    run_kernels(torch.device(arguments.device), dtypes, atomics=not arguments.no_atomics)
    if arguments.device == "cuda":
        torch.cuda.synchronize()
    print("all kernels ran")


if __name__ == "__main__":
    main()
