"""What a model or a run needs of its data set, and the first thing in which another data set differs.

Most settings of ``preprocess`` change neither what ids and numbers mean nor which rows there are: how strict it was,
say. So settings are not compared, but what they led to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dlrm_lib.columns import RawColumns
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
        "columns": spec.raw_columns and dataclasses.asdict(spec.raw_columns),
        "numeric_rules": [rule.entry() for rule in spec.numeric_rules],
        "cardinalities": list(spec.cardinalities),
        "indices_per_lookup": manifest.config.get("indices_per_lookup", 1),
        "vocabularies": manifest.vocabularies,
        "negative_rate": manifest.negative_rate,
        "lineage": [before["vocabulary"] for before in manifest.lineage],
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


def has_grown(then: Facts, now: Facts) -> bool:
    """Whether the vocabulary now is one that was extended since: all ids of then, and others behind them."""
    pairs = _pairs(then, now, "cardinalities")
    known = now["hashes"]["vocabulary"] == then["hashes"]["vocabulary"]
    return not known and then["hashes"]["vocabulary"] in now["lineage"] and all(a <= b for a, b in pairs)


def is_later(then: Facts, now: Facts) -> bool:
    """Whether the data set now is another one than then, made with its vocabulary, which may have been extended."""
    same = all(then["hashes"][name] == now["hashes"][name] for name in ("vocabulary", "source"))
    return not same and then["hashes"]["vocabulary"] in now["lineage"]


def refuse_other_meaning(path: Path, then: Facts, dataset: Dataset) -> None:
    """Raises InputError where ids or numbers of ``dataset`` mean something else than in the data set of ``path``.

    Ids of a later data set of its lineage do not: there only are more of them.

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


def renamed(then: Facts, dataset: Dataset) -> dict[str, str]:
    """The columns of a data set that were called otherwise then, with their names then."""
    pairs = zip(_named(then), _named(data_facts(dataset)), strict=True)
    return {
        after: before
        for befores, afters in pairs
        for before, after in zip(befores, afters, strict=False)  # without names on one side, none
        if before != after
    }


_OTHER_DATA = "Use the data set it was trained on"
_OTHER_IDS = "Encode the rows with the vocabulary of its data set (preprocess --vocabulary)"


def _other_meanings(then: Facts, now: Facts) -> Iterator[_Difference]:
    """All differences, the coarsest first: those behind it suppose that there are as many columns."""
    yield from _compared("numerical columns", then["numerical"], now["numerical"], _OTHER_DATA)
    yield from _compared("categorical columns", len(then["cardinalities"]), len(now["cardinalities"]), _OTHER_DATA)
    bag = then["indices_per_lookup"]
    remedy = f"Set --num_indices_per_lookup {bag}"
    yield from _compared("num_indices_per_lookup", bag, now["indices_per_lookup"], remedy)
    yield from _other_columns(then, now)

    numerical, categorical = _names(now)
    before, after = (_bags(facts) for facts in (then, now))
    for name, most_then, most_now in zip(categorical, before, after, strict=True):
        yield from _compared(f"most tokens of {name}", most_then, most_now, f"Encode the rows with `most: {most_then}`")
    rules = [(before["name"], after["name"]) for before, after in _pairs(then, now, "numeric_rules") if before != after]
    columns = [column for column, (before, after) in enumerate(_pairs(then, now, "numeric_rules")) if before != after]
    for column, (before, after) in zip(columns, rules, strict=True):
        which = "" if len(columns) == now["numerical"] and len(set(rules)) == 1 else f" of {numerical[column]}"
        remedy = _OTHER_DATA if which or "numeric_rule" not in now["encoding"] else _encode("numeric_rule", before)
        if before == after:
            yield _Difference(f"numeric_rule{which}: {after}, with other bins than then", _OTHER_DATA)
        yield from _compared(f"numeric_rule{which}", before, after, remedy)

    if has_grown(then, now):
        if then["model"]["hash_indices"]:
            found = "hash_indices, by which ids share the rows of tables: with more ids each would have another row"
            yield _Difference(found, "Encode the rows with --vocabulary alone, without --extend")
        return
    reason, remedy = _why_other_ids(then, now)
    for column, (before, after) in enumerate(_pairs(then, now, "cardinalities")):
        if before != after:
            yield _Difference(f"{categorical[column]}: {before:,} ids then, {after:,} now{reason}", remedy)
    if then["hashes"]["vocabulary"] != now["hashes"]["vocabulary"]:
        differ = [a != b for a, b in _vocabularies(then, now)]
        where = categorical[differ.index(True)] if any(differ) else "the vocabulary"
        found = f"{where}: ids stand for other values than then{reason}"
        if now["encoding"].get("layout") == "records":  # see PackedDataset
            found = "other ids in the first training rows than then; packed rows have no vocabulary to compare"
        yield _Difference(found, remedy)


def _other_columns(then: Facts, now: Facts) -> Iterator[_Difference]:
    """Columns in each other's places, and others in their places, by their names.

    A categorical column of another name whose ids stand for the same values was renamed: what a model has learned of
    them holds. Numbers show nothing of the kind, so that only their name tells what they are.
    """
    same_values = [a == b for a, b in _vocabularies(then, now)]
    for kind, befores, afters in zip(("numerical", "categorical"), _named(then), _named(now), strict=True):
        for place, (before, after) in enumerate(zip(befores, afters, strict=False)):  # without names on one side, none
            moved = before in afters or after in befores
            if before == after or (kind == "categorical" and not moved and any(same_values[place : place + 1])):
                continue
            found = f"{kind} column {place}, counted from 0: {before} then, {after} now"
            remedy = f"If {after} is {before} under another name, call it that in the --feature_spec and encode again"
            if moved:
                found += "; the columns are in another order"
                remedy = "Encode the rows with a --feature_spec that lists the columns in their order of then"
            yield _Difference(found, remedy)


def _named(facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the numerical and of the categorical columns, where they have names and these were kept."""
    columns = RawColumns.of(facts["columns"]) if facts.get("columns") else None
    return (columns.numerical_names, columns.categorical_names) if columns and columns.named else ((), ())


def _bags(facts: Facts) -> tuple[int, ...]:
    """The most tokens of a row in each categorical column."""
    return RawColumns.of(facts["columns"]).bags if facts.get("columns") else (1,) * len(facts["cardinalities"])


def _names(facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the columns are called, by their names or else by their numbers."""
    unnamed = RawColumns.unnamed(facts["numerical"], len(facts["cardinalities"]))
    return _named(facts) if any(_named(facts)) else (unnamed.numerical_names, unnamed.categorical_names)


def _vocabularies(then: Facts, now: Facts) -> list[tuple[str, str]]:
    """The hashes of each categorical column's; none where an earlier version did not write them."""
    return _pairs(then, now, "vocabularies") if then.get("vocabularies") and now["vocabularies"] else []


def _why_other_ids(then: Facts, now: Facts) -> tuple[str, str]:
    """What gives a value another id, as far as it is known, and what to do."""
    ours, theirs = ({*facts.get("lineage", ()), facts["hashes"]["vocabulary"]} for facts in (then, now))
    if now["hashes"]["vocabulary"] in ours:
        return " (its rows are those of an earlier data set of the model's lineage)", _OTHER_IDS
    if ours & theirs:
        return " (both vocabularies grew out of one, each by values of its own)", _OTHER_IDS
    if "encoding" in then and _contents(then) == _contents(now):
        for name in ("frequency_limit", "vocabulary_days", "separate_missing"):
            before, after = (facts["encoding"].get(name, False) for facts in (then, now))
            if before != after:
                return f" ({name}: {as_text(before)} then, {as_text(after)} now)", _encode(name, before)
    return "", _OTHER_IDS if "numeric_rule" in now["encoding"] else _OTHER_DATA


def _other_rows(then: Facts, now: Facts) -> Iterator[_Difference]:
    as_it_was = "Use the data set as it was"
    if has_grown(then, now):
        ids = [f"{sum(facts['cardinalities']):,}" for facts in (then, now)]
        yield _Difference(f"the vocabulary was extended: {ids[0]} ids then, {ids[1]} now", as_it_was)
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
            before, after = (order.get(name, _ALL if name == "negative_rate" else None) for order in orders)
            set_back = f"Set --{name} {as_text(before)}" if name not in _OF_PREPROCESS else _encode(name, before)
            yield from _compared(name, before, after, set_back)
        for split, rows in now["rows"].items():
            if rows != then["rows"][split]:
                before, after = (facts["encoding"].get("holdout_fraction") for facts in (then, now))
                yield from _compared("holdout_fraction", before, after, _encode("holdout_fraction", before))
                yield from _compared(f"{split} rows", then["rows"][split], rows, as_it_was)
    share = "Set --dataset_subset as it was"
    yield from _compared("training rows", then["training_rows"], now["training_rows"], share)


_OF_PREPROCESS = ("order", "negative_rate", "shuffle_seed")
_ALL = 1.0  # the negative_rate that keeps every row
_OF_RANDOM_ROWS = {"seed": "seed", "ids": "ids", "fixed": "num_indices_per_lookup_fixed"}


def _order(facts: Facts) -> dict[str, Any]:
    """The settings behind which row comes when; where all rows are in the order of the input, no seed is."""
    known = {**facts["encoding"], **{name: file[name] for file in facts["source"] for name in file if name == "seed"}}
    sampled = known.get("negative_rate", _ALL) != _ALL
    matters = {"order": True, "negative_rate": sampled, "shuffle_seed": sampled or known.get("order") == "shuffled"}
    order = {name: known[name] for name in _OF_PREPROCESS if name in known and matters[name]}
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
