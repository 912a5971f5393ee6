"""What an encoded data set was made from: ``manifest.json``, written last.

A folder without a manifest is not a data set: its writer did not finish.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm_lib.config import digest
from dlrm_lib.errors import InputError
from dlrm_lib.files import put_back, write_text

MANIFEST = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an encoded data set was made from.

    Attributes:
        config: The ``PreprocessConfig`` as a dictionary.
        source: One ``{"name", "bytes", "sha256"}`` per raw file, in time order.
        rows: Rows in each split.
        clicks: Rows with label 1 in each split.
        quarantined: Rejected lines by reason.
        cardinalities: Ids per categorical column, id 0 included.
        vocabulary: Hash of all kept values and their ids.
        vocabularies: Hash of each categorical column's kept values in the order of their ids, to name the column that
            differs; empty where they are not known.
        columns: What the rows of each split are like, by column and split, in the order of the columns (``num_0``, …,
            ``cat_0``, … where the log names none), as shares of its rows and as encoded numbers: ``missing`` (or 0,
            where the numeric rule gives both one number), ``unknown``
            (a token without an id of its own: too rare, or never seen in the rows that were counted), ``mean``,
            ``deviation`` and whether it is ``constant``. Empty where nobody counted, as in earlier versions.
        lineage: The data sets whose vocabulary was taken over, the oldest first, this one not included: of each what
            ``ancestor`` says. Every id that one of them has means the same value here. Empty where none was.
    """

    config: dict[str, Any]
    source: list[dict[str, Any]]
    rows: dict[str, int]
    clicks: dict[str, int]
    quarantined: dict[str, int]
    cardinalities: list[int]
    vocabulary: str
    vocabularies: list[str] = dataclasses.field(default_factory=list)
    columns: dict[str, dict[str, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    lineage: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def hashes(self) -> dict[str, str]:
        """What tells whether the manifest was changed, and what checkpoints compare, by name."""
        return {
            "config": digest(self.config),
            "source": digest(self.source),
            "split": digest(self.rows),
            "vocabulary": self.vocabulary,
        }

    @property
    def missing_id(self) -> int:
        """The id of a missing token: 0, or 1 with ``separate_missing``."""
        return int(self.config.get("separate_missing", False))

    @property
    def ancestor(self) -> dict[str, Any]:
        """What the data sets that take over this one's vocabulary keep of it, as an entry of their ``lineage``."""
        names = ("vocabulary", "vocabularies", "cardinalities", "source", "rows")
        return {name: getattr(self, name) for name in names}

    def about_limits(self) -> str | None:
        """A sentence that names the columns of which no value is left, if there are such."""
        # Behind the numerical columns; an earlier version did not count what columns hold, and had no other names.
        names = [*self.columns][-len(self.cardinalities) :] or [f"cat_{j}" for j in range(len(self.cardinalities))]
        empty = [name for name, ids in zip(names, self.cardinalities, strict=True) if ids <= 1 + self.missing_id]
        if not empty:
            return None
        named = ", ".join(empty[:5]) + (", …" if len(empty) > 5 else "")
        limit = self.config.get("frequency_limit")
        rare = f", or seen fewer times than the frequency limit ({limit})" if limit else ""
        told = "no more than whether one is missing" if self.missing_id else "nothing"
        return (
            f"{len(empty)} of {len(self.cardinalities)} categorical columns ({named}) tell the model {told}: "
            f"all their values are missing{rare}. With --frequency_limit 1 preprocess keeps every value."
        )

    def write(self, folder: Path) -> None:
        """Writes ``manifest.json``: the last file of a data set."""
        document = {"format": _FORMAT, **dataclasses.asdict(self), "hashes": self.hashes}
        write_text(folder / MANIFEST, json.dumps(document, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads ``manifest.json``.

        Raises:
            InputError: there is none, or it is not one of ours.
        """
        path = folder / MANIFEST
        put_back(folder)
        remedy = "Encode raw rows into this folder with `python -m dlrm_lib preprocess`."
        if not path.exists():
            what = f"{folder} holds no finished data set." if folder.exists() else f"{folder} does not exist."
            raise InputError(what, found=f"no {MANIFEST}", remedy=remedy)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            known = {f.name for f in dataclasses.fields(cls)}
            manifest = cls(**{name: value for name, value in document.items() if name in known})
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{path} cannot be read.", found=repr(error), remedy=remedy) from None
        if document.get("format") != _FORMAT or document.get("hashes") != manifest.hashes:
            raise InputError(f"{path} was changed after it was written, or by another version.", remedy=remedy)
        return manifest
