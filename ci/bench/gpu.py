"""DLRM on an NVIDIA GPU: is it right, how fast is it, how fast is NVIDIA's own trainer on the same card.

    python ci/bench/gpu.py --stage correctness|speed|peer|sanitize [--parts A,B] [--record figures/records]
                           [--peer PATH] [--rehearse]

Each stage takes less than eight minutes on an H100, prints a table last, and with ``--record FOLDER`` writes
``gpu_<stage>.json`` there after each of its parts. What there was no time for is named; run again with ``--parts`` it
is added to the same record, if card and software are the same. Compiled layers and kernels are kept on disk, so a
second run goes faster. The stages need torch with CUDA, Triton, NumPy, PyYAML and safetensors, no network, about 70 GB
of the card's memory, and a card that does nothing else.

- correctness: kernels against float64, a CUDA graph against the same steps without (bit for bit), fused against
  ordinary steps, overflow, and the AUC over ten seeds in fp32, bf16 and fp16. Exit 1 if something does not hold.
- speed: NVIDIA's model with the cardinalities of Criteo's 24 days (26 tables, 32.7 million rows, 16.7 GB), 32 batches
  in rotation: a ladder from plain PyTorch to a recorded step with compiled layers, all precisions, each kernel, the
  roofline, training from disk, inference, and which block sizes suit the card. Exit 1 below 8 million samples/s.
- peer: NVIDIA's trainer beside ours, from the same weights on the same batches, in turn. ``--peer`` names a checkout of
  github.com/NVIDIA/DeepLearningExamples, or its folder PyTorch/Recommendation/DLRM; its CUDA sources are compiled into
  a temporary folder, for which NVIDIA's nvcc is needed. Exit 1 if ours is not 1.3 times as fast.
- sanitize: all kernels under compute-sanitizer, which NVIDIA's CUDA toolkit brings.

``--rehearse`` runs a stage on the CPU, on a model of a few hundred rows: Triton's interpreter in the place of the GPU,
no recording, no compiled layers, no record. It shows that the program runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

STAGES = ("correctness", "speed", "peer", "sanitize")


def main(flags: Sequence[str] | None = None) -> int:
    """Runs a stage; 0 if all holds, 1 if something does not, 2 if it cannot be run here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", required=True, choices=STAGES)
    parser.add_argument("--parts", type=lambda text: text.split(","), help="only these parts of the stage")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write gpu_<stage>.json there")
    parser.add_argument("--peer", type=Path, metavar="PATH", help="a checkout of NVIDIA's DeepLearningExamples")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny, without a record")
    arguments = parser.parse_args(flags)
    if arguments.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
    return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Imports what the stage needs, which differs between a card and a rehearsal, and runs it."""
    from bench.command_line import writable
    from bench.on_gpu.card import Card, StandIn
    from bench.on_gpu.report import Report

    from dlrm_lib.config import Config
    from dlrm_lib.errors import InputError
    from dlrm_lib.process import prepare

    prepare(Config().override(device="cuda"))
    try:
        if arguments.record:
            writable("--record", arguments.record, folder=True)
        card = StandIn() if arguments.rehearse else Card()
        parts = _parts(arguments)
        if unknown := set(arguments.parts or ()) - set(parts):
            raise InputError(
                f"The stage {arguments.stage} has no such part.",
                found=", ".join(sorted(unknown)),
                remedy=f"Parts are: {', '.join(parts)}.",
            )
        report = Report(arguments.stage, card, arguments.record)
        report.run(parts, arguments.parts)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(report.table())
    return 1 if report.failed else 0


def _parts(arguments: argparse.Namespace) -> dict:
    if arguments.stage == "correctness":
        from bench.on_gpu.correctness import PARTS
    elif arguments.stage == "speed":
        from bench.on_gpu.speed import PARTS
    elif arguments.stage == "sanitize":
        from bench.on_gpu.sanitize import PARTS, sanitizer

        if not arguments.rehearse:
            sanitizer()
    else:
        from bench.on_gpu.peer import parts

        return parts(arguments.peer)
    return PARTS


if __name__ == "__main__":
    sys.exit(main())
