"""What the GPU benchmarks train: NVIDIA's model with the tables of Criteo's 24 days, on rows with a planted signal.

Ids come up as in click logs (id k about as often as 1 / (k + 1), Zipf's law) or all equally often. A click depends on
the numbers, on every id and on pairs of ids, so there is something to learn, and a loss that stays where it was is a
fault.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from bench.on_gpu.card import Card
from bench.workload import Workload, of_preset

from dlrm_lib.config import ModelConfig, TrainingConfig, digest
from dlrm_lib.dataset import Batch, EncodedDataset, Split
from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest

# The preset's own learning rate is for four billion rows of real clicks; these are planted.
TERABYTE = of_preset("criteo_terabyte", lr=1.0)
# As small as an interpreter needs it; tables below, at and above what kernels treat as small.
TINY = Workload(
    spec=FeatureSpec(numerical=4, cardinalities=(3, 128, 7, 400)),
    model=ModelConfig(embedding_dim=16, bottom_mlp_sizes=(16, 16), top_mlp_sizes=(16, 1)),
    training=TrainingConfig(optimizer="sgd", lr=0.1),
)


def workload(card: Card) -> Workload:
    """What is measured on a card: the whole model, or a tiny one in a rehearsal."""
    return TINY if card.rehearsal else TERABYTE


@functools.lru_cache(maxsize=2)  # parts of a stage want the same rows, and drawing them takes seconds
def draw(spec: FeatureSpec, rows: int, *, ids: str = "zipf", seed: int = 0) -> Batch:
    """So many rows on the host, the same on every machine; not to be written to.

    Args:
        spec: The columns.
        rows: How many.
        ids: ``zipf`` or ``uniform``.
        seed: Of the values.
    """
    generator = torch.Generator().manual_seed(seed)
    numerical = torch.randn(rows, spec.numerical, generator=generator)
    categorical = torch.empty(rows, len(spec.cardinalities), dtype=torch.int32)
    for column, cardinality in enumerate(spec.cardinalities):
        drawn = torch.rand(rows, generator=generator, dtype=torch.float64)
        number = drawn * cardinality if ids == "uniform" else (cardinality + 1.0) ** drawn - 1
        categorical[:, column] = number.to(torch.int32).clamp_(max=cardinality - 1)
    chance = planted_logit(numerical, categorical).sigmoid()
    return Batch(numerical, categorical, (torch.rand(rows, generator=generator) < chance).float())


def planted_logit(numerical: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
    """What decides about clicks: float32 [B, N] and int32 [B, M] → logits, float32 [B]."""
    # An id's effect is the sine of its multiple of an angle that is no fraction of a turn: fixed, and without pattern.
    angles = 0.6180339887 * torch.arange(1, categorical.shape[1] + 1, dtype=torch.float64)
    effects = torch.sin((categorical + 1) * angles).float()
    linear = 0.4 * effects.sum(1) + 0.1 * numerical.sum(1)
    pairs = 0.2 * (effects[:, 1:] * effects[:, :-1]).sum(1)
    return linear + pairs - 1.0


def resident(card: Card, work: Workload, batch_size: int, *, ids: str = "zipf") -> list[Batch]:
    """Different batches in the card's memory."""
    rows = draw(work.spec, card.distinct * batch_size, ids=ids)
    parts = (tensor.to(card.backend.torch_device).split(batch_size) for tensor in rows)
    return [Batch(*parts) for parts in zip(*parts, strict=True)]


def unique_share(spec: FeatureSpec, batch: Batch) -> float:
    """Different embedding rows among all that a batch looks up."""
    sizes = torch.tensor(spec.cardinalities, device=batch.categorical.device)
    rows = batch.categorical + (sizes.cumsum(0) - sizes)
    return len(rows.unique()) / rows.numel()


class HeldRows(Split):
    """Rows that are in memory."""

    def __init__(self, spec: FeatureSpec, rows: Batch, name: str = "validation") -> None:
        super().__init__(Path("planted rows"), name, spec, len(rows.label))
        self._rows = rows

    def gather(self, rows: slice | np.ndarray, *, check: bool = True) -> Batch:
        return Batch(*(tensor[rows] for tensor in self._rows))

    def first(self, rows: int) -> HeldRows:
        return HeldRows(self.spec, self.gather(slice(0, rows)), self.name)


def write_dataset(folder: Path, spec: FeatureSpec, rows: Batch, times: int) -> EncodedDataset:
    """A data set whose training split holds the rows so many times over; the other splits are empty."""
    columns = dict(
        zip((f"cat_{j}.bin" for j in range(len(spec.cardinalities))), rows.categorical.unbind(1), strict=True)
    )
    dtypes = dict(zip(columns, spec.category_dtypes, strict=True)) | {"label.bin": "bool", "numerical.bin": "float16"}
    columns |= {"label.bin": rows.label, "numerical.bin": rows.numerical}
    counts = dict.fromkeys(SPLITS, 0) | {"train": times * len(rows.label)}
    for split, count in counts.items():
        (folder / split).mkdir(parents=True)
        for name, tensor in columns.items():
            values = tensor.numpy().astype(dtypes[name])
            with (folder / split / name).open("wb") as file:
                for _ in range(times if count else 0):
                    values.tofile(file)
    spec.write(folder / "feature_spec.yaml")
    Manifest(
        config={"layout": "planted rows", "numeric_rule": "log_x_plus_3"},
        source=[],
        rows=counts,
        clicks={},
        quarantined={},
        cardinalities=list(spec.cardinalities),
        vocabulary=digest(list(spec.cardinalities)),
    ).write(folder)
    return EncodedDataset(folder)
