"""The commands ``test`` and ``inference_benchmark``: how good a trained model is, and how fast."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import TYPE_CHECKING

from dlrm_lib.commands.command import Command, configuration, refuse_several_processes
from dlrm_lib.commands.model_inputs import FLAGS, SETTINGS, kept, loaded_model, opened_dataset
from dlrm_lib.config import as_dict
from dlrm_lib.console import latency_table, result_line, say
from dlrm_lib.errors import InputError
from dlrm_lib.process import prepare

if TYPE_CHECKING:
    from dlrm_lib.backends.inference import Inference
    from dlrm_lib.dataset import Split
    from dlrm_lib.training import Evaluation

# Batches before the clock starts, at least: the first ones find nothing in the caches and allocate memory.
_WARMUP = 10


def test(arguments: argparse.Namespace) -> None:
    """Tests a trained model on the test split."""
    refuse_several_processes()
    config = configuration(arguments)
    prepare(config)
    from dlrm_lib.backends import pick
    from dlrm_lib.training import remarks
    from dlrm_lib.training.needs import check_memory

    if not arguments.load_checkpoint_path:
        raise InputError("test needs a trained model.", remedy="Name it with --load_checkpoint_path.")
    dataset, backend = opened_dataset(arguments, config), pick(config.training.device, config.training.execution)
    model, config = loaded_model(arguments, config, dataset)
    check_memory(config, dataset, backend, training=False, there=True)
    settings = config.training
    inference = backend.inference(model.to(backend.torch_device), settings.precision, settings.execution)
    with kept(arguments, "test", dataset, device=backend.description, given=config) as log:
        log({"what": "test", "device": backend.description, "config": as_dict(config)})
        evaluation, seconds = timed_evaluation(inference, dataset.test, settings.test_batch_size)
        found = remarks(evaluation)
        log({"what": "evaluation", **dataclasses.asdict(evaluation)})
        log(
            {
                "what": "result",
                "auc": evaluation.auc,
                "avg_inference_latency": seconds / dataset.test.steps(config.training.test_batch_size),
                "average_test_throughput": evaluation.rows / seconds,
                "remarks": found,
            }
        )
        say(result_line(evaluation))
        for remark in found:
            say(f"remark: {remark}")


def timed_evaluation(inference: Inference, split: Split, batch_size: int, step: int = 0) -> tuple[Evaluation, float]:
    """The evaluation of a split, and the seconds it took."""
    from dlrm_lib.training import evaluate

    began = time.perf_counter()
    evaluation = evaluate(inference, split, batch_size=batch_size, step=step)
    return evaluation, time.perf_counter() - began


def inference_benchmark(arguments: argparse.Namespace) -> None:
    """Measures latency and throughput for each batch size."""
    refuse_several_processes()
    config = configuration(arguments)
    prepare(config)
    from dlrm_lib.backends import pick
    from dlrm_lib.benchmark import benchmark_inference, endless_batches
    from dlrm_lib.model import DLRM
    from dlrm_lib.training.needs import check_memory

    dataset, backend = opened_dataset(arguments, config), pick(config.training.device, config.training.execution)
    backend.seed(config.training.seed)
    if arguments.load_checkpoint_path:
        model, config = loaded_model(arguments, config, dataset)
    else:
        config = config.for_rows(len(dataset.train))
        check_memory(config, dataset, backend, training=False)
        model = DLRM(dataset.spec, config.model)
        say("No --load_checkpoint_path: random weights are measured, which take the same time.")
    settings = config.training
    inference = backend.inference(model.to(backend.torch_device), settings.precision, settings.execution)
    with kept(arguments, "inference_benchmark", dataset, device=backend.description, given=config) as log:
        log({"what": "inference_benchmark", "device": backend.description, "config": as_dict(config)})
        latencies = [
            benchmark_inference(
                inference,
                endless_batches(dataset.test, batch_size),
                steps=config.inference.inference_benchmark_steps,
                warmup=max(settings.benchmark_warmup_steps, _WARMUP),
            )
            for batch_size in config.inference.inference_benchmark_batch_sizes
        ]
        result = {}
        for latency in latencies:
            log({"what": "latency", **dataclasses.asdict(latency)})
            result[f"mean_inference_latency_batch_{latency.batch_size}"] = latency.mean
            result[f"mean_inference_throughput_batch_{latency.batch_size}"] = latency.throughput
        log({"what": "result", **result})
        say(latency_table(latencies))


TEST = Command(
    name="test",
    run=test,
    help="AUC and log loss of a trained model on the test split",
    settings=SETTINGS,
    flags=FLAGS,
)
BENCHMARK = Command(
    name="inference_benchmark",
    run=inference_benchmark,
    help="latency and throughput of a model on batches of the test split, of one size after the other",
    settings=SETTINGS,
    flags=FLAGS,
)
