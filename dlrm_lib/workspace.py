"""The artifacts of one run of the workbook: raw rows, encoded rows, trained models, each built where it is missing.

Every notebook asks a workspace for what it needs, so that each runs alone as well as in order.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlrm_lib.columns import CRITEO, CRITEO_ON_THE_HUB, RawColumns
from dlrm_lib.config import Config, PreprocessConfig, as_dict
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.files import put_back, sha256, write_text
from dlrm_lib.manifest import MANIFEST, Manifest
from dlrm_lib.places import local
from dlrm_lib.records import usable_cores

_SETTLED = 2 * 10**9  # nanoseconds: no clock of a file system ticks more slowly
# Chapters on training take twenty batches of the training rows, and shares of them.
_FEWEST_ROWS = 100


class Workspace:
    """``folder/raw``, ``folder/encoded`` and ``folder/runs`` for one configuration.

    What is there is used if it was made from the same configuration and, by their hashes, from the same raw files.
    ``folder/raw.json`` keeps these hashes, so that a file is read again only where its size or its times have changed.

    Attributes:
        config: Decides what is built.
        runs: Folder for checkpoints and records.
        synthetic: Whether the raw rows are generated, so that their best reachable AUC is known.
        columns: Of a raw row.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Config,
        raw: str | Path | None = None,
        feature_spec: str | Path | None = None,
    ) -> None:
        """Builds nothing yet.

        Args:
            folder: Where all is kept.
            config: Decides what is built.
            raw: Real rows (a folder of day files, or one file) to use instead of synthetic ones.
            feature_spec: YAML that names the columns of ``raw``, as ``RawColumns.read`` takes it; by default Criteo's.

        Raises:
            InputError: the feature specification cannot be read, or there are no real rows that it could describe.
        """
        if feature_spec is not None and raw is None:
            raise InputError(
                "`feature_spec` describes rows of your own, and synthetic rows have Criteo's columns.",
                found=feature_spec,
                remedy="Set `raw` too, or leave `feature_spec` at None.",
            )
        self.folder = Path(folder)
        self.config = config
        self.runs = self.folder / "runs"
        self.synthetic = raw is None
        self.columns = CRITEO if feature_spec is None else RawColumns.read(Path(feature_spec))
        self._raw = self.folder / "raw" if raw is None else local(raw)

    def or_synthetic(self, *, training: bool = False, numbers: int = 0, tokens: int = 0) -> Workspace:
        """This workspace or, where its rows lack what a chapter shows, one of synthetic rows in ``folder/synthetic``.

        What they lack, and that synthetic ones take their place, is printed.

        Args:
            training: The chapter trains and judges models: it needs 100 training rows, and in each split clicks and
                rows without one. The rows are encoded to find out.
            numbers: So many integer columns it needs at least.
            tokens: So many columns of tokens, likewise.

        Raises:
            InputError: the real rows do not exist, or cannot be encoded.
        """
        lack = None if self.synthetic else self._lack(training, numbers, tokens)
        if lack is None:
            return self
        few = Config.from_preset("smoke").synthetic  # enough to show it, made in seconds
        rows, days = min(few.rows, self.config.synthetic.rows), min(few.days, self.config.synthetic.days)
        print(f"{self._raw.name} {lack}.\nThis chapter goes on with {rows:,} synthetic rows instead.")
        return Workspace(self.folder / "synthetic", self.config.override(rows=rows, days=days))

    def _lack(self, training: bool, numbers: int, tokens: int) -> str | None:
        """What keeps a chapter from being shown on these rows, as the rest of a sentence; None where nothing does."""
        for kind, here, least in (
            ("integers", self.columns.numerical, numbers),
            ("tokens", self.columns.categorical, tokens),
        ):
            if here < least:
                return f"has {here or 'no'} column{'s' * (here != 1)} of {kind}, and what follows needs {least}"
        if not training:
            return None
        manifest = self.encoded().manifest
        if manifest.rows["train"] < _FEWEST_ROWS:
            return f"leaves {manifest.rows['train']:,} training rows, and what follows needs {_FEWEST_ROWS}"
        for split, rows in manifest.rows.items():
            if manifest.clicks[split] in (0, rows):
                part = "training" if split == "train" else split
                which = "clicked" if manifest.clicks[split] else "without a click"
                found = f"{rows:,} {part} rows, all {which}" if rows else f"no {part} rows"
                return f"leaves {found}: a model cannot be judged, for there is no AUC"
        return None

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
            generate(self._raw, self.config.synthetic, **self._encoding, workers=usable_cores())
        return self._raw

    def ceiling(self) -> dict | None:
        """The best reachable AUC and log loss per split (see ``synthetic``); None for real rows: nobody knows it."""
        if not self.synthetic:
            return None
        return json.loads((self.raw() / "ceiling.json").read_text(encoding="utf-8"))["splits"]

    def encoded(self) -> EncodedDataset:
        """The encoded rows; they are made if they are missing or were made from other rows or settings."""
        from dlrm_lib.preprocess.source import file_names, source_days

        folder, raw = self.folder / "encoded", self.raw()
        put_back(folder)
        if (folder / MANIFEST).exists():
            manifest = Manifest.read(folder)
            rows = manifest.accepted
            counted = rows["train"] if self.config.preprocess.vocabulary_days == "training" else sum(rows.values())
            config = as_dict(self.config.preprocess.for_rows(counted))
            made_with = as_dict(PreprocessConfig()) | manifest.config  # an earlier version had fewer settings
            days = source_days(raw)
            files = dict(zip(file_names(days), itertools.chain(*days.values()), strict=True))
            if made_with == config and manifest.source == self._contents(files):
                found = EncodedDataset(folder)
                # Where none are declared, the file may have named them.
                if found.spec.columns in (self.columns, CRITEO_ON_THE_HUB if self.columns == CRITEO else None):
                    return found
        print(f"encoding {raw} into {folder}")
        self.encode(folder)
        return EncodedDataset(folder)

    def encode(self, folder: Path, *, progress: Callable[[str, int, int], None] | None = None) -> Manifest:
        """Encodes the raw rows into a folder, whatever they hold out; errors are those of ``preprocess``."""
        from dlrm_lib.preprocess import preprocess

        return preprocess(
            self.raw(),
            folder,
            self.config.preprocess,
            columns=self.columns,
            allow_empty_splits=True,  # chapters say what they cannot show
            progress=progress,
        )

    @property
    def _encoding(self) -> dict[str, Any]:
        """What decides about the best reachable AUC besides the rows."""
        return {name: getattr(self.config.preprocess, name) for name in ("frequency_limit", "numeric_rule")}

    def _is_generated(self) -> bool:
        """Whether the raw rows are what today's generator makes of the configuration."""
        from dlrm_lib import synthetic

        wanted = {
            "version": synthetic.version,
            "config": as_dict(self.config.synthetic),
            **self._encoding,
        }
        try:
            made = json.loads((self._raw / "ceiling.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        files = {name: self._raw / name for name in (f"day_{day}" for day in range(self.config.synthetic.days))}
        return (
            {name: made.get(name) for name in wanted} == wanted
            and set(files.values()) == set(self._raw.glob("day_*"))
            and made.get("files") == self._contents(files)
        )

    def _contents(self, files: Mapping[str, Path]) -> list[dict[str, Any]]:
        """``{"name", "bytes", "sha256"}`` of each file by name, as in a manifest."""
        path = self.folder / "raw.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            known = {}
        contents, kept = [], {}
        for called, file in files.items():
            name, now, stat = str(file.absolute()), time.time_ns(), file.stat()
            # A program can set back the time of the last change, but not that of the last change of the entry.
            stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            *before, digest = known.get(name, [None])
            digest = digest if before == stamp else sha256(file)
            contents.append({"name": called, "bytes": stat.st_size, "sha256": digest})
            if max(stamp[1:]) + _SETTLED < now:  # else it could change once more within the same tick of the clock
                kept[name] = [*stamp, digest]
        if kept != known:
            write_text(path, json.dumps(kept, indent=1) + "\n")
        return contents
