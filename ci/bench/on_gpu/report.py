"""What a stage found: checks and figures as lines of a table that is printed last, and as a record."""

from __future__ import annotations

import datetime
import json
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bench.on_gpu.card import Card
from bench.on_gpu.data import workload

from dlrm_lib.config import as_dict
from dlrm_lib.records import hardware, versions, write_record

LIMIT = 460.0  # seconds that a stage may take: below eight minutes, and some are left to end in


class Part(NamedTuple):
    """A piece of a stage that can be run alone.

    Attributes:
        needs: Seconds that it takes at most; it is left out if fewer are left.
        run: Does it.
    """

    needs: float
    run: Callable[[Card, Report], None]


class Report:
    """Collects what the parts of a stage find.

    Attributes:
        failed: Names of checks that did not hold.
    """

    def __init__(self, stage: str, card: Card, folder: Path | None = None) -> None:
        """Without ``folder``, and in a rehearsal, no record is written."""
        self.stage, self.card = stage, card
        self.path = folder / f"gpu_{stage}.json" if folder and not card.rehearsal else None
        self.failed: list[str] = []
        self._lines: list[str] = []
        self._metrics: dict[str, dict[str, Any]] = {}
        self._began = time.monotonic()

    def left(self) -> float:
        """Seconds until the stage should end."""
        return LIMIT - (time.monotonic() - self._began)

    def check(self, name: str, passed: bool, measured: str) -> None:
        """Notes whether something holds that must."""
        if not passed:
            self.failed.append(name)
        self.line(f"{'ok  ' if passed else 'FAIL'}  {name:58}  {measured}")

    def line(self, text: str) -> None:
        """Prints a line now and again in the table."""
        print(text, flush=True)
        self._lines.append(text)

    def keep(self, part: str, **metrics: Any) -> None:
        """Adds numbers to the record of a part."""
        self._metrics.setdefault(part, {}).update(metrics)

    def run(self, parts: dict[str, Part], wanted: Iterable[str] | None = None) -> None:
        """Runs the parts, or the wanted ones, in their order, as long as there is time; writes after each."""
        for name in parts:
            if wanted and name not in wanted:
                continue
            self.line(f"-- {name}")
            if self.left() < parts[name].needs:
                self.line(f"      left out: {self.left():.0f} s are left, and it may take {parts[name].needs:.0f}")
                continue
            began, failed_before = time.monotonic(), len(self.failed)
            try:
                parts[name].run(self.card, self)
            except Exception as error:
                traceback.print_exc()
                self.check(f"{name} ran to its end", False, f"{type(error).__name__}: {error}".splitlines()[0])
            self.keep(
                name,
                seconds=round(time.monotonic() - began, 1),
                date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                failed=self.failed[failed_before:],
            )
            self.card.free()
            self._write()

    def table(self) -> str:
        """All lines, and what they come to."""
        title = "REHEARSAL, NOT A MEASUREMENT: " if self.card.rehearsal else ""
        end = f"{len(self.failed)} failed: {'; '.join(self.failed)}" if self.failed else "nothing failed"
        return "\n".join([f"\n{title}{self.stage} on {self.card.state()['name']}", *self._lines, f"{title}{end}"])

    def _write(self) -> None:
        if not self.path:
            return
        metrics, here = self._metrics, (hardware().get("gpu"), versions())
        if self.path.exists():
            old = json.loads(self.path.read_text(encoding="utf-8"))
            # Parts may be measured by one command after the other, if it is on the same card with the same software.
            if (old["hardware"].get("gpu"), old["versions"]) == here:
                metrics = old["metrics"] | metrics
        write_record(
            self.path,
            what=f"DLRM on a GPU: {self.stage}",
            config={
                "card": self.card.state(),
                "repeats": self.card.repeats,
                "segment_s": self.card.segment,
                "batch_sizes": list(self.card.batch_sizes),
                "distinct_batches": self.card.distinct,
                **as_dict(workload(self.card)),
            },
            metrics=metrics,
        )
