"""What benches train: a model and a training of a preset, on columns that a data set really has; and batches for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from dlrm_lib.config import Config, ModelConfig, TrainingConfig, as_dict
from dlrm_lib.dataset import Batch
from dlrm_lib.features import CRITEO_TERABYTE, FeatureSpec


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A model, how it is trained, and the columns of its data."""

    spec: FeatureSpec
    model: ModelConfig
    training: TrainingConfig

    def capped(self, most_rows: int) -> Workload:
        """The same with tables of at most so many rows."""
        cardinalities = tuple(min(rows, most_rows) for rows in self.spec.cardinalities)
        return replace(self, spec=replace(self.spec, cardinalities=cardinalities))

    def trained_with(self, **settings: Any) -> Workload:
        """The same with other settings of ``TrainingConfig``."""
        return replace(self, training=replace(self.training, **settings))

    def described(self) -> dict[str, Any]:
        """As a record's ``config`` has it: what decides about the speed of a step, but for batch and precision."""
        return {
            "cardinalities": list(self.spec.cardinalities),
            "numerical": self.spec.numerical,
            "model": as_dict(self.model),
            "training": {name: getattr(self.training, name) for name in ("execution", *SGD)},
        }


# What the preset `laptop` gives: its million synthetic rows, preprocessed with its settings.
LAPTOP = FeatureSpec(
    numerical=13,
    cardinalities=(
        *(982, 551, 2626, 2999, 301, 17, 1378, 601, 4, 1988, 966, 1838, 1379),
        *(27, 1640, 2689, 11, 1171, 945, 5, 2671, 18, 16, 2325, 91, 1380),
    ),
)
LAPTOP_ROWS = 875_000  # of them are trained on: what settings follow from that the preset leaves open
# SGD instead of a preset's Adam, without the settings that only Adam has.
SGD = {
    "optimizer": "sgd",
    "embedding_epsilon": None,
    "embedding_decay": 0.0,
    "interaction_lasso": 0.0,
    "lasso_start_step": 0,
}
LR = 0.01  # for SGD: random rows leave its losses finite for as long as anybody measures
MOST_ROWS = 500_000  # of a table of NVIDIA's model, where its 32.7 million do not fit into memory


def of_preset(preset: str, *, rows: int = LAPTOP_ROWS, **overrides: Any) -> Workload:
    """A preset's model and training on the columns of its data, for so many training rows.

    They are those of Criteo's 24 days for `criteo_terabyte`, of its own random rows for a preset that has such, and
    otherwise the laptop's: real ones follow from the rows.
    """
    config = Config.from_preset(preset, overrides).for_rows(rows)
    spec = CRITEO_TERABYTE if preset == "criteo_terabyte" else LAPTOP
    if config.data.synthetic_dataset:
        spec = FeatureSpec(
            numerical=config.data.num_numerical_features, cardinalities=config.data.synthetic_dataset_table_sizes
        )
    return Workload(spec=spec, model=config.model, training=config.training)


def models(most_rows: int) -> dict[str, Workload]:
    """The models whose speed the results show: of two presets as they are, and NVIDIA's with tables of so many rows."""
    nvidia = of_preset("criteo_terabyte", batch_size=2048, lr=LR).capped(most_rows)
    return {"laptop": of_preset("laptop"), "kaggle": of_preset("criteo_kaggle"), "nvidia": nvidia}


def random_batches(workload: Workload, count: int = 8) -> list[Batch]:
    """Batches of random numbers, labels, and ids of which few are frequent, as where ids are ordered by frequency."""
    draw = torch.Generator().manual_seed(1)
    rows, cardinalities = workload.training.batch_size, torch.tensor(workload.spec.cardinalities).unsqueeze(1)
    bag = workload.model.num_indices_per_lookup
    batches = []
    for _ in range(count):
        uniform = torch.rand(rows, len(cardinalities), bag, generator=draw, dtype=torch.float64)
        ids = (cardinalities**uniform - 1).to(torch.int32)  # P(id) falls as 1 / (id + 1)
        numerical = torch.rand(rows, workload.spec.numerical, generator=draw)
        label = (torch.rand(rows, generator=draw) < 0.25).float()
        batches.append(Batch(numerical, ids if bag > 1 else ids.squeeze(2), label))
    return batches
