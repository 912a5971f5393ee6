"""The names of a log's columns, from the raw rows to what is said of a model: limits, remarks, errors, checkpoints."""

from __future__ import annotations

import dataclasses
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import oracle_preprocess as oracle
import pytest
import yaml

from dlrm_lib.__main__ import main
from dlrm_lib.columns import CategoricalColumn, NumericalColumn, RawColumns
from dlrm_lib.config import Config, PreprocessConfig
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.preprocess.diagnosis import fault
from dlrm_lib.preprocess.text import PlainLines
from dlrm_lib.raw_rows import read_raw
from dlrm_lib.training import identity, load_checkpoint
from dlrm_lib.training.tensor_file import open_tensors, write_tensors
from dlrm_lib.workspace import Workspace

COLUMNS = RawColumns(
    numbers=(NumericalColumn(name="price"), NumericalColumn(name="part")),
    tokens=tuple(CategoricalColumn(name=name) for name in ("shop", "page: a, b", "user")),
)
SPEC = {"channel_spec": {"numerical": ["price", "part"], "categorical": ["shop", "page: a, b", "user"]}}
LIMITS = "3,page: a, b:1"


def rows() -> Iterator[bytes]:
    chance = random.Random(3)
    for number in range(700):
        shop, page = f"s{chance.randrange(6)}", f"p{chance.randrange(40) ** 2}"
        click = chance.random() < 0.2 + 0.1 * (shop < "s3")
        yield f"{click:d}\t{chance.randrange(900)}\t{chance.choice(['', '4'])}\t{shop}\t{page}\tu{number}\n".encode()


pytestmark = pytest.mark.usefixtures("two_tasks")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose columns have names, encoded; and a model of it."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "log.tsv").write_bytes(b"".join(rows()))
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    flags = [f"--input={folder / 'log.tsv'}", f"--feature_spec={folder / 'spec.yaml'}", f"--frequency_limit={LIMITS}"]
    assert main(["preprocess", *flags, f"--output={folder / 'encoded'}"]) == 0
    assert main(["train", "--preset=smoke", *of(folder), f"--save_checkpoint_path={folder / 'm.safetensors'}"]) == 0
    return folder


def of(folder: Path, data: str = "encoded") -> list[str]:
    return [f"--dataset={folder / data}", f"--log_path={folder / 'log.json'}"]


def called(work: Path, folder: Path, **names: str) -> Path:
    """The data set with other names, without encoding it again."""
    shutil.copytree(work / "encoded", folder)
    spec = FeatureSpec.read(folder / "feature_spec.yaml")
    kinds = {
        kind: tuple(dataclasses.replace(column, name=names.get(column.name, column.name)) for column in columns)
        for kind, columns in (("numbers", spec.columns.numbers), ("tokens", spec.columns.tokens))
    }
    dataclasses.replace(spec, raw_columns=RawColumns(**kinds)).write(folder / "feature_spec.yaml")
    return folder


def test_limits_by_name_are_those_of_the_oracle(work: Path) -> None:
    manifest = Manifest.read(work / "encoded")
    by_number = PreprocessConfig(frequency_limit="3,1:1", numeric_rule=manifest.config["numeric_rule"])
    expected = oracle.encode([work / "log.tsv"], by_number, COLUMNS)
    for name, content in expected.files.items():
        assert (work / "encoded" / name).read_bytes() == content, name
    assert manifest.config["frequency_limit"] == LIMITS
    assert list(manifest.columns) == [*COLUMNS.numerical_names, *COLUMNS.categorical_names]
    assert expected.manifest["cardinalities"] == manifest.cardinalities


def test_what_is_said_of_a_column_names_it(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = [f"--input={work / 'log.tsv'}", f"--feature_spec={work / 'spec.yaml'}", f"--output={tmp_path / 'out'}"]
    assert main(["preprocess", *flags, "--frequency_limit=3"]) == 0
    assert "remark: user has no value frequent enough for an id of its own" in capsys.readouterr().out
    assert main(["train", "--preset=smoke", "--max_steps=1", *of(tmp_path, "out")]) == 0
    assert "1 of 3 categorical columns (user) tell the model nothing" in capsys.readouterr().err
    assert main(["preprocess", *flags, "--overwrite", "--frequency_limit=3,usr:5"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "--frequency_limit names column usr, but there are 3 categorical columns, and none is that.",
        "  found: 3,usr:5",
        "  remedy: Near it are user.",
    ]
    assert (
        fault(b"1\t2\tx\ta\tb\tc", "not an integer", PlainLines(), COLUMNS) == "not an integer: field 3, part, is 'x'"
    )


def test_bad_values_of_an_encoded_column_name_it(work: Path, tmp_path: Path) -> None:
    folder = called(work, tmp_path / "encoded")
    for path, dtype, place, value, said in (
        ("train/cat_0.bin", "int8", 4, 77, r"cat_0\.bin, row 4, column shop: the id is outside"),
        ("test/numerical.bin", "float16", 7, np.nan, r"numerical\.bin, row 3, column part: the number is not finite"),
    ):
        values = np.fromfile(folder / path, dtype)
        values[place] = value
        values.tofile(folder / path)
        split = getattr(EncodedDataset(folder), path.split("/")[0])
        with pytest.raises(InputError, match=said):
            split.read(0, 20)


def test_a_checkpoint_keeps_the_columns(work: Path, tmp_path: Path) -> None:
    model, _ = load_checkpoint(work / "m.safetensors", EncodedDataset(work / "encoded"))
    assert model.spec.columns == COLUMNS
    with open_tensors(work / "m.safetensors") as file:
        tensors = model.state_dict()
        file.read(tensors)
        about = {name: fact for name, fact in file.about.items() if name != "columns"}
    write_tensors(tmp_path / "old.safetensors", tensors, about)  # as versions wrote it that knew no names
    old, _ = load_checkpoint(tmp_path / "old.safetensors", EncodedDataset(called(work, tmp_path / "new", shop="store")))
    assert not old.spec.columns.named


def test_a_renamed_column_with_the_same_values_is_the_same(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    called(work, tmp_path / "new", shop="store")
    assert main(["test", *of(tmp_path, "new"), f"--load_checkpoint_path={work / 'm.safetensors'}"]) == 0
    assert identity(EncodedDataset(tmp_path / "new")) == identity(EncodedDataset(work / "encoded"))
    assert re.search(r"remark: store has the values of shop, as .*m\.safetensors calls it", capsys.readouterr().err)
    assert main(["test", *of(work), f"--load_checkpoint_path={work / 'm.safetensors'}"]) == 0
    assert "remark: " not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "found", "remedy"),
    [
        (
            {"price": "cost"},
            "numerical column 0, counted from 0: price then, cost now",
            "If cost is price under another name, call it that in the --feature_spec and encode again, or train again.",
        ),
        (
            {"price": "part", "part": "price"},
            "numerical column 0, counted from 0: price then, part now; the columns are in another order",
            "Encode the rows with a --feature_spec that lists the columns in their order of then, or train again.",
        ),
        (
            {"shop": "user", "user": "shop"},
            "categorical column 0, counted from 0: shop then, user now; the columns are in another order",
            "Encode the rows with a --feature_spec that lists the columns in their order of then, or train again.",
        ),
    ],
)
def test_other_columns_are_refused_by_name(
    work: Path, tmp_path: Path, names: dict[str, str], found: str, remedy: str
) -> None:
    other = EncodedDataset(called(work, tmp_path / "other", **names))
    with pytest.raises(InputError) as error:
        load_checkpoint(work / "m.safetensors", other)
    assert str(error.value).splitlines()[1:] == [f"  found: {found}", f"  remedy: {remedy}"]


def test_another_column_in_the_place_of_one_is_refused_by_name(work: Path, tmp_path: Path) -> None:
    folder = called(work, tmp_path / "other", shop="store")
    manifest = Manifest.read(folder)
    others = dataclasses.replace(manifest, vocabularies=["0", *manifest.vocabularies[1:]], vocabulary="0")
    others.write(folder)
    with pytest.raises(InputError, match="categorical column 0, counted from 0: shop then, store now\n"):
        load_checkpoint(work / "m.safetensors", EncodedDataset(folder))


def test_a_table_of_raw_rows_has_the_names(work: Path) -> None:
    table = read_raw(work / "log.tsv", 9, columns=COLUMNS)
    assert list(table) == ["part", "label", "price", "part (column)", "shop", "page: a, b", "user"]


def test_a_workspace_encodes_anew_for_other_names(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = Config.from_preset("smoke", {"frequency_limit": LIMITS})
    for names, anew in ((COLUMNS.categorical_names, True), (COLUMNS.categorical_names, False), (("a", "b", "c"), True)):
        said = {"channel_spec": {**SPEC["channel_spec"], "categorical": list(names)}}
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(said))
        config = config if "shop" in names else config.override(frequency_limit="3,1:1")
        space = Workspace(tmp_path / "work", config, work / "log.tsv", tmp_path / "spec.yaml")
        assert space.encoded().spec.columns.categorical_names == tuple(names)
        assert ("encoding " in capsys.readouterr().out) == anew


@pytest.mark.parametrize(
    ("setting", "names", "limits"),
    [
        ("15,shop:5", ("shop", "page"), (5, 15)),
        ("15, page:5 ,0:2", ("shop", "page"), (2, 5)),
        ("9,a,b:3,c:d:4", ("a,b", "c:d", "e"), (3, 4, 9)),
        ("9,c:5,d:4", ("c:5,d", "c", "d"), (9, 5, 4)),  # the shortest names that it can mean
        ("9,1:3", ("2", "1", "0"), (9, 3, 9)),  # where numbers are names, a number is a name
        ("9,cat_1:3", ("cat_0", "cat_1"), (9, 3)),
    ],
)
def test_a_limit_may_name_its_column(setting: str, names: tuple[str, ...], limits: tuple[int, ...]) -> None:
    assert PreprocessConfig(frequency_limit=setting).limits(names) == limits


@pytest.mark.parametrize(
    ("setting", "names", "said"),
    [
        ("15,shop:5,0:2", ("shop", "page"), "Name each once"),
        ("15,Shop:5", ("shop", "page"), "names column Shop[\\s\\S]*Near it are shop"),
        ("15,2:5", ("shop", "page"), "names column 2[\\s\\S]*counted from 0"),
        ("15,2:5", ("1", "page"), "names column 2[\\s\\S]*They are 1, page"),
        ("15,price:5", (), "there are 0 categorical columns[\\s\\S]*Leave it out"),
    ],
)
def test_a_limit_that_names_no_column_is_refused(setting: str, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PreprocessConfig(frequency_limit=setting).limits(names)


@pytest.mark.parametrize("setting", ["15,shop", "15,shop:", "15,:5", "15,shop:5,", "15,shop:0", "x,shop:5", "²,a:1"])
def test_what_is_no_limit_is_refused_before_any_column_is_known(setting: str) -> None:
    with pytest.raises(InputError, match="15,shop:5 means 15"):
        PreprocessConfig(frequency_limit=setting)
