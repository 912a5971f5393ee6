"""Training as a generator: whoever consumes the events decides what to do with them, and stops by leaving the loop."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch

from dlrm_lib.config import TrainingConfig
from dlrm_lib.dataset import Batch, Dataset, InOrder, Order, ShuffledBatches, ShuffledRows, Split, read_ahead
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM
from dlrm_lib.model.standardise import Standardise
from dlrm_lib.training.evaluation import Evaluation, evaluate
from dlrm_lib.training.schedule import learning_rate
from dlrm_lib.training.step import TrainStep
from dlrm_lib.training.train_step import train_step
from dlrm_lib.training.watch import Watch

# From so many training rows a model learns what its numbers are like, if it is to standardise them.
MEASURED_ROWS = 2**17


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Training from the event before to this one.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        epoch: The pass over the data that is under way, from 0.
        loss: Mean training loss since the event before, in nats.
        accuracy: Share of the rows since the event before whose logit was on the side of their label, as it was when
            they were trained on; None where the step does not count it.
        lr: Learning rate of the last step.
        samples_per_second: Rows trained per second since the event before, reading included, evaluation not.
        step_time: Seconds per step since the event before.
        average_samples_per_second: The same over all steps since this run began or was resumed, the first
            ``benchmark_warmup_steps`` steps left out; None before there is one.
        skipped: Steps so far whose gradients overflowed and which changed nothing (fp16).
        loss_scale: What the loss is multiplied by before the backward pass (fp16; else 1).
    """

    step: int
    steps: int
    epoch: int
    loss: float
    accuracy: float | None
    lr: float
    samples_per_second: float
    step_time: float
    average_samples_per_second: float | None
    skipped: int
    loss_scale: float


def fit(
    model: DLRM,
    dataset: Dataset,
    config: TrainingConfig,
    device: Device,
    step: TrainStep | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    abandon: Callable[[], bool] = lambda: False,
) -> Iterator[Progress | Evaluation]:
    """Trains ``model`` in place, having measured its numbers if it standardises them and nobody has.

    Yields ``Progress`` every ``print_freq`` steps, and ``Evaluation`` on the validation split every ``test_freq`` steps
    (by default after each epoch) once ``test_after`` epochs are done, and both at the end. It ends after ``epochs``,
    after ``max_steps``, or once the validation AUC reaches ``auc_threshold``.

    Args:
        model: On the device.
        dataset: Rows to train on and to judge by.
        config: How to train.
        device: Where.
        step: What trains, a new one by default. One that has done some steps goes on behind them, as if it had never
            been interrupted; ``load_state`` gives it back.
        stop: Asked after each step. True ends the training there: with ``Progress``, and with ``Evaluation`` only if
            there is one at this step anyway.
        abandon: Asked after each step and after each batch of an evaluation. True ends the training there without an
            evaluation, or amid it: for people, who do not wait for what they no longer want.

    Raises:
        InputError: no training rows, or bad values in the data.
        TrainingDiverged: the loss or a weight is no longer finite, the loss runs away, or all steps are skipped; it
            says where it went wrong and what to do. It comes instead of the event, so that no checkpoint written at
            events is a spoilt one.
    """
    config = config.for_rows(len(dataset.train))
    train = training_split(dataset, config, device)
    if not len(train):
        raise InputError(f"{train.folder} has no rows to train on.", remedy="Encode more raw rows.")
    step = step or train_step(model, config, device)
    if isinstance(model.standardise, Standardise) and not model.standardise.rows:
        model.standardise.measure(dataset.train.read(0, MEASURED_ROWS).numerical)
    per_epoch, steps = train.steps(config.batch_size), steps_in_all(train, config)
    test_freq = config.test_freq or per_epoch
    model.train()

    since, watch = _Since(step), Watch(model, step)
    measured_rows, measured_seconds = 0, 0.0
    with contextlib.closing(_batches(train, config, step)) as batches:
        for batch in itertools.islice(batches, max(0, steps - step.done)):
            lr = learning_rate(step.done, config)
            loss, done = step(batch, lr), step.done
            since.add(loss, len(batch.label))
            watch.see(loss, batch, lr)
            abandoned, stopped = abandon(), stop()
            # NVIDIA's rule for ``test_after`` takes the step's index from 0: the end of that epoch is not yet past it.
            test = done == steps or (done % test_freq == 0 and (done - 1) / per_epoch >= config.test_after)
            test = test and not abandoned
            report = done % config.print_freq == 0 or done == config.benchmark_warmup_steps
            if not (test or report or stopped or abandoned):
                continue
            device.synchronize()
            seconds, mean_loss = time.perf_counter() - since.began, since.loss.item() / since.steps
            watch.check_steps(mean_loss, since.steps)
            if test or stopped:
                watch.check_weights()
            if done > config.benchmark_warmup_steps:
                measured_rows, measured_seconds = measured_rows + since.rows, measured_seconds + seconds
            yield Progress(
                step=done,
                steps=steps,
                epoch=(done - 1) // per_epoch,
                loss=mean_loss,
                accuracy=None if step.correct is None else step.correct.item() / since.rows,
                lr=lr,
                samples_per_second=since.rows / seconds,
                step_time=seconds / since.steps,
                average_samples_per_second=measured_rows / measured_seconds if measured_rows else None,
                skipped=step.skipped,
                loss_scale=step.loss_scale.value if step.loss_scale else 1.0,
            )
            if test and len(dataset.validation):
                with watch.evaluating():
                    evaluation = evaluate(
                        model,
                        dataset.validation,
                        batch_size=config.test_batch_size,
                        device=device,
                        step=done,
                        precision=step.precision,
                        abandon=abandon,
                    )
                if evaluation is None:
                    return
                watch.check_log_loss(evaluation.log_loss)
                yield evaluation
                if config.auc_threshold and evaluation.auc is not None and evaluation.auc >= config.auc_threshold:
                    return
            if stopped or abandoned:
                return
            since.restart()


def steps_in_all(train: Split, config: TrainingConfig) -> int:
    """How many steps a whole training on these rows takes."""
    config = config.for_rows(len(train))
    of_all_epochs = config.epochs * train.steps(config.batch_size)
    return min(of_all_epochs, config.max_steps or of_all_epochs)


def training_split(dataset: Dataset, config: TrainingConfig, device: Device) -> Split:
    """The rows that training passes through: all, or without the last ones that would not fill a batch.

    Raises:
        InputError: they do not fill one where only whole batches can be trained on.
    """
    train, config = dataset.train, config.for_rows(len(dataset.train))
    if not device.coalesces or not len(train) % config.batch_size:
        return train
    if len(train) < config.batch_size:
        raise InputError(
            f"{train.folder} does not fill one batch, and {device.description} trains on whole ones.",
            found=f"{len(train):,} rows, batch_size {config.batch_size:,}",
            remedy="Lower --batch_size.",
        )
    return train.first(len(train) - len(train) % config.batch_size)


class _Since:
    """What was trained since the event before: the sum of losses stays on the device, so that no step waits for it."""

    def __init__(self, step: TrainStep) -> None:
        self.step, self.loss = step, torch.zeros((), device=step.device.torch_device)
        self.restart()

    def restart(self) -> None:
        self.loss.zero_()
        if self.step.correct is not None:
            self.step.correct.zero_()
        self.steps = self.rows = 0
        self.began = time.perf_counter()

    def add(self, loss: torch.Tensor, rows: int) -> None:
        self.loss += loss
        self.steps, self.rows = self.steps + 1, self.rows + rows


def _batches(train: Split, config: TrainingConfig, step: TrainStep) -> Generator[Batch, None, None]:
    """The prepared batches behind those that ``step`` has done."""
    if not config.preload_batches:
        yield from _all_batches(train, config, step, step.done)
        return
    held = list(itertools.islice(_all_batches(train, config, step, 0), config.preload_batches))
    for number in itertools.count(step.done):
        yield held[number % len(held)]


def _all_batches(train: Split, config: TrainingConfig, step: TrainStep, done: int) -> Generator[Batch, None, None]:
    """The batches behind the first ``done`` ones of all epochs, each epoch in an order of its own."""
    first, start = divmod(done, train.steps(config.batch_size))
    for epoch in range(first, config.epochs):
        order = _order(config, epoch)
        yield from read_ahead(train, config.batch_size, order, start, put=step.prepare, workers=step.device.readers)
        start = 0


def _order(config: TrainingConfig, epoch: int) -> Order:
    if config.shuffle_rows:
        return ShuffledRows(config.seed, epoch)
    return ShuffledBatches(config.seed, epoch) if config.shuffle_batch_order else InOrder()
