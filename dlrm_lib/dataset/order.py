"""Which rows make up each batch of a pass.

Any batch of any pass can be computed at once, so that a run goes on at any step without reading what came before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dlrm_lib.dataset.permutation import Permutation


class Plan(NamedTuple):
    """One pass over a split.

    Attributes:
        steps: Batches in it.
        rows: Gives the rows of a batch from its place in the pass: a slice, or ascending int64 row numbers.
    """

    steps: int
    rows: Callable[[int], slice | np.ndarray]


class Order(ABC):
    """How a pass goes through the rows."""

    @abstractmethod
    def plan(self, rows: int, batch_size: int) -> Plan:
        """The pass over so many rows; one batch is smaller where ``batch_size`` does not divide them."""


@dataclass(frozen=True)
class InOrder(Order):
    """Batches of consecutive rows, from the first to the last."""

    def plan(self, rows: int, batch_size: int) -> Plan:
        return Plan(steps(rows, batch_size), lambda step: _consecutive(step, rows, batch_size))


@dataclass(frozen=True)
class ListedBatches(Order):
    """Batches of consecutive rows, by number: an integer array [steps], which need not name them all."""

    numbers: np.ndarray

    def plan(self, rows: int, batch_size: int) -> Plan:
        return Plan(len(self.numbers), lambda step: _consecutive(int(self.numbers[step]), rows, batch_size))


@dataclass(frozen=True)
class ShuffledBatches(Order):
    """Batches of consecutive rows, in a random order that seed and epoch decide."""

    seed: int
    epoch: int

    def plan(self, rows: int, batch_size: int) -> Plan:
        numbers = Permutation(count := steps(rows, batch_size), [self.seed, self.epoch])
        return Plan(count, lambda step: _consecutive(int(numbers[np.array([step])][0]), rows, batch_size))


@dataclass(frozen=True)
class ShuffledRows(Order):
    """Every batch a random sample of the rows; seed and epoch decide which.

    Rows are ascending within a batch: it is the same batch to a model, and memory and disks read it faster.
    """

    seed: int
    epoch: int

    def plan(self, rows: int, batch_size: int) -> Plan:
        numbers = Permutation(rows, [self.seed, self.epoch])

        def of(step: int) -> np.ndarray:
            return np.sort(numbers[np.arange(step * batch_size, min((step + 1) * batch_size, rows))])

        return Plan(steps(rows, batch_size), of)


def steps(rows: int, batch_size: int) -> int:
    """Batches in one pass; the last one may be smaller."""
    return -(-rows // batch_size)


def _consecutive(number: int, rows: int, batch_size: int) -> slice:
    return slice(number * batch_size, min((number + 1) * batch_size, rows))
