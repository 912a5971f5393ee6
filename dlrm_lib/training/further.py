"""A further training of a model, by a schedule of its own: on its rows once more, or on those that came since."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from dlrm_lib.backends import pick
from dlrm_lib.backends.backend import Backend
from dlrm_lib.config import Config
from dlrm_lib.dataset import Dataset
from dlrm_lib.training.build import Training, build
from dlrm_lib.training.checkpoint import load_checkpoint, opened, state_path
from dlrm_lib.training.compatibility import Facts, data_facts, is_later
from dlrm_lib.training.growth import Growth
from dlrm_lib.training.tensor_file import Target

_LAYERS, _ROWS = "dense.", "sparse."  # what a step's state calls the optimizer's memory of them


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a further training starts from.

    Attributes:
        checkpoint: The file of the model.
        step: Steps of the training that left it; None where it does not say.
        rows: To train on now.
        later: They are those of a later data set of the model's lineage.
        new_ids: Ids that the model did not know, by column, of the columns that have some.
        optimizer_step: Steps after which the optimizer goes on; None: it begins anew.
    """

    checkpoint: str
    step: int | None
    rows: int
    later: bool
    new_ids: dict[str, int]
    optimizer_step: int | None

    def __str__(self) -> str:
        after = "" if self.step is None else f" after its step {self.step:,}"
        if not self.later:
            return f"Starts from {self.checkpoint}{after}, on {self.rows:,} rows; the optimizer begins anew."
        ids = ", ".join(f"{column} {count:,}" for column, count in self.new_ids.items())
        knows = "begins anew, for no training state that fits is beside the model"
        if self.optimizer_step is not None:
            knows = f"goes on after its step {self.optimizer_step:,}"
        return (
            f"Starts from {self.checkpoint}{after}, on {self.rows:,} later rows with "
            f"{sum(self.new_ids.values()):,} ids that are new to it{ids and f' ({ids})'}; the optimizer {knows}."
        )


def further(path: Path, config: Config, dataset: Dataset, backend: Backend | None = None) -> tuple[Training, Origin]:
    """A new training of a checkpoint's model, from step 0 of the schedule of ``config``.

    On a later data set of the model's lineage its tables grow. The vectors of ids that it does not know are those of a
    new model of this seed; all else is as it was kept. There the optimizer goes on with what the training state beside
    the checkpoint has of it, if that is of the same training, and the rule the same; of new ids it knows nothing yet.
    On any other data set it begins anew.

    Args:
        path: The checkpoint.
        config: How to train; the model is the checkpoint's.
        dataset: One that ``load_checkpoint`` opens it for.
        backend: Where; by default what the configuration says.

    Raises:
        InputError: as ``load_checkpoint`` and ``build``, or the training state is damaged.
    """
    backend = backend or pick(config.training.device, config.training.execution)
    backend.seed(config.training.seed)
    model, trained = load_checkpoint(path, dataset, to_train=True)
    config = dataclasses.replace(config.for_rows(len(dataset.train)), model=trained.model)
    training = build(config, dataset, backend=backend, model=model)
    with opened(path, "checkpoint") as file:
        then, now = file.about, data_facts(dataset)
    names, befores = dataset.spec.columns.categorical_names, then["cardinalities"]
    counts = zip(names, befores, dataset.spec.cardinalities, strict=True)
    later = is_later(then, now)
    origin = Origin(
        checkpoint=str(path),
        step=then["metrics"].get("step"),
        rows=len(training.train),
        later=later,
        new_ids={name: after - before for name, before, after in counts if after > before},
        optimizer_step=_remember(state_path(path), then, training) if later else None,
    )
    return training, origin


def _remember(path: Path, checkpoint: Facts, training: Training) -> int | None:
    """Has the optimizer go on where a training state has it; after which step, or None where there is none that fits.

    It fits if it is of the training that left the checkpoint, and knows all that this rule remembers: with a decay of
    embeddings, say, that is more than without.
    """
    if not path.is_file():
        return None
    tables, optimizer = training.model.tables, training.step.optimizer
    state, growth = training.step.state_dict(), Growth(tables, checkpoint["cardinalities"])
    targets: dict[str, dict[str, Target]] = {
        _LAYERS: {name.removeprefix(_LAYERS): of for name, of in state.items() if name.startswith(_LAYERS)},
        _ROWS: {name: growth.kept_rows(of) if of.dim() else of for name, of in optimizer.state.items()},
    }
    with opened(path, "training state") as file:
        then = file.about
        if (
            any(then[name] != checkpoint[name] for name in ("model", "hashes"))
            or then["training"]["seed"] != checkpoint["training"]["seed"]
            or then["training"]["optimizer"] != training.settings.optimizer
            or not {f"step.{part}{name}" for part, of in targets.items() for name in of} <= file.names("step.")
        ):
            return None
        for part, of in targets.items():
            file.read(of, f"step.{part}", whole=False)
    optimizer.begin_rows(growth.new_rows().to(tables.weight.device))
    return int(then["done"])
