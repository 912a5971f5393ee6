"""Training as a generator: whoever consumes the events decides what to do with them, and stops by leaving the loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dlrm_lib.config import TrainingConfig
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.model import DLRM
from dlrm_lib.training.evaluation import Evaluation, evaluate
from dlrm_lib.training.schedule import decay_start, learning_rate
from dlrm_lib.training.step import RowsLeafStep


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Training from the event before to this one.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        epoch: The pass over the data that is under way, from 0.
        loss: Mean training loss since the event before, in nats.
        lr: Learning rate of the last step.
        samples_per_second: Rows trained per second since the event before, reading included, evaluation not.
        step_time: Seconds per step since the event before.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    samples_per_second: float
    step_time: float


def fit(
    model: DLRM, dataset: EncodedDataset, config: TrainingConfig, device: Device
) -> Iterator[Progress | Evaluation]:
    """Trains ``model`` in place.

    Yields ``Progress`` every ``print_freq`` steps, and at the end, and ``Evaluation`` on the validation split every
    ``test_freq`` steps (by default after each epoch) and at the end. It ends after ``epochs``, after ``max_steps``, or
    once the validation AUC reaches ``auc_threshold``.

    Raises:
        InputError: no training rows, a warmup longer than ``decay_start_step``, or bad values in the data.
        TrainingDiverged: the loss is no longer finite.
    """
    if not len(dataset.train):
        raise InputError(f"{dataset.train.folder} has no rows to train on.", remedy="Encode more raw rows.")
    if config.decay_steps and decay_start(config) < config.warmup_steps:
        raise InputError(
            "The decay must not start before the warmup ends.",
            found=f"decay_start_step {config.decay_start_step}, warmup_steps {config.warmup_steps}",
            remedy="Raise --decay_start_step or lower --warmup_steps.",
        )
    per_epoch = dataset.train.steps(config.batch_size)
    steps = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    test_freq = config.test_freq or per_epoch
    train_step = RowsLeafStep(model, config.optimizer)
    model.train()

    loss_sum, rows, since = torch.zeros((), device=device.torch_device), 0, 0
    clock = time.perf_counter()
    for step, batch in zip(range(steps), _batches(dataset, config), strict=False):
        lr = learning_rate(step, config)
        loss_sum += train_step(device.put(batch), lr)
        rows, since, done = rows + len(batch.label), since + 1, step + 1
        last = done == steps
        test = last or done % test_freq == 0
        if test or done % config.print_freq == 0:
            device.synchronize()
            seconds = time.perf_counter() - clock
            loss = loss_sum.item() / since
            if not np.isfinite(loss):
                raise TrainingDiverged(
                    f"The loss is {loss} after step {done:,}.\n"
                    f"  found: learning rate {lr:g}\n"
                    "  remedy: Lower --lr, or lengthen --warmup_steps."
                )
            yield Progress(
                step=done,
                steps=steps,
                epoch=step // per_epoch,
                loss=loss,
                lr=lr,
                samples_per_second=rows / seconds,
                step_time=seconds / since,
            )
            if test and len(dataset.validation):
                evaluation = evaluate(
                    model, dataset.validation, batch_size=config.test_batch_size, device=device, step=done
                )
                yield evaluation
                if config.auc_threshold and evaluation.auc is not None and evaluation.auc >= config.auc_threshold:
                    return
            loss_sum.zero_()
            rows = since = 0
            clock = time.perf_counter()


def _batches(dataset: EncodedDataset, config: TrainingConfig):
    """The training batches of all epochs, each epoch in an order of its own when they are shuffled."""
    for epoch in range(config.epochs):
        order = None
        if config.shuffle_batch_order:
            order = np.random.default_rng([config.seed, epoch]).permutation(dataset.train.steps(config.batch_size))
        yield from dataset.train.batches(config.batch_size, order)
