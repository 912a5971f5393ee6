"""Columns of bags, from raw rows to a trained model: several tokens in a field, up to L of which are kept."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_preprocess import LENIENT, check, files_of, write_days

from dlrm_lib.baselines import gradient_boosting, logistic_regression
from dlrm_lib.columns import CategoricalColumn, NumericalColumn, RawColumns
from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import bags, preprocess
from dlrm_lib.preprocess.forms import form_of
from dlrm_lib.preprocess.parquet import Parquet
from dlrm_lib.preprocess.rows import REASONS
from dlrm_lib.training import build, evaluate, fit, load_checkpoint, save_checkpoint

COLUMNS = RawColumns(
    numbers=(NumericalColumn(name="age"),),
    tokens=(
        CategoricalColumn(name="shop"),
        CategoricalColumn(name="pages", most=3),
        CategoricalColumn(name="words", most=2, separator=" "),
    ),
)
FIELDS = ["", "|", "||", "a", "a|b", "|a||b|", "a|a|a", "c|b|a|d", "d|c|b|a|e", "long-token-1|b", "é|€uro|long-token-1"]
WORDS = ["", " ", "x", "x y", "  x  z ", "y x z", "a|b x", "nul\0 x", "rare%d x"]


pytestmark = pytest.mark.usefixtures("two_tasks")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days in which a click has to do with a page."""
    rng = random.Random(3)
    days = []
    for _ in range(3):
        lines = []
        for i in range(200):
            pages, words = rng.choice(FIELDS), rng.choice(WORDS).replace("%d", str(i))
            label = int(rng.random() < (0.8 if "b" in pages.split("|")[:3] else 0.2))
            lines.append(f"{label}\t{rng.randrange(90)}\ts{rng.randrange(9)}\t{pages}\t{words}\n")
        days.append("".join(lines).encode())
    return write_days(tmp_path_factory.mktemp("bags") / "raw", *days)


@pytest.fixture(scope="module")
def encoded(raw: Path) -> EncodedDataset:
    preprocess(raw, raw.parent / "encoded", LENIENT, columns=COLUMNS)
    return EncodedDataset(raw.parent / "encoded")


@pytest.mark.parametrize(
    "changes", [{}, {"order": "input", "separate_missing": True}, {"vocabulary_days": "all", "frequency_limit": 1}]
)
def test_every_byte_is_the_oracles(raw: Path, tmp_path: Path, changes: dict) -> None:
    check(raw, tmp_path / "encoded", dataclasses.replace(LENIENT, **changes), COLUMNS)


def test_the_cut_may_lie_anywhere(raw: Path, encoded: EncodedDataset, tmp_path: Path) -> None:
    preprocess(raw, tmp_path / "many", LENIENT, columns=COLUMNS, partitions=9)
    assert files_of(tmp_path / "many") == files_of(encoded.folder)


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_lists_in_parquet_give_the_bytes_of_text(raw: Path, encoded: EncodedDataset, tmp_path: Path, kind: Any) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    for path in sorted(raw.glob("day_*")):
        fields = [line.split("\t") for line in path.read_text().splitlines()]
        label, age, shop, pages, words = zip(*fields, strict=True)
        apart = [None if page == "" else page.split("|") for page in pages]  # with empty tokens between separators
        table = {"words": words, "pages": pa.array(apart, kind(pa.string())), "shop": shop, "age": age, "label": label}
        pq.write_table(pa.table(table), folder / f"{path.name}.parquet", row_group_size=90)
    preprocess(folder, tmp_path / "encoded", LENIENT, columns=COLUMNS)
    found, expected = files_of(tmp_path / "encoded"), files_of(encoded.folder)
    for name in ("manifest.json", "quarantine/rejected.tsv"):  # which name the raw files
        found.pop(name), expected.pop(name)
    assert found == expected
    assert EncodedDataset(tmp_path / "encoded").manifest.cut == encoded.manifest.cut


def test_lists_of_rejected_rows_and_of_integers(tmp_path: Path) -> None:
    """A row that is rejected takes its tokens along; one bad token rejects its row."""
    lists = pa.array([[1, 2], [3, None, 2], None, [], [2, 2, 2, 2], [5]], pa.list_(pa.int32()))
    words = pa.array([[b"x"], [b"y"], [], [b"\xff", b"x"], [b"x", b"y", b"z"], None], pa.list_(pa.binary()))
    table = pa.table({"label": [0, 7, 1, 0, 1, 0], "age": [1] * 6, "shop": ["a"] * 6, "pages": lists, "words": words})
    pq.write_table(table, tmp_path / "log.parquet")
    (rows,) = Parquet().read(tmp_path / "log.parquet", 0, 1, COLUMNS)
    assert [(each.line, REASONS[each.reason]) for each in rows.bad] == [(1, "label is not 0 or 1"), (3, "not UTF-8")]
    assert rows.label.tolist() == [False, True, True, False]
    found = []
    for column, most in ((1, 3), (2, 2)):
        kept = bags.gathered(*rows.lists[column], most)
        tokens = kept.tokens.strings().to_pylist()
        found.append((list(zip(kept.row.tolist(), kept.place.tolist(), tokens, strict=True)), kept.cut))
    assert found[0] == ([(0, 0, "1"), (0, 1, "2"), (2, 0, "2"), (2, 1, "2"), (2, 2, "2"), (3, 0, "5")], 1)
    assert found[1] == ([(0, 0, "x"), (2, 0, "x"), (2, 1, "y")], 1)


@pytest.mark.parametrize("most", [1, 2])
def test_lists_are_read_where_bags_are_declared(tmp_path: Path, most: int) -> None:
    pq.write_table(pa.table({"label": [0, 1], "pages": [["a"], ["b", "c"]]}), tmp_path / "log.parquet")
    columns = RawColumns(tokens=(CategoricalColumn(name="pages", most=most),))
    if most > 1:
        assert isinstance(form_of(tmp_path / "log.parquet", columns), Parquet)
        return
    with pytest.raises(InputError, match="column 'pages' has values of a type that is not read") as caught:
        form_of(tmp_path / "log.parquet", columns)
    assert "feature_spec: {pages: {most: 5}}" in str(caught.value)


def test_many_values_take_four_bytes(tmp_path: Path) -> None:
    """A part's codes outgrow two bytes within the file."""
    lines = "".join(f"{i % 2}\t1\ts\t{3 * i}|{3 * i + 1}|{3 * i + 2}\tw\n" for i in range(40_000)).encode()
    (tmp_path / "rows.tsv").write_bytes(lines)
    config = dataclasses.replace(LENIENT, frequency_limit=1, order="input", holdout_fraction=0.5)
    preprocess(tmp_path / "rows.tsv", tmp_path / "encoded", config, columns=COLUMNS)
    dataset = EncodedDataset(tmp_path / "encoded")
    assert dataset.spec.cardinalities == (2, 60_001, 2)
    # Of equal counts, ids go by the bytes of the text.
    place = {text: i for i, text in enumerate(sorted(map(str, range(60_000))), 1)}
    assert dataset.train.categorical[1][:, :].tolist() == [
        [place[str(3 * i + k)] for k in range(3)] for i in range(20_000)
    ]


def test_rows_that_were_cut_are_counted_and_told(raw: Path, encoded: EncodedDataset, tmp_path: Path) -> None:
    said: list[str] = []
    manifest = preprocess(raw, tmp_path / "encoded", LENIENT, columns=COLUMNS, announce=said.append)
    assert set(manifest.cut) == {"pages", "words"}
    assert any(f"pages has more than 3 tokens in {manifest.cut['pages']:,} rows" in sentence for sentence in said)


def bags_of(dataset: EncodedDataset, rows: np.ndarray) -> list[list[list[int]]]:
    """The ids of some training rows, column by column, without what fills them up; from the files."""
    folder, spec = dataset.folder / "train", dataset.spec
    columns = []
    for j, most in enumerate((1, 3, 2)):
        ids = np.fromfile(folder / f"cat_{j}.bin", np.int8).reshape(-1, most)[rows]
        columns.append([[i for i in bag if i < spec.cardinalities[j]] for bag in ids.tolist()])
    return [list(bags) for bags in zip(*columns, strict=True)]


@pytest.mark.parametrize("compiler", [True, False])
def test_batches_hold_bags(encoded: EncodedDataset, compiler: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    split = EncodedDataset(encoded.folder).train
    if not compiler:
        split.__dict__["_take"] = None
    for rows in (np.arange(7, 57), np.array([0, 399, 5, 5, 17])):
        batch = split.gather(slice(7, 57) if len(rows) == 50 else rows)
        assert batch.categorical.shape == (len(rows), 3, 3)
        assert batch.categorical.dtype == torch.int32
        found = [
            [[i for i in bag if i < encoded.spec.cardinalities[j]] for j, bag in enumerate(row)]
            for row in batch.categorical.tolist()
        ]
        assert found == bags_of(encoded, rows)
        filled = batch.categorical.amax((0, 2)).tolist()
        assert filled == list(encoded.spec.cardinalities)  # single ids are filled up too


def test_an_id_beyond_the_fill_is_named_with_its_column(encoded: EncodedDataset, tmp_path: Path) -> None:
    dataset = EncodedDataset(encoded.folder)
    ids = np.array(dataset.train.categorical[1])
    ids[5, 1] = dataset.spec.cardinalities[1] + 1
    dataset.train.categorical[1] = ids
    with pytest.raises(InputError, match=r"cat_1\.bin, row 5, column pages: the id is outside"):
        dataset.train.read(0, 20)


def test_a_model_is_trained_kept_and_used_again(encoded: EncodedDataset, tmp_path: Path) -> None:
    config = Config.from_preset("smoke", {"epochs": 30, "batch_size": 50, "device": "cpu", "seed": 1})
    training = build(config, encoded)
    assert training.model.tables.indices_per_lookup == 3
    for _ in fit(training):
        pass
    tested = evaluate(training.inference, encoded.test, batch_size=32)
    assert tested.auc > 0.7
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, training, metrics={})
    model, _ = load_checkpoint(path, encoded)
    again = evaluate(training.backend.inference(model, "fp32", "eager"), encoded.test, batch_size=32)
    assert again.auc == pytest.approx(tested.auc, abs=1e-6)


def test_a_bag_means_the_sum_of_its_vectors(encoded: EncodedDataset) -> None:
    training = build(Config.from_preset("smoke", {"device": "cpu"}), encoded)
    tables, rows = training.model.tables, np.arange(40)
    vectors = tables(encoded.train.gather(rows).categorical)
    weight = tables.weight.double()
    for row, in_row in enumerate(bags_of(encoded, rows)):
        for column, bag in enumerate(in_row):
            expected = sum(weight[int(tables.offsets[column]) + i] for i in bag)
            assert torch.allclose(vectors[row, column].double(), expected, atol=1e-6)


def test_more_tokens_in_a_row_are_other_inputs(raw: Path, encoded: EncodedDataset, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, build(Config.from_preset("smoke", {"device": "cpu"}), encoded), metrics={})
    more = dataclasses.replace(COLUMNS.tokens[1], most=4)
    columns = dataclasses.replace(COLUMNS, tokens=(COLUMNS.tokens[0], more, COLUMNS.tokens[2]))
    preprocess(raw, tmp_path / "encoded", LENIENT, columns=columns)
    with pytest.raises(InputError, match="3 then, 4 now"):
        load_checkpoint(path, EncodedDataset(tmp_path / "encoded"))


def test_baselines_see_every_token(encoded: EncodedDataset) -> None:
    """A page that clicks go with is found wherever it stands in its bag."""
    clicked = np.asarray(encoded.test.label)
    for baseline in (logistic_regression, gradient_boosting):
        probability = baseline(encoded)
        assert probability[clicked].mean() > probability[~clicked].mean() + 0.2


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("most: 0", "0"),
        ("most: two", "'two'"),
        ("separator: ab", "'ab'"),
        ('separator: "\\t"', "'\\\\t'"),
        ("separator: é", "'é'"),
    ],
)
def test_a_bag_that_cannot_be_is_refused_by_name(tmp_path: Path, said: str, found: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"channel_spec: {{categorical: [pages]}}\nfeature_spec: {{pages: {{{said}}}}}\n")
    with pytest.raises(InputError, match=f"Column 'pages': [^\n]*\n  found: {found}"):
        RawColumns.read(path)
