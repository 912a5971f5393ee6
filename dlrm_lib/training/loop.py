"""Training as a generator: whoever consumes the events decides what to do with them, and stops by leaving the loop."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, overload

import torch

from dlrm_lib.backends.step import Step
from dlrm_lib.config import ResolvedTraining
from dlrm_lib.dataset import Batch, InOrder, Order, ShuffledBatches, ShuffledRows, Split, read_ahead
from dlrm_lib.model.layers import Standardise
from dlrm_lib.optim import learning_rate
from dlrm_lib.training.build import Training
from dlrm_lib.training.divergence import DivergenceMonitor
from dlrm_lib.training.evaluation import Evaluation, evaluate

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


@dataclass(frozen=True, kw_only=True)
class StateDue:
    """The last event of a step behind which a training state was due: all that is to be told of the step is told.

    The loss and all weights are finite, and a run that is resumed from a state that is written now has the events and
    the bits of this one.

    Attributes:
        step: Steps done.
    """

    step: int


@overload
def fit(
    training: Training, *, stop: Callable[[], bool] = ..., abandon: Callable[[], bool] = ...
) -> Iterator[Progress | Evaluation]: ...


@overload
def fit(
    training: Training,
    *,
    stop: Callable[[], bool] = ...,
    abandon: Callable[[], bool] = ...,
    state_due: Callable[[], bool],
) -> Iterator[Progress | Evaluation | StateDue]: ...


def fit(
    training: Training,
    *,
    stop: Callable[[], bool] = lambda: False,
    abandon: Callable[[], bool] = lambda: False,
    state_due: Callable[[], bool] = lambda: False,
) -> Iterator[Progress | Evaluation | StateDue]:
    """Trains the model in place, having measured its numbers if it standardises them and nobody has.

    Yields ``Progress`` every ``print_freq`` steps, and ``Evaluation`` on the validation split every ``test_freq`` steps
    (by default after each epoch) once ``test_after`` epochs are done, and both at the end. It ends after ``epochs``,
    after ``max_steps``, or once the validation AUC reaches ``auc_threshold``.

    Args:
        training: What ``build`` made. One whose step has done some steps goes on behind them, as if it had never been
            interrupted; ``load_state`` gives it back.
        stop: Asked after each step. True ends the training there: with ``Progress``, and with ``Evaluation`` only if
            there is one at this step anyway.
        abandon: Asked after each step and after each batch of an evaluation. True ends the training there without an
            evaluation, or amid it: for people, who do not wait for what they no longer want.
        state_due: Asked after each step whether a training state is due. True: ``Progress`` comes there, and behind all
            other events of the step ``StateDue``.

    Raises:
        InputError: bad values in the data.
        TrainingDiverged: the loss or a weight is no longer finite, the loss runs away, or all steps are skipped; it
            says where it went wrong and what to do. It comes instead of the event, so that no checkpoint written at
            events is a spoilt one.

    Example:
        >>> from dlrm_lib.config import Config
        >>> from dlrm_lib.dataset import random_dataset
        >>> from dlrm_lib.training import build, fit
        >>> config = Config.from_preset("smoke", {"max_steps": 20, "print_freq": 10, "synthetic_dataset": True})
        >>> training = build(config, random_dataset(config))
        >>> [event.step for event in fit(training)]
        [10, 20]
    """
    model, step, config, train = training.model, training.step, training.settings, training.train
    if isinstance(model.standardise, Standardise) and not model.standardise.rows:
        model.standardise.measure(training.dataset.train.read(0, MEASURED_ROWS).numerical)
    per_epoch, steps, test_freq = training.steps_per_epoch, training.steps, config.test_freq
    model.train()

    since, watch = _Since(step), DivergenceMonitor(model, step)
    measured_rows, measured_seconds = 0, 0.0
    with contextlib.closing(_batches(train, config, step)) as batches:
        for batch in itertools.islice(batches, max(0, steps - step.done)):
            lr = learning_rate(step.done, config)
            loss, done = step(batch, lr), step.done
            since.add(loss, len(batch.label))
            watch.see(loss, batch, lr)
            abandoned, stopped, due = abandon(), stop(), state_due()
            # NVIDIA's rule for ``test_after`` takes the step's index from 0: the end of that epoch is not yet past it.
            test = done == steps or (done % test_freq == 0 and (done - 1) / per_epoch >= config.test_after)
            test = test and not abandoned
            report = done % config.print_freq == 0 or done == config.benchmark_warmup_steps
            if not (test or report or stopped or abandoned or due):
                continue
            training.backend.synchronize()
            seconds, mean_loss = time.perf_counter() - since.began, since.loss.item() / since.steps
            watch.check_steps(mean_loss, since.steps)
            if test or stopped or due:
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
            if test and len(training.dataset.validation):
                with watch.evaluating(training.dataset.validation):
                    evaluation = evaluate(
                        training.inference,
                        training.dataset.validation,
                        batch_size=config.test_batch_size,
                        step=done,
                        abandon=abandon,
                    )
                if evaluation is None:
                    return
                watch.check_log_loss(evaluation.log_loss, training.dataset.validation)
                yield evaluation
                if evaluation.reaches(config.auc_threshold):
                    return
            if due and not abandoned:
                yield StateDue(step=done)
            if stopped or abandoned:
                return
            since.restart()


class _Since:
    """What was trained since the event before: the sum of losses stays on the device, so that no step waits for it."""

    def __init__(self, step: Step[Any]) -> None:
        self.step, self.loss = step, torch.zeros((), device=step.backend.torch_device)
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


def _batches(train: Split, config: ResolvedTraining, step: Step[Any]) -> Generator[Batch, None, None]:
    """The prepared batches behind those that ``step`` has done."""
    if not config.preload_batches:
        yield from _all_batches(train, config, step, step.done)
        return
    held = list(itertools.islice(_all_batches(train, config, step, 0), config.preload_batches))
    for number in itertools.count(step.done):
        yield held[number % len(held)]


def _all_batches(train: Split, config: ResolvedTraining, step: Step[Any], done: int) -> Generator[Batch, None, None]:
    """The batches behind the first ``done`` ones of all epochs, each epoch in an order of its own."""
    first, start = divmod(done, train.steps(config.batch_size))
    for epoch in range(first, config.epochs):
        order = _order(config, epoch)
        yield from read_ahead(train, config.batch_size, order, start, put=step.prepare, workers=step.backend.readers)
        start = 0


def _order(config: ResolvedTraining, epoch: int) -> Order:
    if config.shuffle_rows:
        return ShuffledRows(config.seed, epoch)
    return ShuffledBatches(config.seed, epoch) if config.shuffle_batch_order else InOrder()
