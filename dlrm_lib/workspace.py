"""The artifacts of one run of the workbook: raw rows, encoded rows, trained models, each built where it is missing.

Every notebook asks a workspace for what it needs, so that each runs alone as well as in order.
"""

from __future__ import annotations

import json
from pathlib import Path

from dlrm_lib.config import Config, as_dict
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.manifest import MANIFEST, Manifest
from dlrm_lib.records import usable_cores


class Workspace:
    """``folder/raw``, ``folder/encoded`` and ``folder/runs`` for one configuration.

    Attributes:
        config: Decides what is built.
        runs: Folder for checkpoints and records.
        synthetic: Whether the raw rows are generated, so that their best reachable AUC is known.
    """

    def __init__(self, folder: str | Path, config: Config, raw: str | Path | None = None) -> None:
        """``raw`` names real rows (a folder of day files, or one file) to use instead of synthetic ones."""
        self.folder = Path(folder)
        self.config = config
        self.runs = self.folder / "runs"
        self.synthetic = raw is None
        self._raw = self.folder / "raw" if raw is None else Path(raw)

    def raw(self) -> Path:
        """Where the raw rows are; synthetic ones are generated if they are missing or of another configuration.

        Raises:
            InputError: the real rows named at the start do not exist.
        """
        from dlrm_lib.synthetic import generate

        if not self.synthetic:
            if not self._raw.exists():
                raise InputError(f"{self._raw} does not exist.", remedy="Set `raw` to a file or folder of raw rows.")
        elif self._ceiling_config() != self._wanted_ceiling_config():
            print(f"generating {self.config.synthetic.rows:,} synthetic rows into {self._raw}")
            limit = self.config.preprocess.frequency_limit
            generate(self._raw, self.config.synthetic, frequency_limit=limit, workers=usable_cores())
        return self._raw

    def ceiling(self) -> dict | None:
        """The best reachable AUC and log loss per split (see ``synthetic``); None for real rows: nobody knows it."""
        if not self.synthetic:
            return None
        return json.loads((self.raw() / "ceiling.json").read_text(encoding="utf-8"))["splits"]

    def encoded(self) -> EncodedDataset:
        """The encoded rows; they are made if they are missing or were made from other rows or settings."""
        from dlrm_lib.preprocess import preprocess, source_files

        folder, raw = self.folder / "encoded", self.raw()
        if (folder / MANIFEST).exists():
            manifest = Manifest.read(folder)
            known = [(file["name"], file["bytes"]) for file in manifest.source]
            found = [(path.name, path.stat().st_size) for path in source_files(raw)]
            rows = manifest.rows
            counted = rows["train"] if self.config.preprocess.vocabulary_days == "training" else sum(rows.values())
            if manifest.config == as_dict(self.config.preprocess.for_rows(counted)) and known == found:
                return EncodedDataset(folder)
        print(f"encoding {raw} into {folder}")
        preprocess(raw, folder, self.config.preprocess)
        return EncodedDataset(folder)

    def _wanted_ceiling_config(self) -> dict:
        return {**as_dict(self.config.synthetic), "frequency_limit": self.config.preprocess.frequency_limit}

    def _ceiling_config(self) -> dict | None:
        path = self._raw / "ceiling.json"
        if not path.exists():
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
        return {**document["config"], "frequency_limit": document["frequency_limit"]}
