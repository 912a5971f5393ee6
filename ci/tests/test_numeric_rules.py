"""The rules of numerical columns and the reading of decimals, against plain Python on every awkward number."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import oracle_numbers as oracle
import pytest
import yaml

from dlrm_lib.columns import NumericalColumn, RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.numeric_rules import FIXED_RULES, LogRule, NumericRule, QuantileRule
from dlrm_lib.preprocess.decimals import MALFORMED, TOO_LARGE, read_decimals
from dlrm_lib.preprocess.learning import settled_rules
from dlrm_lib.preprocess.tokens import Texts


def awkward(most: float) -> list[float]:
    """Numbers of every size, on both sides of each middle between two float16, and of each float16 below one."""
    rng = random.Random(1)
    halves = np.arange(0x7BFF, dtype=np.uint16).view(np.float16).astype(float)
    middles = (halves[1:] + halves[:-1]) / 2
    some = [*rng.sample(middles.tolist(), 4000), *middles[:50].tolist()]  # the first are subnormal
    numbers = [of(x) for x in some for of in (float, lambda x: math.nextafter(x, 0), lambda x: math.nextafter(x, 1e9))]
    numbers += [math.expm1(x) for x in some if x < 700]
    numbers += [0.0, 5e-324, 2.0**-24, 1.5 * 2.0**-24, math.nextafter(1e308, 0), 1.0, 2.0**53 + 1, 9999.999]
    numbers += [math.ldexp(rng.random(), rng.randrange(-1074, 1020)) for _ in range(4000)]
    return [sign * x for x in numbers if x < most for sign in (1, -1)]


@pytest.mark.parametrize("name", FIXED_RULES)
def test_every_number_is_encoded_by_its_formula_and_rounded_once(name: str) -> None:
    rule = FIXED_RULES[name]
    numbers = awkward(10.0**rule.digits)
    encoded = rule.encode(np.array([*numbers, math.nan]))
    assert encoded.dtype == np.float16
    assert np.isfinite(encoded).all()
    assert encoded.tobytes() == b"".join(oracle.float16(x, name, []) for x in [*numbers, None])
    assert encoded[-1] == rule.missing_number
    assert rule.missing_is_zero == (name == "log_x_plus_2")
    if name in ("log", "signed_log", "identity"):  # the older two have missing among the numbers
        assert not (encoded[:-1] == rule.missing_number).any()
    in_order = rule.encode(np.sort(numbers))
    assert (in_order[1:] >= in_order[:-1]).all()


def test_quantiles_are_those_of_the_numbers_they_were_learned_from() -> None:
    rng = random.Random(2)
    for bins in (2, 3, 10, 1000):
        for values in ([7.0], [0.0, 1.0], [*range(5)], [x / 7 for x in range(9000)], [-1e308, 1e308, 5e-324, -0.0]):
            numbers = [rng.choice([*values, None]) for _ in range(rng.choice([1, 30, 5000]))] + [values[0]]
            rule = QuantileRule.learned(np.array([math.nan if x is None else x for x in numbers]), bins)
            edges = oracle.edges(numbers, bins)
            assert list(rule.edges) == edges
            asked = [*values, *(y for x in values for y in (math.nextafter(x, -9e99), math.nextafter(x, 9e99))), 1e309]
            encoded = rule.encode(np.array([*asked, math.nan]))
            assert encoded.tobytes() == b"".join(oracle.float16(x, "quantile", edges) for x in [*asked, None])
            assert ((encoded[:-1] > 0) & (encoded[:-1] < 1)).all()
            assert encoded[-1] == -1


def test_quantiles_of_a_share_are_in_its_middle() -> None:
    """Bins of equal size where values differ; a frequent value has the middle of the rows that have it."""
    rule = QuantileRule.learned(np.arange(1000.0), 10)
    assert np.unique(rule.encode(np.arange(1000.0) + 0.5)).tolist() == (np.arange(0.05, 1, 0.1)).astype("f2").tolist()
    rule = QuantileRule.learned(np.array([0.0] * 600 + [1.0] * 400), 100)
    assert rule.encode(np.array([-1, 0, 0.5, 1, 2])).tolist() == pytest.approx(
        [0.005, 0.3, 0.6, 0.8, 0.995], abs=0.0052
    )
    constant = QuantileRule.learned(np.array([3.0] * 5), 100)
    assert constant.encode(np.array([2.0, 3.0, 4.0])).tolist() == pytest.approx([0.005, 0.5, 0.995], abs=1e-3)
    unseen = QuantileRule.learned(np.full(5, math.nan), 100)
    assert unseen.encode(np.array([2.0, math.nan])).tolist() == [0.5, -1.0]
    finest = QuantileRule.learned(np.arange(1e5), 1000)
    assert len(np.unique(finest.encode(np.arange(1e5) + 0.5))) == 1000  # neighbours are not one float16


def texts(fields: list[str]) -> Texts:
    spelled = [field.encode() for field in fields]
    return Texts.of(np.frombuffer(b"".join(spelled), np.uint8), np.cumsum([0, *map(len, spelled)]))


@pytest.mark.parametrize("rule", ["log", "identity"])
def test_decimals_are_read_as_python_reads_them(rule: str) -> None:
    rng = random.Random(3)
    fields = ["".join(rng.choices("0123456789" * 2 + "..eE--+ x,", k=rng.randrange(9))) for _ in range(30000)]
    doubles = [math.ldexp(rng.uniform(-1, 1), rng.randrange(-1090, 1023)) for _ in range(10000)]
    fields += [f(x) for x in doubles for f in (repr, lambda x: f"{x:.{rng.randrange(30)}e}")]
    fields += [f"{x / 2 ** rng.randrange(999):.{rng.randrange(25)}f}" for x in doubles]
    fields += ["0" * 400 + "1", "1" + "0" * 307, "1" + "0" * 308, "9" * 309, "1e308", "1E307", "-0.0", "1e-400", "0e9"]
    fields += [
        "0e99999999999999999999",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "0." + "0" * 500 + "1e501",
    ]
    fields += ["nan", "NaN", "inf", "-Infinity", "0x1p3", "1_000", "1,5", "1d5", "\u0661"]
    fields += ["5.", ".5", "-.5e+3", "9e3", "1e4"]
    digits = FIXED_RULES[rule].digits
    values, faults = read_decimals(texts(fields), digits)
    column = NumericalColumn(name="x", type="decimal", rule=rule)
    reasons = {"not a decimal number": MALFORMED, "decimal number too large": TOO_LARGE}
    for field, value, fault in zip(fields, values.tolist(), faults.tolist(), strict=True):
        expected = oracle.read_number(field, column)
        if isinstance(expected, str):
            assert fault == reasons[expected], field
        else:
            assert fault == 0, field
            assert repr(value) == repr(math.nan if expected is None else expected), field
    assert min(np.bincount(faults, minlength=3)) > 100


def test_rules_survive_files() -> None:
    rules = [*FIXED_RULES.values(), LogRule(name="another", shift=7, missing_number=0.1)]
    rules += [QuantileRule.learned(np.random.default_rng(0).lognormal(0, 300, 500), 50), QuantileRule(edges=())]
    for rule in rules:
        assert NumericRule.of(json.loads(json.dumps(rule.entry()))) == rule
        assert NumericRule.of(yaml.safe_load(yaml.safe_dump(rule.entry()))) == rule
    assert list(FIXED_RULES["log_x_plus_2"].entry()) == ["name", "shift", "missing_number"]  # as it always was


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"type": "float"}, "a: a type that there is not: float; integer, decimal"),
        ({"rule": "sqrt"}, "a: a rule that there is not: sqrt; log_x_plus_2, log_x_plus_3, log, signed_log"),
        ({"rule": "quantile", "bins": 1}, "2 to 1,000"),
        ({"rule": "quantile", "bins": 1001}, "2 to 1,000"),
        ({"rule": "quantile", "bins": 2.5}, "2 to 1,000"),
        ({"rule": "quantile", "bins": True}, "2 to 1,000"),
        ({"rule": "log", "bins": 10}, "no other rule takes any"),
        ({"bins": 10}, "no other rule takes any"),
        ({"rule": "identity"}, "type: decimal"),
    ],
)
def test_what_a_column_cannot_be_is_refused(tmp_path, declared: dict, said: str) -> None:
    path = tmp_path / "columns.yaml"
    path.write_text(yaml.safe_dump({"channel_spec": {"numerical": ["a"]}, "feature_spec": {"a": declared}}))
    with pytest.raises(InputError) as error:
        RawColumns.read(path)
    text = " ".join(str(error.value).split())
    for part in said.replace(":", ";").split(";"):
        assert part.strip() in text, text


def test_what_columns_declare_stands_in_the_specification_of_the_encoded_set(tmp_path) -> None:
    columns = RawColumns(
        numbers=(
            NumericalColumn(name="count"),
            NumericalColumn(name="price", type="decimal"),
            NumericalColumn(name="age", rule="quantile", bins=3),
        )
    )
    rules = settled_rules(columns, "log_x_plus_3", [np.array([[1.0], [math.nan]]), np.array([[5.0], [2.0], [9.0]])])
    assert [rule.name for rule in rules] == ["log_x_plus_3", "log", "quantile"]
    assert rules[2].entry() == {"name": "quantile", "edges": [2.0, 5.0], "missing_number": -1.0}
    spec = FeatureSpec(numerical=3, cardinalities=(), numeric_rules=rules, raw_columns=columns)
    spec.write(tmp_path / "feature_spec.yaml")
    assert FeatureSpec.read(tmp_path / "feature_spec.yaml") == spec
    assert RawColumns.read(tmp_path / "feature_spec.yaml") == columns
    features = yaml.safe_load((tmp_path / "feature_spec.yaml").read_text())["feature_spec"]
    assert {key: features["age"][key] for key in ("rule", "bins")} == {"rule": "quantile", "bins": 3}
    assert features["price"]["type"] == "decimal"
    assert set(features["count"]) == {"dtype", "numeric_rule"}
