"""Before a model is built: what training it, or scoring with it, takes of memory, and whether that is there.

Tables, layers and what the optimizer remembers are counted. What a batch takes is estimated from the numbers that are
there at once at the widest place of a step; so are the scores of an evaluation until they are ranked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dlrm_lib.backends.backend import Backend
from dlrm_lib.config import Config, ModelConfig, TrainingConfig
from dlrm_lib.dataset import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.memory import available_memory, in_bytes
from dlrm_lib.model import DLRM, blueprint
from dlrm_lib.model.cost import linear_layers
from dlrm_lib.model.interactions.dot import DotInteraction
from dlrm_lib.optim import OPTIMIZERS
from dlrm_lib.settings import as_text
from dlrm_lib.training.evaluation import EXACT_ROWS, EXACT_ROWS_ON_DEVICE

# What comes with the first optimizer and the first step: modules of torch, threads, gaps in the heap.
_TORCH = 170_000_000
_SCORE = 20  # bytes of a label and a logit, kept, joined and ranked
# Arrays as large as a batch's distinct embedding rows that an update needs beside their gradient.
_ARRAYS_OF_UPDATE = {"sgd": 0, "adagrad": 2, "rowwise_adagrad": 2, "adam": 4}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes of memory, about.

    Attributes:
        tables: The embedding tables.
        layers: All other weights, and in training their gradients.
        optimizer: What it remembers of both, and where a row of the tables is in a batch.
        batches: The numbers of a batch, in training or evaluation, whichever is more, and scores.
        rest: What torch itself takes.
    """

    tables: int
    layers: int
    optimizer: int
    batches: int
    rest: int = _TORCH

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())

    def __str__(self) -> str:
        parts = sorted(vars(self).items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {in_bytes(size)}" for name, size in parts if size)


def training_needs(model: DLRM, config: TrainingConfig, *, rows: int, scored: int) -> Needs:
    """What training a model on so many rows takes, which is evaluated on ``scored`` rows.

    Args:
        model: On any device; ``model.blueprint`` makes one that takes no memory.
        config: How to train.
        rows: Training rows, which decide what is left open.
        scored: Of the largest split that is evaluated.
    """
    rule = OPTIMIZERS[config.optimizer].of(model, config)
    places = 0 if rule.is_linear else 4 * len(model.tables.weight)
    step = _step_bytes(model, config, min(config.batch_size_for(rows), max(rows, 1)))
    return Needs(
        tables=model.tables.weight.nbytes,
        layers=2 * _layer_bytes(model),
        optimizer=rule.bytes_kept() + places,
        batches=max(step, _scoring_bytes(model, config, scored)),
    )


def scoring_needs(model: DLRM, config: TrainingConfig, *, scored: int) -> Needs:
    """What scoring so many rows in batches of ``test_batch_size`` takes."""
    scoring = _scoring_bytes(model, config, scored)
    return Needs(tables=model.tables.weight.nbytes, layers=_layer_bytes(model), optimizer=0, batches=scoring)


def check_memory(
    config: Config, dataset: Dataset, backend: Backend, *, training: bool = True, there: bool = False
) -> None:
    """Refuses what would not fit into the memory of the device, and of the host, where each model is made.

    Args:
        config: What is to be trained, or to score.
        dataset: On what.
        backend: Where.
        training: Else it only scores.
        there: The model is in the host's memory already, and stays as it is.

    Raises:
        InputError: it says what takes how much, and which settings would fit.
    """
    rows, scored = len(dataset.train), max(len(dataset.validation), len(dataset.test))
    kept = min(scored, EXACT_ROWS_ON_DEVICE if backend.ranks_scores else EXACT_ROWS)

    def needs(config: Config) -> Needs:
        model, settings = blueprint(dataset.spec, config.model), config.training
        found = (
            training_needs(model, settings, rows=rows, scored=kept)
            if training
            else scoring_needs(model, settings, scored=kept)
        )
        return dataclasses.replace(found, rest=found.rest + dataset.held_bytes)

    free, wanted = backend.free_memory(), needs(config)
    on_device = there and backend.torch_device.type == "cpu"
    taken = on_device * (wanted.tables + wanted.layers // (1 + training))

    def fits(needs: Needs) -> bool:
        return free is None or needs.total - taken <= free

    if not fits(wanted):
        ways = _ways_to_take_less(config, rows, training=training, there=there)
        fitting = (next((change for change in way if fits(needs(config.override(**change)))), {}) for way in ways)
        _refuse("Training" if training else "Scoring", wanted, free, filter(None, fitting))
    if not there:
        check_weights(dataset.spec, config.model)


def check_weights(spec: FeatureSpec, config: ModelConfig) -> None:
    """Raises InputError where the host has no room for a model."""
    model, free = blueprint(spec, config), available_memory()
    needs = Needs(tables=model.tables.weight.nbytes, layers=_layer_bytes(model), optimizer=0, batches=0, rest=0)
    if free is not None and needs.total > free:
        _refuse("The model", needs, free, [])


def _refuse(what: str, needs: Needs, free: int | None, changes: Iterable[dict[str, Any]]) -> None:
    flags = [" ".join(_flag(name, value) for name, value in change.items()) for change in changes]
    raise InputError(
        f"{what} needs about {in_bytes(needs.total)} of memory: {needs}.",
        found=f"{in_bytes(free or 0)} free",
        remedy=f"Each of these would fit: {'; '.join(flags)}."
        if flags
        else "Close other programs, or use a machine with more memory.",
    )


def _flag(name: str, value: Any) -> str:
    return f"--{name}" if value is True else f"--{name} {as_text(value)}"


def _ways_to_take_less(config: Config, rows: int, *, training: bool, there: bool) -> Iterator[list[dict[str, Any]]]:
    """Changes of settings, for each way from the smallest on."""
    model, settings = config.model, config.training
    tested = _halves(settings.test_batch_size)
    batches: list[dict[str, Any]] = [{"test_batch_size": half} for half in tested]
    if training:
        size = settings.batch_size_for(rows)
        batches = [{"batch_size": half} for half in _halves(size)] + batches
        batches += [{"batch_size": min(half, size), "test_batch_size": half} for half in tested]
    yield batches
    if training:
        yield [{"optimizer": name} for name in ("rowwise_adagrad", "sgd") if name != settings.optimizer]
    if not there:
        most = model.max_table_size or 10**9
        tables = [digit * 10**power for power in range(8, 1, -1) for digit in (5, 2, 1)]
        yield [{"hash_indices": True, "max_table_size": size} for size in tables if size < most]
        yield [
            {"embedding_dim": dim, "bottom_mlp_sizes": (*model.bottom_mlp_sizes[:-1], dim)}
            for dim in _halves(model.embedding_dim)
        ]


def _halves(size: int) -> list[int]:
    return [size >> times for times in range(1, size.bit_length())]


def _layer_bytes(model: DLRM) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _step_bytes(model: DLRM, config: TrainingConfig, size: int) -> int:
    """The numbers of a training step on so many rows, at its widest place: the end of backward, or the update."""
    width, most = _layer_widths(model)
    columns, dim, bag = len(model.spec.cardinalities), model.interaction.dim, model.tables.indices_per_lookup
    numbers, ids = model.spec.numerical, columns * bag
    batch = 1 + 3 * numbers + 9 * ids  # ids as they were read, as rows of the tables, sorted and made distinct
    vectors = (columns + numbers * bool(model.numbers)) * dim
    # The rows, their gradient and what the interaction gave for them; its output, and the gradient of that.
    backward = 3 * vectors + 2 * model.interaction.width + width + 2 * most + _inside(model, config, backward=True)
    backward += 4 * numbers * dim * bool(model.numbers)
    update = 2 * columns * dim + (ids * dim if bag > 1 else 0)
    distinct = min(size * ids, len(model.tables.weight)) * dim * _ARRAYS_OF_UPDATE[config.optimizer]
    held = (config.preload_batches or 0) * (1 + numbers + 3 * ids)
    return 4 * (size * (batch + held) + max(size * backward, size * update + distinct))


def _scoring_bytes(model: DLRM, config: TrainingConfig, scored: int) -> int:
    """The numbers of a batch on its way to the logits, and the scores of all."""
    _, most = _layer_widths(model)
    columns, numbers = len(model.spec.cardinalities), model.spec.numerical
    vectors = (columns + 3 * numbers * bool(model.numbers)) * model.interaction.dim
    batch = 1 + 3 * numbers + 4 * columns * model.tables.indices_per_lookup
    forward = vectors + 2 * model.interaction.width + 2 * most + _inside(model, config, backward=False)
    return 4 * min(config.test_batch_size, scored) * (batch + forward) + _SCORE * scored


def _layer_widths(model: DLRM) -> tuple[int, int]:
    """Outputs of all layers of the MLPs together, and of the widest."""
    widths = [layer.out_features for mlp in (model.bottom, model.top) for layer in linear_layers(mlp)]
    return sum(widths), max(widths)


def _inside(model: DLRM, config: TrainingConfig, *, backward: bool) -> int:
    """Numbers per sample within the interaction; kernels have none for dot products."""
    meets = model.interaction
    if isinstance(meets, DotInteraction):
        plain = meets.vectors * (meets.dim * (1 + backward) + meets.vectors)
        return plain if config.execution == "eager" else 0
    return (1 + 2 * backward) * sum(layer.out_features for layer in linear_layers(meets))
