"""The commands ``test`` and ``inference_benchmark``: how good a trained model is, and how fast."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import TYPE_CHECKING

from dlrm_lib.commands.command import Command, configuration
from dlrm_lib.commands.model_inputs import FLAGS, SETTINGS, loaded_model, opened_dataset, opened_log
from dlrm_lib.config import TrainingConfig, as_dict
from dlrm_lib.console import latency_table, result_line
from dlrm_lib.errors import InputError

if TYPE_CHECKING:
    from dlrm_lib.dataset import Split
    from dlrm_lib.devices import Device
    from dlrm_lib.model import DLRM
    from dlrm_lib.training import Evaluation

# Batches before the clock starts, at least: the first ones find nothing in the caches and allocate memory.
_WARMUP = 10


def test(arguments: argparse.Namespace) -> None:
    """Tests a trained model on the test split."""
    config = configuration(arguments)
    from dlrm_lib.devices import pick

    if not arguments.load_checkpoint_path:
        raise InputError("test needs a trained model.", remedy="Name it with --load_checkpoint_path.")
    dataset, device = opened_dataset(arguments, config), pick(config.training.device, config.training.execution)
    model, config = loaded_model(arguments, config, dataset, device)
    log = opened_log(arguments)
    log({"what": "test", "device": device.description, "config": as_dict(config)})
    evaluation, seconds = timed_evaluation(model, dataset.test, config.training, device)
    print(result_line(evaluation))
    log({"what": "evaluation", **dataclasses.asdict(evaluation)})
    log(
        {
            "what": "result",
            "auc": evaluation.auc,
            "avg_inference_latency": seconds / dataset.test.steps(config.training.test_batch_size),
            "average_test_throughput": evaluation.rows / seconds,
        }
    )


def timed_evaluation(
    model: DLRM, split: Split, config: TrainingConfig, device: Device, step: int = 0
) -> tuple[Evaluation, float]:
    """The evaluation of a split in the precision of the training, and the seconds it took."""
    from dlrm_lib.training import evaluate

    precision, began = device.precision(config.precision), time.perf_counter()
    evaluation = evaluate(
        model, split, batch_size=config.test_batch_size, device=device, step=step, precision=precision
    )
    return evaluation, time.perf_counter() - began


def inference_benchmark(arguments: argparse.Namespace) -> None:
    """Measures latency and throughput for each batch size."""
    config = configuration(arguments)
    from dlrm_lib.benchmark import benchmark_inference, endless_batches
    from dlrm_lib.devices import pick
    from dlrm_lib.model import DLRM

    dataset, device = opened_dataset(arguments, config), pick(config.training.device, config.training.execution)
    device.seed(config.training.seed)
    if arguments.load_checkpoint_path:
        model, config = loaded_model(arguments, config, dataset, device)
    else:
        model = DLRM(dataset.spec, config.model).to(device.torch_device)
        model.use_kernels(device, config.training.execution)
        print("No --load_checkpoint_path: random weights are measured, which take the same time.")
    log = opened_log(arguments)
    log({"what": "inference_benchmark", "device": device.description, "config": as_dict(config)})
    latencies = [
        benchmark_inference(
            model,
            endless_batches(dataset.test, batch_size),
            steps=config.inference.inference_benchmark_steps,
            warmup=max(config.training.benchmark_warmup_steps, _WARMUP),
            device=device,
            precision=config.training.precision,
        )
        for batch_size in config.inference.inference_benchmark_batch_sizes
    ]
    print(latency_table(latencies))
    result = {}
    for latency in latencies:
        log({"what": "latency", **dataclasses.asdict(latency)})
        result[f"mean_inference_latency_batch_{latency.batch_size}"] = latency.mean
        result[f"mean_inference_throughput_batch_{latency.batch_size}"] = latency.throughput
    log({"what": "result", **result})


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
