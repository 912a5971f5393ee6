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
    """

    config: dict[str, Any]
    source: list[dict[str, Any]]
    rows: dict[str, int]
    clicks: dict[str, int]
    quarantined: dict[str, int]
    cardinalities: list[int]
    vocabulary: str

    @property
    def hashes(self) -> dict[str, str]:
        """What readers and checkpoints compare, by name."""
        return {
            "config": digest(self.config),
            "source": digest(self.source),
            "split": digest(self.rows),
            "vocabulary": self.vocabulary,
        }

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
            manifest = cls(**{f.name: document[f.name] for f in dataclasses.fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read.", found=repr(error), remedy=remedy) from None
        if document.get("format") != _FORMAT or document.get("hashes") != manifest.hashes:
            raise InputError(f"{path} was changed after it was written, or by another version.", remedy=remedy)
        return manifest
