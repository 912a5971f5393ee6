"""What a model or a run needs of its data set, and the first thing in which another data set differs.

Most settings of ``preprocess`` change neither what ids and numbers mean nor which rows there are: how strict it was,
say. So settings are not compared, but what they led to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dlrm_lib.config import digest
from dlrm_lib.dataset import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.settings import as_text

Facts = Mapping[str, Any]


class _Difference(NamedTuple):
    """Something that is not as it was then, and what to do about it."""

    found: str
    remedy: str


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint keeps of its data set, JSON-ready."""
    manifest, spec = dataset.manifest, dataset.spec
    return {
        "numerical": spec.numerical,
        "numeric_rules": [rule.entry() for rule in spec.numeric_rules],
        "cardinalities": list(spec.cardinalities),
        "indices_per_lookup": manifest.config.get("indices_per_lookup", 1),
        "vocabularies": manifest.vocabularies,
        "encoding": manifest.config,
        "source": manifest.source,
        "rows": manifest.rows,
        "training_rows": len(dataset.train),
        "hashes": manifest.hashes,
    }


def identity(dataset: Dataset) -> str:
    """A hash that data sets share if the same training on them gives the same numbers."""
    facts = data_facts(dataset)
    same = ("numerical", "numeric_rules", "cardinalities", "indices_per_lookup", "rows", "training_rows")
    return digest([*(facts[name] for name in same), facts["hashes"]["vocabulary"], _contents(facts), _order(facts)])


def refuse_other_meaning(path: Path, then: Facts, dataset: Dataset) -> None:
    """Raises InputError where ids or numbers of ``dataset`` mean something else than in the data set of ``path``.

    Args:
        path: The checkpoint, for the message.
        then: What it says of its data set: ``data_facts``, or the fewer facts of an earlier version.
        dataset: What it is to be used on.
    """
    for found, remedy in _other_meanings(then, data_facts(dataset)):
        raise InputError(
            f"{path} was trained on inputs of another meaning than those of {dataset.folder}.",
            found=found,
            remedy=f"{remedy}, or train again.",
        )


def refuse_other_rows(path: Path, then: Facts, dataset: Dataset) -> None:
    """Raises InputError where the rows of ``dataset`` are not those of the run that wrote ``path``, in their order."""
    for found, remedy in _other_rows(then, data_facts(dataset)):
        raise InputError(
            f"{path} was written by a run on other rows than those of {dataset.folder}.",
            found=found,
            remedy=f"{remedy}, or start a new run from a model with --load_checkpoint_path.",
        )


_OTHER_DATA = "Use the data set it was trained on"


def _other_meanings(then: Facts, now: Facts) -> Iterator[_Difference]:
    """All differences, the coarsest first: those behind it suppose that there are as many columns."""
    yield from _compared("numerical columns", then["numerical"], now["numerical"], _OTHER_DATA)
    yield from _compared("categorical columns", len(then["cardinalities"]), len(now["cardinalities"]), _OTHER_DATA)
    bag = then["indices_per_lookup"]
    remedy = f"Set --num_indices_per_lookup {bag}"
    yield from _compared("num_indices_per_lookup", bag, now["indices_per_lookup"], remedy)

    rules = [(before["name"], after["name"]) for before, after in _pairs(then, now, "numeric_rules") if before != after]
    columns = [column for column, (before, after) in enumerate(_pairs(then, now, "numeric_rules")) if before != after]
    for column, (before, after) in zip(columns, rules, strict=True):
        which = "" if len(columns) == now["numerical"] and len(set(rules)) == 1 else f" of num_{column}"
        remedy = _OTHER_DATA if which or "numeric_rule" not in now["encoding"] else _encode("numeric_rule", before)
        if before == after:
            yield _Difference(f"numeric_rule{which}: {after}, with other bins than then", _OTHER_DATA)
        yield from _compared(f"numeric_rule{which}", before, after, remedy)

    reason, remedy = _why_other_ids(then, now)
    for column, (before, after) in enumerate(_pairs(then, now, "cardinalities")):
        if before != after:
            yield _Difference(f"cat_{column}: {before:,} ids then, {after:,} now{reason}", remedy)
    if then["hashes"]["vocabulary"] != now["hashes"]["vocabulary"]:
        known = then.get("vocabularies") and now["vocabularies"]  # each column's, which earlier versions did not write
        differ = [a != b for a, b in _pairs(then, now, "vocabularies")] if known else []
        where = f"cat_{differ.index(True)}" if any(differ) else "the vocabulary"
        found = f"{where}: ids stand for other values than then{reason}"
        if now["encoding"].get("layout") == "records":  # see PackedDataset
            found = "other ids in the first training rows than then; packed rows have no vocabulary to compare"
        yield _Difference(found, remedy)


def _why_other_ids(then: Facts, now: Facts) -> tuple[str, str]:
    """The setting of ``preprocess`` that gives a value another id, as far as one is known, and what to do."""
    if "encoding" in then and _contents(then) == _contents(now):
        for name in ("frequency_limit", "vocabulary_days"):
            before, after = (facts["encoding"].get(name) for facts in (then, now))
            if before != after:
                return f" ({name}: {as_text(before)} then, {as_text(after)} now)", _encode(name, before)
    return "", _OTHER_DATA


def _other_rows(then: Facts, now: Facts) -> Iterator[_Difference]:
    as_it_was = "Use the data set as it was"
    if "encoding" not in then:  # an earlier version kept hashes alone
        for name in ("config", "source", "split"):
            if then["hashes"][name] != now["hashes"][name]:
                yield _Difference(f"another {name}, by a hash that is all that was kept of it", as_it_was)
    else:
        yield from _compared("raw files", len(then["source"]), len(now["source"]), as_it_was)
        for before, after, file in zip(_contents(then), _contents(now), now["source"], strict=True):
            if before != after:
                yield _Difference(f"{file['name']}: not what it held then", as_it_was)
        orders = _order(then), _order(now)
        for name in orders[0] | orders[1]:
            before, after = (order.get(name) for order in orders)
            set_back = f"Set --{name} {as_text(before)}" if name not in _OF_PREPROCESS else _encode(name, before)
            yield from _compared(name, before, after, set_back)
        for split, rows in now["rows"].items():
            if rows != then["rows"][split]:
                before, after = (facts["encoding"].get("holdout_fraction") for facts in (then, now))
                yield from _compared("holdout_fraction", before, after, _encode("holdout_fraction", before))
                yield from _compared(f"{split} rows", then["rows"][split], rows, as_it_was)
    share = "Set --dataset_subset as it was"
    yield from _compared("training rows", then["training_rows"], now["training_rows"], share)


_OF_PREPROCESS = ("order", "shuffle_seed")
_OF_RANDOM_ROWS = {"seed": "seed", "ids": "ids", "fixed": "num_indices_per_lookup_fixed"}


def _order(facts: Facts) -> dict[str, Any]:
    """The settings behind which row comes when; where rows are in the order of the input, no seed is."""
    known = {**facts["encoding"], **{name: file[name] for file in facts["source"] for name in file if name == "seed"}}
    names = _OF_PREPROCESS if known.get("order") == "shuffled" else _OF_PREPROCESS[:1]
    order = {name: known[name] for name in names if name in known}
    return order | {name: known[of] for of, name in _OF_RANDOM_ROWS.items() if of in known}


def _contents(facts: Facts) -> list[Any]:
    """What tells each raw file from others, whatever its name: its hash, or where there is none its size."""
    return [file["sha256"] or [file["name"], file["bytes"]] for file in facts["source"]]


def _pairs(then: Facts, now: Facts, name: str) -> list[tuple[Any, Any]]:
    return list(zip(then[name], now[name], strict=True))


def _encode(name: str, value: Any) -> str:
    return f"Encode the rows with --{name} {as_text(value)}"


def _compared(name: str, then: Any, now: Any, remedy: str) -> Iterator[_Difference]:
    if then != now:
        before, after = (f"{value:,}" if type(value) is int else as_text(value) for value in (then, now))
        yield _Difference(f"{name}: {before} then, {after} now", remedy)
