"""The results, whole in docs/results.md and in short in the README, from the records: no number is typed by hand."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from dlrm_lib.full_scale import CLICK_LOGS, Rates, recipe
from dlrm_lib.records import Record
from results.pictures import PICTURES
from results.sources import ENCODERS, MODELS, PROGRAMS, STEP_MODELS, Sources

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
_CARDS = {"an NVIDIA GPU": "gpu_", "an Intel Gaudi": "hpu_"}  # what the names of their records begin with
_ABOVE = "ladder"  # the figure at the top of the README, which the results do not show again
_DOCS = re.compile(r'(="|\]\()figures/')  # where a link to a figure begins


def section(sources: Sources) -> str:
    """The results page: all of it between the two marks, in Markdown for a page in docs/."""
    parts = {
        _quality: ("ladder",),
        _seeds: ("stability",),
        _day_by_day: ("day_by_day",),
        _programs: ("train_cpu",),
        _time_to_auc: ("time_to_auc",),
        _throughput: ("throughput",),
        _latency: ("inference",),
        _preprocessing: ("preprocess", "preprocess_scaling"),
        _whole_logs: ("preprocess_scaling", "throughput", "inference"),
    }
    lines, absent = _measured(sources, parts)
    return _DOCS.sub(r"\1../figures/", _between_marks([*lines, *_others(sources, lines), *absent]))


def digest(sources: Sources) -> str:
    """The README's results, between the two marks, in Markdown: how good, and the two figures of speed."""
    parts = {_ladder: ("ladder",), _step_speed: ("train_cpu",), _encoding: ("preprocess",)}
    lines, absent = _measured(sources, parts)
    return _between_marks([*lines, *absent])


def replaced(page: str, new: str, name: str) -> str:
    """The page with that section in the place of the one it has.

    Raises:
        ValueError: it does not have one.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END + "\n")
    if not begin or not end:
        raise ValueError(f"{name} lacks {BEGIN} or {END}")
    return before + new + after


_Part = Callable[[Sources], Iterator[str]]


def _measured(sources: Sources, parts: Mapping[_Part, Sequence[str]]) -> tuple[list[str], list[str]]:
    """The lines of the parts whose records are there, and a last one that names what was not measured."""
    lines, absent = [], []
    for part, needed in parts.items():
        missing = [name for name in needed if name not in sources.records]
        if not missing:
            lines += part(sources)
        absent += [name.replace("_", " ") for name in missing]
    cards = [card for card, name in _CARDS.items() if not any(record.startswith(name) for record in sources.records)]
    absent = [*dict.fromkeys(absent), *([f"anything on {' or '.join(cards)}"] if cards else [])]
    return lines, [f"**Not measured yet**: {', '.join(absent)}."] if absent else []


def _between_marks(lines: Sequence[str]) -> str:
    return re.sub("\n{3,}", "\n\n", "\n".join([BEGIN, *lines, END])) + "\n"


def _step_speed(sources: Sources) -> Iterator[str]:
    yield from _picture("step_speed")
    yield "Whole training steps ([the numbers, and what else was timed](docs/results.md#training-speed))."
    yield from _origin(sources.records["train_cpu"])


def _encoding(sources: Sources) -> Iterator[str]:
    yield from _picture("preprocessing")
    yield "From text to encoded files ([the numbers](docs/results.md#preprocessing))."
    yield from _origin(sources.records["preprocess"])


def _quality(sources: Sources) -> Iterator[str]:
    yield from _heading("How good")
    yield from _ladder(sources)


def _ladder(sources: Sources) -> Iterator[str]:
    record, levels = sources.records["ladder"], sources.ladder()
    found, ceiling = record.metrics, record.metrics["ceiling"]
    yield ""
    low, high = found["interval"]
    losses = {"guessing": found["test"]["base_log_loss"], "DLRM": found["test"]["log_loss"]}
    losses |= {f"ceiling, {kind} rows": ceiling["test"][kind]["log_loss"] for kind in ("encoded", "raw")}
    rows = [
        (
            _bold(name, name == "DLRM"),
            "not measured yet" if auc is None else _bold(f"{auc:.4f}", name == "DLRM"),
            f"{low:.4f} to {high:.4f}" if name == "DLRM" else "",
            f"{losses[name]:.4f}" if name in losses else "",
        )
        for name, auc in levels.items()
    ]
    yield from _table("test rows|AUC:|95 % interval:|log loss:", rows)
    floor, top = levels["logistic regression"], levels["ceiling, encoded rows"]
    yield (
        f"{record.config['training']['epochs']} passes over {ceiling['train']['rows']:,} synthetic rows, "
        f"{found['test']['rows']:,} test rows. Of the gap between logistic regression and the best that encoded ids "
        f"allow, the DLRM closes **{100 * (levels['DLRM'] - floor) / (top - floor):.1f} %**."
    )
    yield from _origin(record)


def _seeds(sources: Sources) -> Iterator[str]:
    record = sources.records["stability"]
    yield from _heading("As good in 16 bits, seed by seed")
    yield from _picture("seeds")
    found = record.metrics["equivalence"]
    rows = []
    for system, precisions in sources.seeds().items():
        for precision, aucs in precisions.items():
            mean, deviation = statistics.fmean(aucs), statistics.stdev(aucs)
            ends = f"{min(aucs):.5f} to {max(aucs):.5f}"
            rows.append((system, precision, len(aucs), f"{mean:.5f}", f"{deviation:.5f}", ends))
    yield from _table("test AUC|precision|seeds:|mean:|deviation:|range:", rows)
    for precision, of in found.items():
        verdict = "equivalent" if of["equivalent"] else "not shown to be equivalent"
        yield (
            f"- {precision} less fp32, paired by seed: {of['difference']:+.5f}, 90 % interval {of['low']:+.5f} to "
            f"{of['high']:+.5f}: **{verdict}** within ±{of['bound']} (two one-sided t-tests, p = {of['p']:.1g})."
        )
    yield ""
    source = sources.nvidia_seeds["url"].iloc[0]
    yield (
        "The last model of each training, judged in fp32. "
        f"[NVIDIA's seeds]({source}) are of other data: compare deviations alone."
    )
    yield from _origin(record)


def _day_by_day(sources: Sources) -> Iterator[str]:
    record = sources.records["day_by_day"]
    days, first = record.metrics["days"], record.metrics["first_days"]
    yield from _heading("A new day every night")
    yield from _picture("day_by_day")
    rows = []
    for name in days[0]["models"]:
        of = [day["models"][name] for day in days[1:]]
        aucs = [statistics.fmean(model["auc"]) for model in of]
        seconds = [model["encode_seconds"] + statistics.median(model["train_seconds"]) for model in of]
        rows.append(
            (name, f"{statistics.fmean(aucs):.4f}", f"{aucs[-1]:.4f}", f"{seconds[0]:.1f}", f"{seconds[-1]:.1f}")
        )
    yield from _table("a model of the first days|mean AUC:|last day:|seconds, first day:|last day:", rows)
    yield (
        f"Models of {first} days, then judged on the day after each further one, before it is learned from; "
        f"means of {len(days[0]['models'][name]['auc'])} seeds."
    )
    yield from _origin(record)


def _programs(sources: Sources) -> Iterator[str]:
    record = sources.records["train_cpu"]
    yield from _heading("Training speed")
    yield from _picture("step_speed")
    others = [who for who in PROGRAMS if who != "plain"]
    models = {key: name for key, name in STEP_MODELS.items() if key in record.metrics}
    rows = [(name, *(_times(record.metrics[key].get(who)) for who in others)) for key, name in models.items()]
    yield from _table("|".join(["times plain PyTorch", *(f"{PROGRAMS[who]}:" for who in others)]), rows)
    sizes = {name: record.config["models"][key]["batch_size"] for key, name in models.items()}
    batches = ", ".join(f"{size:,} ({name})" for name, size in sizes.items())
    yield f"Whole steps, in turns. Plain is `nn.Embedding` with sparse gradients. Samples per batch: {batches}."
    yield from _origin(record)


def _time_to_auc(sources: Sources) -> Iterator[str]:
    record = sources.records["time_to_auc"]
    rows = [
        (run["name"], *(_median_and_range(run[of], form) for of, form in (("seconds", ".1f"), ("steps", ",.0f"))))
        for run in record.metrics["runs"]
    ]
    yield from _table(f"to a validation AUC of {record.metrics['target']:g}|seconds:|steps:", rows)
    yield "Training alone: reading is in it, evaluation is not."
    yield from _origin(record)


def _throughput(sources: Sources) -> Iterator[str]:
    record = sources.records["throughput"]
    yield from _picture("throughput")
    rows = []
    for model, points in _by_model(record):
        for precision in dict.fromkeys(point["precision"] for point in points):
            of = [point for point in points if point["precision"] == precision]
            best = max(of, key=lambda point: point["samples_per_second"]["median"])
            spread = best["samples_per_second"]
            ends = f"{spread['low']:,.0f} to {spread['high']:,.0f}"
            rows.append((model, precision, f"{best['batch_size']:,}", f"**{spread['median']:,.0f}**", ends))
    yield from _table("training|precision|fastest batch:|samples/s:|range:", rows)
    slow = "" if record.config["processor"]["amx_bf16"] else " This processor has no AMX for products of bf16."
    yield f"Reading and warm-up are left out.{slow}"
    yield from _origin(record)


def _latency(sources: Sources) -> Iterator[str]:
    record = sources.records["inference"]
    rows = []
    for model, points in _by_model(record):
        for of in points:
            if of["precision"] == "fp32" and of["batch_size"] in (1, 64, 4096):
                times = (f"{of[name]:.2f} ms" for name in ("p50_ms", "p99_ms"))
                rows.append((model, f"{of['batch_size']:,}", *times, f"{of['samples_per_second']:,.0f}"))
    yield from _table("answering, fp32|samples per batch:|p50:|p99:|samples/s:", rows)
    yield from _origin(record)


def _preprocessing(sources: Sources) -> Iterator[str]:
    record, scaling = sources.records["preprocess"], sources.records["preprocess_scaling"]
    yield from _heading("Preprocessing")
    yield from _picture("preprocessing")
    runs = {name: record.metrics["runs_s"][name] for name in ENCODERS if name in record.metrics["runs_s"]}
    ours = statistics.median(runs["ours"])
    rows = [
        (
            ENCODERS[name],
            f"{statistics.median(of):.1f}",
            f"{min(of):.1f} to {max(of):.1f}",
            f"{statistics.median(of) / ours:.2f}",
        )
        for name, of in runs.items()
    ]
    yield from _table(f"{record.config['rows'] / 1e6:g} million rows|seconds:|range:|times ours:", rows)
    most, (seconds, memory) = max(scaling.metrics["median_s_gib"].items(), key=lambda item: int(item[0]))
    yield (
        "From text to encoded files, the start of Spark included. Polars and DuckDB hold all rows in memory, and check "
        "and hash nothing."
    )
    yield from _origin(record)
    yield (
        f"{int(most) / 1e6:g} million rows took dlrm_lib {seconds:.0f} s and {memory:.2f} GiB, each further million "
        f"{1e6 / scaling.metrics['marginal_rows_per_s']:.1f} s."
    )
    yield from _origin(scaling)


def _whole_logs(sources: Sources) -> Iterator[str]:
    yield from _heading("All of Criteo, estimated")
    recipes = {log: recipe(log, Rates.measured(sources.records, log), cores=2) for log in CLICK_LOGS}
    rows = []
    for log, stages in recipes.items():
        times = [_time(of.seconds) for of in stages if of.seconds]
        disk, memory = sum(of.disk_bytes for of in stages), max(of.memory_bytes or 0 for of in stages)
        rows.append((log.name.title(), f"{log.rows:,}", *times, _gigabytes(disk), _gigabytes(memory), log.auc))
    yield from _table("click log|rows:|preprocess:|train:|test:|disk, at most:|memory:|test AUC:", rows)
    yield (
        "**Not run here.** Times are rows over the rates measured above on two CPU cores, without what changes with "
        "size; the AUCs are those to expect."
    )
    yield from ("", *(f"- {log.name.title()}: {log.auc_source}." for log in CLICK_LOGS), "")
    yield from ("<details><summary>The commands</summary>", "")
    for stages in recipes.values():
        yield from ("```text", *(of.command for of in stages), "```", "")
    yield from ("</details>", "")


def _others(sources: Sources, lines: Sequence[str]) -> Iterator[str]:
    """Links to the figures that these lines do not show."""
    shown = "\n".join(lines)
    drawn = [name for name, of in PICTURES.items() if of.record in sources.records and name != _ABOVE]
    links = [f"[{name.replace('_', ' ')}](figures/{name}.svg)" for name in drawn if f"figures/{name}.svg" not in shown]
    yield from (f"More figures: {', '.join(links)}.", "")


def _by_model(record: Record) -> list[tuple[str, list[Mapping]]]:
    found = record.metrics["models"]
    return [(title, found[name]) for name, title in MODELS.items() if name in found]


def _heading(text: str) -> Iterator[str]:
    yield from ("", f"## {text}", "")


def _picture(name: str) -> Iterator[str]:
    yield f'<picture><source media="(prefers-color-scheme: dark)" srcset="figures/{name}-dark.svg">'
    yield f'<img src="figures/{name}.svg" alt="{PICTURES[name].alt}"></picture>'
    yield ""


def _table(header: str, rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """A table; the header's columns are separated by bars, and one that ends in a colon holds numbers."""
    columns = header.split("|")
    yield f"| {' | '.join(column.removesuffix(':') for column in columns)} |"
    yield f"|{'|'.join('---:' if column.endswith(':') else '---' for column in columns)}|"
    yield from (f"| {' | '.join(map(str, row))} |" for row in rows)
    yield ""


def _origin(record: Record) -> Iterator[str]:
    yield ""
    yield f"<sub>Measured on {record.origin}; again with `{record.command}`</sub>"
    yield ""


def _bold(text: str, wanted: bool) -> str:
    return f"**{text}**" if wanted else text


def _times(found: Mapping | None) -> str:
    return f"{statistics.median(found['times_plain']):.2f}" if found else ""


def _median_and_range(spread: Mapping[str, float] | None, form: str) -> str:
    if spread is None:
        return "not reached"
    return f"{spread['median']:{form}} ({spread['low']:{form}} to {spread['high']:{form}})"


def _time(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h" if hours >= 1 else f"{max(seconds / 60, 1):.0f} min"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.0f} GB"
