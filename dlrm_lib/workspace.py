"""The artifacts of one run of the workbook: raw rows, encoded rows, trained models, each built where it is missing.

Every notebook asks a workspace for what it needs, so that each runs alone as well as in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dlrm_lib.config import Config, as_dict
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.files import put_back, sha256, write_text
from dlrm_lib.manifest import MANIFEST, Manifest
from dlrm_lib.places import local
from dlrm_lib.records import usable_cores

_SETTLED = 2 * 10**9  # nanoseconds: no clock of a file system ticks more slowly


class Workspace:
    """``folder/raw``, ``folder/encoded`` and ``folder/runs`` for one configuration.

    What is there is used if it was made from the same configuration and, by their hashes, from the same raw files.
    ``folder/raw.json`` keeps these hashes, so that a file is read again only where its size or its times have changed.

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
        self._raw = self.folder / "raw" if raw is None else local(raw)

    def raw(self) -> Path:
        """Where the raw rows are; synthetic ones are generated if they are not those of this configuration.

        Raises:
            InputError: the real rows named at the start do not exist.
        """
        from dlrm_lib.synthetic import generate

        put_back(self._raw)
        if not self.synthetic:
            if not self._raw.exists():
                raise InputError(f"{self._raw} does not exist.", remedy="Set `raw` to a file or folder of raw rows.")
        elif not self._is_generated():
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
        put_back(folder)
        if (folder / MANIFEST).exists():
            manifest = Manifest.read(folder)
            rows = manifest.rows
            counted = rows["train"] if self.config.preprocess.vocabulary_days == "training" else sum(rows.values())
            config = as_dict(self.config.preprocess.for_rows(counted))
            if manifest.config == config and manifest.source == self._contents(source_files(raw)):
                return EncodedDataset(folder)
        print(f"encoding {raw} into {folder}")
        preprocess(raw, folder, self.config.preprocess, allow_empty_splits=True)  # chapters say what they cannot show
        return EncodedDataset(folder)

    def _is_generated(self) -> bool:
        """Whether the raw rows are what today's generator makes of the configuration."""
        from dlrm_lib import synthetic

        wanted = {
            "version": synthetic.version,
            "config": as_dict(self.config.synthetic),
            "frequency_limit": self.config.preprocess.frequency_limit,
        }
        try:
            made = json.loads((self._raw / "ceiling.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        files = [self._raw / f"day_{day}" for day in range(self.config.synthetic.days)]
        return (
            {name: made.get(name) for name in wanted} == wanted
            and set(files) == set(self._raw.glob("day_*"))
            and made.get("files") == self._contents(files)
        )

    def _contents(self, files: Iterable[Path]) -> list[dict[str, Any]]:
        """``{"name", "bytes", "sha256"}`` of each file, as in a manifest."""
        path = self.folder / "raw.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            known = {}
        contents, kept = [], {}
        for file in files:
            name, now, stat = str(file.absolute()), time.time_ns(), file.stat()
            # A program can set back the time of the last change, but not that of the last change of the entry.
            stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            *before, digest = known.get(name, [None])
            digest = digest if before == stamp else sha256(file)
            contents.append({"name": file.name, "bytes": stat.st_size, "sha256": digest})
            if max(stamp[1:]) + _SETTLED < now:  # else it could change once more within the same tick of the clock
                kept[name] = [*stamp, digest]
        if kept != known:
            write_text(path, json.dumps(kept, indent=1) + "\n")
        return contents
