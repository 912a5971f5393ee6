"""Rows of later days, encoded with the ids of an earlier data set: against the oracle over three generations."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import oracle_preprocess as oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_preprocess import (
    DAY_0,
    DAY_1,
    DAY_2,
    GOOD,
    LENIENT,
    NUMBERS,
    SMALL,
    check,
    files_of,
    line_of_numbers,
    stop_at,
    text_of_error,
    write_days,
)

from dlrm_lib.__main__ import main
from dlrm_lib.columns import CategoricalColumn, LabelColumn, NumericalColumn, RawColumns
from dlrm_lib.config import PreprocessConfig, digest
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.preprocess import ancestor, pipeline, preprocess, rare
from dlrm_lib.preprocess.ancestor import inherited
from dlrm_lib.preprocess.tokens import Tokens

NAMED = RawColumns(
    label=LabelColumn(name="clicked"),
    numbers=(NumericalColumn(name="price"), NumericalColumn(name="age")),
    tokens=tuple(CategoricalColumn(name=name) for name in ("shop", "page", "user")),
)
LIMITED = dataclasses.replace(LENIENT, frequency_limit=3)


pytestmark = pytest.mark.usefixtures("two_tasks")


def random_day(seed: int, rows: int = 300) -> bytes:
    """Rows whose tokens are few or many, short or long, and drift from day to day."""
    rng = random.Random(seed)

    def tokens() -> Iterator[str]:
        yield rng.choice(["", "a", "b", f"day {seed}"])
        yield f"{int(rng.paretovariate(0.7)) + 3 * seed:08x}"
        yield rng.choice(["", f"a long token {int(rng.paretovariate(0.9))}", "nul\0", "é" * rng.randrange(5)])

    return b"".join("\t".join([rng.choice("01"), "1", "", *tokens()]).encode() + b"\n" for _ in range(rows))


def ids_of(expected: oracle.Expected) -> list[dict[str, int]]:
    return [{value: number for value, _, number in vocabulary} for vocabulary in expected.vocabularies]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, oracle.Expected]:
    """An encoded data set of two days, and what the oracle says it is."""
    folder = tmp_path_factory.mktemp("first")
    source = write_days(folder / "raw", random_day(0), random_day(1))
    return folder / "encoded", check(source, folder / "encoded", LIMITED)


@pytest.mark.parametrize(
    ("modes", "separate"), [((True, True), True), ((False, True), False), ((True, False), True)], ids=str
)
def test_three_generations_are_the_oracles(tmp_path: Path, modes: tuple[bool, bool], separate: bool) -> None:
    """Extended twice, frozen then extended, extended then frozen; from a file, and from days that do not begin at 0."""
    config = dataclasses.replace(LIMITED, separate_missing=separate, frequency_limit="3,shop:1")
    raw = write_days(tmp_path / "raw", DAY_0 + DAY_1, random_day(0), random_day(1))
    generations = [check(raw, tmp_path / "0", config, NAMED)]
    sources = [tmp_path / "day.tsv", write_days(tmp_path / "later", b"", b"", b"", random_day(3), DAY_1 + DAY_2)]
    sources[0].write_bytes(random_day(2) + DAY_2 + b"\n")
    for day in range(3):
        (sources[1] / f"day_{day}").unlink()
    for number, (source, extend) in enumerate(zip(sources, modes, strict=True), start=1):
        earlier = tmp_path / str(number - 1)
        later = check(source, tmp_path / str(number), config, NAMED, generations[-1], vocabulary=earlier, extend=extend)
        for before, after in zip(ids_of(generations[-1]), ids_of(later), strict=True):
            assert before == {value: after[value] for value in before}
        generations.append(later)
        manifest, ancestors = Manifest.read(tmp_path / str(number)), range(number)
        assert manifest.lineage == [Manifest.read(tmp_path / str(of)).ancestor for of in ancestors]
        assert (manifest.vocabulary == manifest.lineage[-1]["vocabulary"]) == (not extend)
    grown = [sum(map(len, generation.vocabularies)) for generation in generations]
    assert [after > before for before, after in itertools.pairwise(grown)] == list(modes)
    dataset = EncodedDataset(tmp_path / "2")
    assert dataset.spec.missing_id == separate
    for column, vocabulary in enumerate(generations[-1].vocabularies):
        known = dataset.vocabulary(NAMED.categorical_names[column])
        assert [(known.value(i), known.counts[i], i) for i in range(1, len(known))] == vocabulary
        assert known.ids(["", "never seen"]).tolist() == [separate, 0]


def test_one_step_and_two_give_ids_to_the_same_values(first: tuple[Path, oracle.Expected], tmp_path: Path) -> None:
    """As many rows are counted, so as many reach the limit; only the order of the new ids is that of the steps."""
    encoded, expected = first
    none_held_out = dataclasses.replace(LIMITED, holdout_fraction=0.0)
    days = [random_day(2), random_day(3)]
    for name, text in zip(("a", "b", "both"), (*days, b"".join(days)), strict=True):
        (tmp_path / name).write_bytes(text)
    run = partial(check, config=none_held_out, extend=True)
    middle = run(tmp_path / "a", tmp_path / "1", earlier=expected, vocabulary=encoded)
    said: list[str] = []
    preprocess(tmp_path / "a", tmp_path / "again", none_held_out, vocabulary=tmp_path / "1", announce=said.append)
    assert said[-1] == "a was counted for this vocabulary before: now its values count twice"
    two = run(tmp_path / "b", tmp_path / "2", earlier=middle, vocabulary=tmp_path / "1")
    one = run(tmp_path / "both", tmp_path / "once", earlier=expected, vocabulary=encoded)
    for column in range(3):
        assert Counter(dict(v[:2] for v in one.vocabularies[column])) == dict(v[:2] for v in two.vocabularies[column])
        names = f"vocabulary/rare/cat_{column}.parquet", f"vocabulary/cat_{column}.parquet"
        same, other = ([(tmp_path / of / name).read_bytes() for of in ("once", "2")] for name in names)
        assert same[0] == same[1]
        assert column == 0 or other[0] != other[1]


def test_bytes_do_not_depend_on_partitions_or_shares(
    first: tuple[Path, oracle.Expected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, earlier = first
    source = write_days(tmp_path / "raw", random_day(2, 600), random_day(3))
    for extend, others in ((True, [(5, 1 << 23), (3, 40), (7, 11)]), (False, [(5, 40)])):
        options = {"vocabulary": encoded, "extend": extend}
        check(source, tmp_path / "out", LIMITED, earlier=earlier, partitions=1, **options)
        expected = files_of(tmp_path / "out")
        for partitions, tokens in others:
            with monkeypatch.context() as patch:
                patch.setattr(pipeline, "Job", partial(pipeline.Job, part_rows=50, bin_tokens=tokens))
                preprocess(source, tmp_path / "out", LIMITED, partitions=partitions, **options)
            assert files_of(tmp_path / "out") == expected


def test_values_without_an_id_are_written_in_one_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order and number of shares, in row groups of one size; texts of equal hash in that of their bytes."""
    monkeypatch.setattr(rare, "_GROUP_ROWS", 7)
    rng = random.Random(0)
    twins = [b"8yn0iYCKYHlIj4-BwPqk", b"GReLUrM4wMqfg9yzV3KQ"]
    texts = [*twins, *(b"%d" % 7**i for i in range(40))]
    counts = {text: i for i, text in enumerate(texts)}
    written = set()
    for shares in (1, 2, 3, 8):
        rng.shuffle(texts)
        tokens, cut = Tokens.of(texts), []
        for number in range(shares):
            of_share = [t for t, h in zip(texts, tokens.hashes().tolist(), strict=True) if h * shares >> 64 == number]
            cut.append((Tokens.of(of_share), np.array([counts[text] for text in of_share], np.int64)))
        rare.write_rare(tmp_path / "rare", cut)
        written.add((tmp_path / "rare").read_bytes())
    assert len(written) == 1
    table = pq.read_table(tmp_path / "rare")
    assert dict(zip(table["value"].to_pylist(), table["count"].to_pylist(), strict=True)) == {
        text.decode(): count for text, count in counts.items()
    }
    assert [pq.ParquetFile(tmp_path / "rare").metadata.row_group(i).num_rows for i in range(6)] == [7] * 6
    rare.write_rare(tmp_path / "none", [(Tokens.of([]), np.zeros(0, np.int64))])
    assert pq.read_table(tmp_path / "none").schema == pq.read_table(tmp_path / "rare").schema


def test_what_is_known_is_read_in_batches(first: tuple[Path, oracle.Expected], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ancestor, "_BATCH_ROWS", 4)
    encoded, expected = first
    before = ancestor.Ancestor.open(encoded, extend=True)
    for column in range(3):
        found = list(before.known(column))
        assert max(len(known.counts) for known in found) <= 4
        rows = [
            row
            for known in found
            for row in zip(known.tokens.strings().to_pylist(), known.counts, known.ids, strict=True)
        ]
        assert rows[: len(expected.vocabularies[column])] == expected.vocabularies[column]
        rest = rows[len(expected.vocabularies[column]) :]
        assert sorted(rest) == sorted((value, count, 0) for value, count in expected.rare[column].items())
        assert before.sizes[column] == len(rows)
        assert not any(known.missing for known in found)


def test_tokens_come_back_from_their_texts() -> None:
    texts = ["", "short", "12345678", "123456789", "nul\0", "é😀", "a" * 300]
    strings = pa.array(["left out", *texts], pa.large_string()).slice(1)
    tokens = Tokens.of_strings(strings)
    assert tokens.strings().to_pylist() == texts
    assert tokens.hashes().tolist() == Tokens.of([text.encode() for text in texts]).hashes().tolist()
    assert Tokens.of_strings(strings.slice(2, 3)).strings().to_pylist() == texts[2:5]
    assert len(Tokens.of_strings(pa.array([], pa.large_string())).keys) == 0


@pytest.mark.parametrize("phase", ["counting", "encoding"])
def test_a_run_that_was_interrupted_goes_on_unless_the_vocabulary_changed(
    first: tuple[Path, oracle.Expected], tmp_path: Path, phase: str
) -> None:
    encoded, earlier = first
    encoded = Path(shutil.copytree(encoded, tmp_path / "encoded"))
    (tmp_path / "day").write_bytes(random_day(2))
    options = {"vocabulary": encoded, "extend": True}
    expected = earlier
    for number, changed in enumerate((False, True)):
        output, said = tmp_path / str(number), []
        with pytest.raises(KeyboardInterrupt):
            preprocess(tmp_path / "day", output, LIMITED, progress=stop_at(phase), **options)
        if changed:  # a later vocabulary at the same place: that of the run before
            shutil.rmtree(encoded)
            encoded = Path(shutil.copytree(tmp_path / "0", encoded))
            earlier = expected
        expected = check(tmp_path / "day", output, LIMITED, earlier=earlier, announce=said.append, **options)
        assert sum("going on" in sentence for sentence in said) == (not changed)
        assert sum("removed" in sentence for sentence in said) == changed


def test_a_run_goes_on_only_with_the_counts_that_it_began_with(
    first: tuple[Path, oracle.Expected], tmp_path: Path
) -> None:
    """The manifest does not tell of those without an id."""
    encoded = Path(shutil.copytree(first[0], tmp_path / "encoded"))
    identities = set()
    for extend in (True, False):
        before = ancestor.Ancestor.open(encoded, extend=extend)
        identities.add(pipeline._identity([], SMALL, LIMITED, None, before))
    shutil.copy(before.files[-2], before.files[-1])
    identities.add(pipeline._identity([], SMALL, LIMITED, None, before))
    assert len(identities | {pipeline._identity([], SMALL, LIMITED, None, None)}) == 4


def test_an_earlier_version_s_data_set_can_be_taken_over_frozen(
    first: tuple[Path, oracle.Expected], tmp_path: Path
) -> None:
    """It has no counts of rare values, no hashes of columns, no missing_id and no lineage."""
    encoded = Path(shutil.copytree(first[0], tmp_path / "encoded"))
    shutil.rmtree(encoded / "vocabulary" / "rare")
    document = json.loads((encoded / "manifest.json").read_text())
    document["vocabularies"] = []
    del document["lineage"], document["config"]["separate_missing"]
    document["hashes"]["config"] = digest(document["config"])
    (encoded / "manifest.json").write_text(json.dumps(document))
    (tmp_path / "day").write_bytes(random_day(2))
    text = text_of_error(tmp_path / "day", tmp_path / "out", LIMITED, None, vocabulary=encoded, extend=True)
    assert f"{encoded} cannot be extended: it keeps no counts of the values that have no id yet" in text
    assert "Leave out --extend" in text
    assert len(text.splitlines()) == 3
    preprocess(tmp_path / "day", tmp_path / "out", LIMITED, vocabulary=encoded)
    preprocess(tmp_path / "day", tmp_path / "expected", LIMITED, vocabulary=first[0])
    found, expected = files_of(tmp_path / "out"), files_of(tmp_path / "expected")
    assert Manifest.read(tmp_path / "out").vocabularies == Manifest.read(first[0]).vocabularies
    del found["manifest.json"], expected["manifest.json"]
    rare_files = {f"vocabulary/rare/cat_{column}.parquet" for column in range(3)}
    assert found == {name: content for name, content in expected.items() if name not in rare_files}
    # Nor can what follows it be extended, for a part of the counts is not known.
    text = text_of_error(tmp_path / "day", tmp_path / "no", LIMITED, None, vocabulary=tmp_path / "out", extend=True)
    assert "cannot be extended" in text
    assert not (tmp_path / "no").exists()


def lost(folder: Path) -> None:
    (folder / "vocabulary" / "cat_1.parquet").unlink()


def shorter(folder: Path) -> None:
    path = folder / "vocabulary" / "cat_1.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


def other_order(folder: Path) -> None:
    path = folder / "vocabulary" / "cat_1.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "value", pa.chunked_array([table["value"].to_pylist()[::-1]])), path)


def no_parquet(folder: Path) -> None:
    (folder / "vocabulary" / "rare" / "cat_2.parquet").write_text("counts")


def other_spec(folder: Path) -> None:
    path = folder / "feature_spec.yaml"
    dataclasses.replace(FeatureSpec.read(path), cardinalities=(2, 3, 4)).write(path)


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lost, "cat_1.parquet cannot be read.\n  found: no such file"),
        (shorter, "cat_1.parquet does not fit the manifest.\n  found: "),
        (other_order, "cat_1.parquet does not fit the manifest.\n  found: other values, or in another order"),
        (no_parquet, "rare/cat_2.parquet cannot be read.\n  found: Parquet"),
        (other_spec, "feature_spec.yaml does not fit the manifest.\n  found: cardinalities [2, 3, 4]"),
        (no_manifest, "encoded holds no finished data set.\n  found: no manifest.json"),
    ],
)
def test_a_vocabulary_that_is_none_is_named(
    first: tuple[Path, oracle.Expected], tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    encoded = Path(shutil.copytree(first[0], tmp_path / "encoded"))
    spoil(encoded)
    (tmp_path / "day").write_bytes(random_day(2))
    text = text_of_error(tmp_path / "day", tmp_path / "out", LIMITED, None, vocabulary=encoded, extend=True)
    assert said in text
    assert len(text.splitlines()) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day", "encoded"]


def test_what_does_not_go_with_a_vocabulary_is_refused(first: tuple[Path, oracle.Expected], tmp_path: Path) -> None:
    encoded, _ = first
    (tmp_path / "day").write_bytes(GOOD * 20)
    run = partial(text_of_error, tmp_path / "day", vocabulary=encoded)
    assert "encoded cannot be the output" in run(encoded, LIMITED, None)
    (tmp_path / "link").symlink_to(encoded)
    assert "encoded cannot be the output" in run(tmp_path / "link", LIMITED, None)
    text = run(tmp_path / "out", LIMITED, RawColumns.unnamed(numerical=1, categorical=4))
    assert "other columns than those of" in text
    assert "found: numerical column 1, counted from 0: none, and there num_1" in text
    text = run(tmp_path / "out", LIMITED, NAMED)
    assert "found: numerical column 0, counted from 0: price, and there num_0" in text
    for name, other in (("frequency_limit", 4), ("numeric_rule", "log_x_plus_3"), ("separate_missing", True)):
        text = run(tmp_path / "out", dataclasses.replace(LIMITED, **{name: other}), SMALL)
        assert f"--{name} is decided by the data set" in text
        assert f"found: {other}, and {getattr(LIMITED, name)} there" in text
    assert "--extend needs a vocabulary" in text_of_error(tmp_path / "day", tmp_path / "out", LIMITED, extend=True)
    assert [path.name for path in tmp_path.iterdir()] == ["day", "link"]


def test_settings_are_those_of_the_data_set_unless_given(first: tuple[Path, oracle.Expected]) -> None:
    manifest = Manifest.read(first[0])
    other = PreprocessConfig(frequency_limit=None, numeric_rule="log_x_plus_3", order="input")
    assert inherited(other, manifest, ["order", "frequency_limit"]) == dataclasses.replace(
        other, frequency_limit=3, numeric_rule="log_x_plus_2"
    )
    with pytest.raises(InputError, match="--numeric_rule is decided by"):
        inherited(other, manifest, ["numeric_rule"])


def test_the_command_takes_over_settings_and_columns(
    first: tuple[Path, oracle.Expected], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Its preset has another numeric rule and leaves the limit open; a limit on the command line is not replaced."""
    encoded, earlier = first
    (tmp_path / "day").write_bytes(random_day(2))
    line = ["preprocess", f"--input={tmp_path / 'day'}", f"--output={tmp_path / 'out'}", f"--vocabulary={encoded}"]
    assert main([*line, "--frequency_limit=5"]) == 2
    assert "found: 5, and 3 there" in capsys.readouterr().err
    assert main([*line[:3], "--extend"]) == 2
    assert "Add --vocabulary ENCODED" in capsys.readouterr().err
    assert main([*line, "--extend", "--frequency_limit=3", "--max_bad_fraction=0.9"]) == 0
    said = capsys.readouterr().out
    new = sum(Manifest.read(tmp_path / "out").cardinalities) - sum(Manifest.read(encoded).cardinalities)
    assert new > 0
    assert f"   new ids: {new:,}; the others mean what they do in {encoded}\n" in said
    check(tmp_path / "day", tmp_path / "expected", LIMITED, earlier=earlier, vocabulary=encoded, extend=True)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "expected")


def test_what_was_learned_of_numbers_stays(tmp_path: Path) -> None:
    """Bins are those of all rows of the first set, though only a share of them stays; the command needs no spec."""
    rng = random.Random(4)
    config = dataclasses.replace(LENIENT, negative_rate=0.5, max_bad_fraction=0.5)
    for day, shift in enumerate((b"", b"9")):
        lines = (line_of_numbers(rng).split(b"\t") for _ in range(300))
        (tmp_path / f"{day}.tsv").write_bytes(
            b"".join(b"\t".join([*line[:3], shift + line[3], *line[4:]]) for line in lines)
        )
    first = check(tmp_path / "0.tsv", tmp_path / "first", config, NUMBERS)
    later = check(
        tmp_path / "1.tsv", tmp_path / "later", config, NUMBERS, first, vocabulary=tmp_path / "first", extend=True
    )
    rules = EncodedDataset(tmp_path / "first").spec.numeric_rules
    assert EncodedDataset(tmp_path / "later").spec.numeric_rules == rules
    assert later.learned == first.learned != check(tmp_path / "1.tsv", tmp_path / "new", config, NUMBERS).learned
    flags = [f"--vocabulary={tmp_path / 'first'}", "--extend", "--negative_rate=0.5", "--max_bad_fraction=0.5"]
    assert main(["preprocess", f"--input={tmp_path / '1.tsv'}", f"--output={tmp_path / 'command'}", *flags]) == 0
    assert files_of(tmp_path / "command") == files_of(tmp_path / "later")
    bins = tuple(dataclasses.replace(of, bins=8) if of.name == "age" else of for of in NUMBERS.numbers)
    with pytest.raises(
        InputError, match=r"'age' would mean .*\n  found: type: integer, rule: quantile, bins: 8, and there"
    ):
        preprocess(
            tmp_path / "1.tsv",
            tmp_path / "other",
            config,
            columns=dataclasses.replace(NUMBERS, numbers=bins),
            vocabulary=tmp_path / "first",
        )
