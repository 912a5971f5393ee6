"""``./ci/run``: executes the workbook headlessly."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from dlrm_lib.columns import CRITEO, RawColumns
from dlrm_lib.config import Config
from dlrm_lib.errors import InputError

ROOT = Path(__file__).resolve().parent.parent.parent
# Set by the runner itself or by options of their own, so `-p` may not set them.
_NOT_BY_P = {
    "preset": "--preset",
    "raw": "--raw",
    "feature_spec": "--feature_spec",
    "work_dir": "--work-dir",
    "headless": "nothing: a run is headless",
}


def main(arguments: Sequence[str], *, root: Path = ROOT) -> int:
    """Runs the notebooks of the checkout ``root``; returns 0, or 1 if one of them failed.

    Raises:
        InputError: bad arguments, or a notebook that cannot be run as asked; nothing was started then.
    """
    args = _parser(root).parse_args(arguments)
    from runner import plan  # After --help and bad flags: the notebook libraries take a second to import.

    preset = args.preset or ("criteo_kaggle" if args.raw else "smoke")
    chosen = _parameters(args.p)
    settings = {name: chosen[name] for name in ("device", "seed") if name in chosen}
    Config.from_preset(preset, {**_overrides(chosen), **settings})  # Refuses what no notebook would take.
    notebooks = [plan.read(path) for path in plan.select(plan.discover(root / "notebooks"), args.notebooks)]
    parameters = {**chosen, "preset": preset, "headless": True}
    columns = CRITEO
    if args.feature_spec:
        if not args.raw:
            raise InputError("--feature_spec describes the rows of --raw, which is missing.", remedy="Give both.")
        columns = RawColumns.read(args.feature_spec)
        parameters["feature_spec"] = str(args.feature_spec.resolve())
    if args.raw:
        if not args.raw.exists():
            raise InputError("--raw names no file or folder.", found=args.raw)
        from dlrm_lib.raw_rows import read_raw

        read_raw(args.raw, rows=1, columns=columns)  # better said now than by the first notebook that reads them
        parameters["raw"] = str(args.raw.resolve())
    plan.check_parameters(notebooks, {**parameters, "work_dir": ""})

    from runner import execute, report

    output = (args.output or root / "ci" / "output").resolve()
    work = (args.work_dir or output / "work").resolve()
    results, figures = [], []
    with _fresh(output, keep=args.work_dir and work), execute.clean_environment():
        for notebook in notebooks:
            budget = args.timeout or notebook.budget(preset)
            _say(f"{notebook.name}: started, {budget:g} s at most")
            result = execute.execute(
                notebook,
                parameters={**parameters, "work_dir": str(work / notebook.name if args.alone else work)},
                executed=output / "notebooks" / notebook.path.name,
                budget=budget,
            )
            _say(f"{notebook.name}: {'FAILED' if result.failure else 'ok'} after {result.seconds:.1f} s")
            if result.failure:
                _say(f"  {result.failure}\n  partial notebook: {result.executed}")
            results.append(result)
            figures += report.write_page(result, output)
        _say(f"\n{report.table(results)}\n")
        about = {
            "preset": preset,
            "rows": str(args.raw or "synthetic"),
            "chain": "each notebook alone" if args.alone else "one, in order",
            "date": datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        }
        report.write_index(results, figures, output, about=about)
        _say(f"Pages: {output / 'index.html'}")
    return int(any(result.failure for result in results))


def _parser(root: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./ci/run",
        description="Executes the workbook headlessly: by default all of it, on reduced synthetic data. "
        "Executed notebooks, pages and figures land in ci/output/, which is made anew by each run.",
        epilog="Exit codes: 0 done, 1 a notebook failed, 2 bad arguments (nothing was run), 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="only these, by number (03) or name")
    parser.add_argument("--preset", help="sizes of data and model (default: smoke; with --raw: criteo_kaggle)")
    parser.add_argument("--raw", type=Path, metavar="PATH", help="real Criteo rows, a file or a folder of days")
    parser.add_argument(
        "--feature_spec", type=Path, metavar="PATH", help="YAML that names the columns of --raw; default: 13 and 26"
    )
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a notebook parameter, as YAML"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--work-dir", type=Path, metavar="PATH", help="use and keep this chain of artifacts")
    where.add_argument(
        "--alone", action="store_true", help="each notebook builds all it needs itself (several times as long)"
    )
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="time budget of every notebook")
    parser.add_argument("--output", type=Path, metavar="PATH", help="write there instead of ci/output")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return seconds


def _parameters(pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    values = {}
    for name, text in pairs:
        if name in _NOT_BY_P:
            raise InputError(f"-p does not set {name}.", found=text, remedy=f"Use {_NOT_BY_P[name]}.")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"-p {name} takes a YAML value.", found=text, remedy="Quote it.") from None
    return values


def _overrides(chosen: dict[str, Any]) -> dict[str, Any]:
    overrides = chosen.get("overrides") or {}
    if not isinstance(overrides, dict):
        raise InputError("-p overrides takes settings by name.", found=overrides, remedy="For example: {lr: 2.0}.")
    return overrides


@contextlib.contextmanager
def _fresh(output: Path, *, keep: Path | None) -> Iterator[None]:
    """Empties the folder of the run, except for a work folder in it that is to be kept, and holds it for this run."""
    marker = output / ".workbook-run"
    if output.exists() and not marker.exists() and any(output.iterdir()):
        raise InputError("--output must name a new folder or that of an earlier run.", found=output)
    output.mkdir(parents=True, exist_ok=True)
    with marker.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("Another run is writing there.", found=output, remedy="Wait, or use --output.") from None
        # The index first: without it a run that is interrupted from here on does not look finished.
        (output / "index.html").unlink(missing_ok=True)
        for path in output.iterdir():
            if path == marker or (keep and (path == keep or path in keep.parents)):
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (output / "notebooks").mkdir(exist_ok=True)
        yield


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"./ci/run: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("./ci/run: interrupted.", file=sys.stderr)
        sys.exit(130)
