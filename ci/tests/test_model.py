"""The network against naive loops and a plain one in float64."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_dlrm import PlainDlrm
from torch import nn

from dlrm_lib.backends import pick
from dlrm_lib.config import ModelConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import DLRM, blueprint, parameter_counts
from dlrm_lib.model.interactions import interaction
from dlrm_lib.model.layers import MissingFlags, NumberEmbedding, Standardise, mlp
from dlrm_lib.numeric_rules import FIXED_RULES, NUMERIC_RULES, LogRule, QuantileRule
from dlrm_lib.preprocess.numbers import encode_integers

SPEC = FeatureSpec(numerical=5, cardinalities=(4, 9, 30))
CONFIG = ModelConfig(embedding_dim=6, bottom_mlp_sizes=(8, 6), top_mlp_sizes=(10, 1))


def random_batch(spec: FeatureSpec = SPEC, rows: int = 64, seed: int = 0, bag: int = 1) -> Batch:
    """Random rows; with ``bag`` above 1, bags of up to so many ids, some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows,) if bag == 1 else (rows, bag)
    columns = [torch.randint(c + (bag > 1), shape, generator=generator) for c in spec.cardinalities]
    categorical = torch.stack(columns, 1) if columns else torch.empty(rows, 0)
    numerical = torch.randn(rows, spec.numerical, generator=generator)
    return Batch(numerical, categorical.int(), torch.randint(2, (rows,), generator=generator).float())


def sized(dim: int, **settings) -> ModelConfig:
    return ModelConfig(embedding_dim=dim, bottom_mlp_sizes=(dim,), **settings)


@pytest.mark.parametrize("self_interaction", [False, True])
@pytest.mark.parametrize("has_bottom", [False, True])
@pytest.mark.parametrize(("rows", "columns", "dim"), [(3, 4, 5), (1, 1, 2), (2, 0, 3)])
def test_dot_interaction_equals_a_naive_loop(rows, columns, dim, has_bottom, self_interaction):
    bottom = torch.randn(rows, dim) if has_bottom else None
    embedded = torch.randn(rows, columns, dim)
    meets = interaction(columns + has_bottom, has_bottom, sized(dim, self_interaction=self_interaction))
    result = meets(bottom, embedded)
    for b in range(rows):
        vectors = [*([bottom[b]] if has_bottom else []), *embedded[b]]
        expected = [float(v) for v in bottom[b]] if has_bottom else []
        for i in range(len(vectors)):
            for j in range(i + 1 if self_interaction else i):
                expected.append(sum(float(x) * float(y) for x, y in zip(vectors[i], vectors[j], strict=True)))
        expected.append(0.0)
        assert result[b].tolist() == pytest.approx(expected, abs=1e-5)
        products = expected[dim * has_bottom : -1]
        assert result[b, meets.products].tolist() == pytest.approx(products, abs=1e-5)
    assert result.shape == (rows, meets.width)


def test_cat_interaction_keeps_every_vector_in_order():
    bottom, embedded = torch.randn(2, 3), torch.randn(2, 4, 3)
    cat = sized(3, interaction_op="cat")
    meets = interaction(5, True, cat)
    expected = [[*bottom[b].tolist(), *embedded[b].flatten().tolist()] for b in range(2)]
    assert meets(bottom, embedded).tolist() == expected
    assert meets.width == 15
    assert interaction(4, False, cat)(None, embedded).tolist() == [row[3:] for row in expected]


def test_initial_weights_have_the_published_spread():
    torch.manual_seed(0)
    layer = mlp(400, (300,), last_is_linear=True)[0]
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.02)
    assert layer.bias.std().item() == pytest.approx(math.sqrt(1 / 300), rel=0.15)
    weight = DLRM(FeatureSpec(numerical=5, cardinalities=(100, 10_000)), CONFIG).tables.weight
    for table, rows in ((weight[:100], 100), (weight[100:], 10_000)):
        bound = rows**-0.5
        assert table.abs().max() <= bound
        assert table.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_the_mlp_ends_as_it_says():
    assert isinstance(mlp(3, (4, 2), last_is_linear=False)[-1], nn.ReLU)
    assert isinstance(mlp(3, (4, 1), last_is_linear=True)[-1], nn.Linear)


@pytest.mark.parametrize("op", ["dot", "cat", "dcn"])
def test_the_padding_column_starts_at_zero_and_only_with_dot(op):
    model = DLRM(SPEC, ModelConfig(embedding_dim=6, bottom_mlp_sizes=(6,), top_mlp_sizes=(3, 1), interaction_op=op))
    assert (model.top[0].weight[:, -1] == 0).all().item() == (op == "dot")


SHAPES = {
    "dot": (SPEC, {}, 1),
    "cat": (SPEC, {"interaction_op": "cat"}, 1),
    "self-interaction": (SPEC, {"self_interaction": True}, 1),
    "one layer each": (SPEC, {"bottom_mlp_sizes": (6,), "top_mlp_sizes": (1,)}, 1),
    "deep": (SPEC, {"bottom_mlp_sizes": (3, 9, 2, 6), "top_mlp_sizes": (7, 5, 3, 2, 1)}, 1),
    "bags": (SPEC, {"num_indices_per_lookup": 3}, 3),
    "bags, cat": (SPEC, {"num_indices_per_lookup": 2, "interaction_op": "cat"}, 2),
    "numbers only": (FeatureSpec(numerical=5, cardinalities=()), {}, 1),
    "numbers only, with themselves": (FeatureSpec(numerical=5, cardinalities=()), {"self_interaction": True}, 1),
    "linear": (SPEC, {"linear": True}, 1),
    "linear, bags, cat": (SPEC, {"linear": True, "num_indices_per_lookup": 2, "interaction_op": "cat"}, 2),
    "linear, categories only": (FeatureSpec(numerical=0, cardinalities=(4, 9)), {"linear": True}, 1),
    "linear, numbers only": (FeatureSpec(numerical=5, cardinalities=()), {"linear": True}, 1),
    "numbers as vectors": (SPEC, {"embed_numbers": True}, 1),
    "numbers as vectors, linear": (SPEC, {"embed_numbers": True, "linear": True, "self_interaction": True}, 1),
    "numbers as vectors, bags, cat": (
        SPEC,
        {"embed_numbers": True, "num_indices_per_lookup": 2, "interaction_op": "cat"},
        2,
    ),
    "nothing but numbers, as vectors": (FeatureSpec(numerical=5, cardinalities=()), {"embed_numbers": True}, 1),
    "no numbers as vectors": (FeatureSpec(numerical=0, cardinalities=(4, 9)), {"embed_numbers": True}, 1),
    "categories only": (FeatureSpec(numerical=0, cardinalities=(4, 9)), {}, 1),
    "categories only, cat": (FeatureSpec(numerical=0, cardinalities=(4, 9)), {"interaction_op": "cat"}, 1),
    "dcn": (SPEC, {"interaction_op": "dcn", "cross_layers": 2, "cross_rank": 4}, 1),
    "dcn, bags, numbers as vectors, linear": (
        SPEC,
        {
            **{"interaction_op": "dcn", "cross_layers": 1, "cross_rank": 3},
            **{"embed_numbers": True, "linear": True, "num_indices_per_lookup": 2},
        },
        2,
    ),
    "categories only, dcn": (FeatureSpec(numerical=0, cardinalities=(4, 9)), {"interaction_op": "dcn"}, 1),
}


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_network_equals_a_plain_one(shape, execution):
    spec, changes, bag = SHAPES[shape]
    settings = {"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1), **changes}
    config = ModelConfig(**settings)
    torch.manual_seed(1)
    model = DLRM(spec, config)
    plain = PlainDlrm(model, self_interaction=config.self_interaction, cat=config.interaction_op == "cat")
    batch, cpu = random_batch(spec, bag=bag), pick("cpu")
    assert (cpu.kernels(model, execution) is None) == (execution == "eager")
    assert torch.allclose(cpu.inference(model, execution=execution)(batch).double(), plain(batch), atol=1e-5)
    assert torch.allclose(model(batch.numerical, batch.categorical).double(), plain(batch), atol=1e-5)


def test_a_number_lies_between_the_vectors_of_two_whole_ones():
    torch.manual_seed(0)
    vectors = NumberEmbedding([(0, 23)] * 2, 3, None)
    ends, last = vectors.weight.detach(), NumberEmbedding.whole_numbers - 1
    columns = torch.arange(2)
    for number in (0, 1, 7, last - 1, last):
        assert torch.equal(vectors(torch.full((1, 2), float(number)))[0], ends[columns, number])
    quarter = vectors(torch.tensor([[2.25, 2.25]]))[0]
    assert torch.allclose(quarter, 0.75 * ends[:, 2] + 0.25 * ends[:, 3])
    beyond = vectors(torch.tensor([[-1.0, 60.0]]))[0]
    assert torch.equal(beyond, torch.stack([ends[0, 0], ends[1, last]]))
    assert ends.abs().max() <= NumberEmbedding.whole_numbers**-0.5
    assert NumberEmbedding([(0, 23)] * 2, 3, 0.01).weight.abs().max() <= 0.01


def test_the_vectors_of_a_number_lie_where_its_rule_puts_it():
    bins = QuantileRule.learned(np.arange(5000.0), 100)
    rules = (NUMERIC_RULES["log_x_plus_2"], FIXED_RULES["log"], FIXED_RULES["signed_log"], bins)
    spec = FeatureSpec(numerical=4, cardinalities=(4,), numeric_rules=rules)
    vectors = DLRM(spec, ModelConfig(embedding_dim=6, bottom_mlp_sizes=(6,), embed_numbers=True)).numbers
    raw = np.array([np.nan, 0.0, 1.0, 4999.5, -50.0])
    encoded = torch.from_numpy(np.stack([rule.encode(raw) for rule in rules], 1)).float()
    asked = vectors(encoded)
    last = vectors.whole_numbers - 1
    for column, places in enumerate(
        (
            [math.log(2), math.log(2), math.log(3), math.log(5001.5), 0],
            [0, 1, 1 + math.log(2), 1 + math.log(5000.5), 1],
            [last / 2, last / 2, *((17.25 + x) * last / 34.5 for x in (math.log(2), math.log(5000.5), -math.log(51)))],
            [0, 1.11, 1.11, last - 0.11, 1.11],
        )
    ):
        for row, place in enumerate(places):
            below, weight = vectors.weight[column, int(place)], place - int(place)
            expected = (1 - weight) * below + weight * vectors.weight[column, min(int(place) + 1, last)]
            assert torch.allclose(asked[row, column], expected, atol=2e-3), (column, row)


def test_hashed_ids_share_the_rows_of_a_small_table():
    config = ModelConfig(embedding_dim=6, bottom_mlp_sizes=(6,), hash_indices=True, max_table_size=7)
    tables = DLRM(SPEC, config).tables
    assert tables.sizes.tolist() == [4, 7, 7]
    assert len(tables.weight) == 18
    categorical = torch.tensor([[3, 8, 29], [0, 6, 7]], dtype=torch.int32)
    assert tables.row_ids(categorical).tolist() == [[3, 4 + 8 % 7, 11 + 29 % 7], [0, 4 + 6, 11 + 0]]


def test_a_bag_is_the_sum_of_its_rows_and_an_empty_one_is_zero():
    tables = DLRM(SPEC, ModelConfig(embedding_dim=6, bottom_mlp_sizes=(6,), num_indices_per_lookup=3)).tables
    ids = torch.tensor([[[1, 1, 4], [9, 9, 9], [0, 30, 29]]], dtype=torch.int32)  # 4, 9 and 30 fill up
    first, empty, last = tables.gather(tables.row_ids(ids))[0]
    weight = tables.weight
    assert torch.allclose(first, 2 * weight[1])
    assert not empty.any()
    assert torch.allclose(last, weight[13] + weight[13 + 29])


def uneven_numbers(rows):
    """Columns of very different places and widths, one of them constant."""
    rng = np.random.default_rng(0)
    columns = [rng.lognormal(0, 1, rows), rng.normal(1000, 1, rows), np.full(rows, 3.3), rng.random(rows) < 0.01]
    return torch.tensor(np.stack(columns, 1), dtype=torch.float32)


@pytest.mark.parametrize("rows", [1, 2, 777])
def test_numbers_are_standardised_by_the_rows_that_were_measured(rows):
    numbers, layer = uneven_numbers(rows + 50), Standardise(4)
    layer.measure(numbers[:rows])
    seen, others = numbers[:rows].double().numpy(), numbers[rows:].double().numpy()
    steady = seen.min(0) == seen.max(0)
    deviation = np.where(steady, 1, np.maximum(seen.std(0), 0.1))
    reach = np.where(steady, 1, 4) * deviation
    assert layer.rows == rows
    assert layer.mean.numpy() == pytest.approx(seen.mean(0), rel=1e-6)
    assert layer.variance.numpy() == pytest.approx(deviation**2, rel=1e-5)
    bounded = np.clip(others, seen.min(0) - reach, seen.max(0) + reach)
    expected = (bounded - seen.mean(0)) / np.sqrt(deviation**2 + layer.epsilon)
    assert layer(numbers[rows:]).numpy() == pytest.approx(expected, rel=1e-3, abs=2e-3)


def test_measured_numbers_of_ordinary_columns_are_as_without_bounds():
    numbers, layer = uneven_numbers(5000)[:, :2], Standardise(2)
    layer.measure(numbers)
    assert torch.equal(layer(numbers), (numbers - layer.mean) * (layer.variance + layer.epsilon).rsqrt())


@pytest.mark.parametrize(
    "others", [0, 16, 17], ids=["constant", "one in a thousand is another", "so many that it is no longer steady"]
)
@pytest.mark.parametrize("value", [0.0, 6.9])
def test_a_steady_column_counts_by_one_at_most(others, value):
    numbers = torch.full((16_000, 1), value)
    numbers[:others] = value + torch.linspace(0.5, 9, others).unsqueeze(1)
    layer = Standardise(1)
    layer.measure(numbers)
    found = layer(torch.tensor([[value], [value + 0.5], [value + 12], [value - 3e4]])).flatten().tolist()
    if others <= 16:
        assert found == pytest.approx([0, 0.5, 1, -1], abs=0.02)
    else:
        assert min(found[1:3]) > 1


@pytest.mark.parametrize("value", [-3e4, 12.0, 6e4])
def test_numbers_beyond_those_measured_are_bounded(value):
    numbers, layer = uneven_numbers(5000)[:, :1], Standardise(1)
    layer.measure(numbers)
    at_ends = layer(torch.stack([numbers.min(0).values, numbers.max(0).values])).flatten().tolist()
    far = layer(torch.tensor([[value]])).item()
    assert at_ends[0] - 4.001 <= far <= at_ends[1] + 4.001
    if value > 12:
        assert far == pytest.approx(at_ends[1] + 4, rel=1e-3)


def test_the_numbers_of_a_row_do_not_depend_on_other_rows():
    numbers, layer = uneven_numbers(300), Standardise(4)
    layer.measure(numbers[:200])
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    together = layer(numbers[200:])
    assert torch.equal(together, torch.cat([layer(row.unsqueeze(0)) for row in numbers[200:]]))
    assert before.keys() == {"rows", "mean", "variance", "low", "high"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_numbers_are_left_as_they_are_until_rows_were_measured():
    numbers = torch.randn(5, 4)
    assert torch.allclose(Standardise(4)(numbers), numbers, atol=1e-6)


@pytest.mark.parametrize("rule", ["log_x_plus_2", "log_x_plus_3"])
def test_missing_numbers_are_flagged_as_they_are_encoded(rule):
    integer = np.array([[0, 5], [7, 0], [3, 4], [-1, 1]])
    missing = np.array([[True, False], [False, True], [False, False], [False, False]])
    encoded = torch.from_numpy(encode_integers(integer, missing, rule)).float()
    expected = missing if rule == "log_x_plus_3" else integer == 0
    assert torch.equal(
        MissingFlags([NUMERIC_RULES[rule].missing_number] * 2)(encoded), torch.from_numpy(expected).float()
    )


def test_each_column_has_its_own_number_for_missing():
    flags = MissingFlags([0.0, 0.693359375, 0.1])
    numbers = torch.tensor([[0.0, 0.0, 0.0], [0.693359375] * 3, [0.1] * 3])
    assert torch.equal(flags(numbers), torch.eye(3))


def test_a_flag_is_an_input_of_its_own_behind_the_standardised_numbers():
    settings = {"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1), "standardise": True}
    rule = LogRule(name="another", shift=2, missing_number=2.5)
    spec = replace(SPEC, numeric_rules=(rule,) * SPEC.numerical)
    model, batch = DLRM(spec, ModelConfig(**settings, flag_missing=True)), random_batch(rows=4)
    batch.numerical[1, 3] = batch.numerical[2, 0] = 2.5
    model.standardise.measure(batch.numerical)
    seen = []
    model.bottom.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(batch.numerical, batch.categorical)
    flags = torch.zeros(4, 5)
    flags[1, 3] = flags[2, 0] = 1
    assert torch.equal(seen[0], torch.cat([model.standardise(batch.numerical), flags], 1))


def test_no_numbers_no_flags():
    spec = FeatureSpec(numerical=0, cardinalities=(4, 9))
    model = DLRM(spec, ModelConfig(embedding_dim=6, bottom_mlp_sizes=(8, 6), flag_missing=True))
    assert model.bottom is None
    assert model(torch.empty(2, 0), torch.zeros(2, 2, dtype=torch.int32)).shape == (2,)


@pytest.mark.parametrize("init", [0.0, 0.01])
def test_initial_embeddings_as_large_as_asked_for_and_the_layers_as_without(init):
    settings = {"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1)}
    torch.manual_seed(1)
    model = DLRM(SPEC, ModelConfig(**settings, embedding_init=init))
    torch.manual_seed(1)
    plain = DLRM(SPEC, ModelConfig(**settings))
    largest = torch.cat([torch.full((ids, 1), ids**-0.5) for ids in SPEC.cardinalities])
    assert torch.allclose(model.tables.weight, plain.tables.weight / largest * init)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("numerical", [0, 5])
@pytest.mark.parametrize("standardise", [False, True])
def test_only_a_model_that_standardises_numbers_keeps_their_statistics(numerical, standardise):
    spec = FeatureSpec(numerical=numerical, cardinalities=(4, 9))
    settings = {"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1)}
    torch.manual_seed(1)
    model = DLRM(spec, ModelConfig(**settings, standardise=standardise))
    names = {name for name in model.state_dict() if name.startswith("standardise.")}
    kept = {f"standardise.{name}" for name in ("rows", "mean", "variance", "low", "high")}
    assert names == (kept if standardise and numerical else set())
    torch.manual_seed(1)
    plain = DLRM(spec, ModelConfig(**settings))
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_data_set_without_columns_is_refused():
    with pytest.raises(InputError, match="no column to learn from"):
        DLRM(FeatureSpec(numerical=0, cardinalities=()), CONFIG)


def test_a_model_knows_nothing_of_what_runs_it():
    model, batch = DLRM(SPEC, CONFIG), random_batch()
    before = pickle.dumps(model)
    pick("cpu").inference(model, execution="compile")(batch)
    assert pickle.dumps(model) == before
    assert torch.equal(
        copy.deepcopy(model)(batch.numerical, batch.categorical), model(batch.numerical, batch.categorical)
    )


def cross_layers_in_loops(x0, layers):
    """x' = x0 * (U (V x) + b) + x, number by number, in Python's floats."""
    x = list(x0)
    for layer in layers:
        v, u, b = (w.tolist() for w in (layer.down.weight.double(), layer.up.weight.double(), layer.up.bias.double()))
        squeezed = [sum(w * number for w, number in zip(row, x, strict=True)) for row in v]
        crossed = [
            sum(w * s for w, s in zip(row, squeezed, strict=True)) + bias for row, bias in zip(u, b, strict=True)
        ]
        x = [first * cross + number for first, cross, number in zip(x0, crossed, x, strict=True)]
    return x


@pytest.mark.parametrize("has_bottom", [False, True])
@pytest.mark.parametrize(
    ("rows", "columns", "layers", "rank"), [(3, 4, 3, 2), (1, 1, 1, 1), (2, 3, 2, 40), (2, 2, 1, 3)]
)
def test_cross_layers_equal_a_naive_loop_in_float64(rows, columns, layers, rank, has_bottom):
    torch.manual_seed(columns)
    vectors = columns + has_bottom
    meets = interaction(vectors, has_bottom, sized(3, interaction_op="dcn", cross_layers=layers, cross_rank=rank))
    for layer in meets.layers:
        nn.init.normal_(layer.up.bias)
    bottom = torch.randn(rows, 3) if has_bottom else None
    result = meets(bottom, embedded := torch.randn(rows, columns, 3))
    assert result.shape == (rows, meets.width) == (rows, 3 * vectors)
    for b in range(rows):
        x0 = [*(bottom[b].double().tolist() if has_bottom else []), *embedded[b].double().flatten().tolist()]
        assert result[b].tolist() == pytest.approx(cross_layers_in_loops(x0, meets.layers), rel=2e-5, abs=2e-5)


def test_cross_layers_have_few_parameters_and_products_of_many_numbers():
    meets = interaction(4, True, sized(3, interaction_op="dcn", cross_layers=2, cross_rank=5))
    assert sum(parameter.numel() for parameter in meets.parameters()) == 2 * (2 * 12 * 5 + 12)
    assert meets.products == slice(0, 0)
    for layer in meets.layers:
        nn.init.zeros_(layer.up.bias)
    x = torch.randn(1, 4, 3, dtype=torch.float32)
    # Without biases the part of degree k + 1 in the input grows with the scale to that power: x, then x², then x³.
    values = torch.stack([meets(s * x[:, 0], s * x[:, 1:])[0] for s in (1.0, 2.0, 3.0, 4.0)]).double()
    powers = torch.tensor([[s, s**2, s**3] for s in (1.0, 2.0, 3.0, 4.0)], dtype=torch.float64)
    solved = torch.linalg.lstsq(powers, values).solution
    assert torch.allclose(powers @ solved, values, atol=1e-4)
    assert torch.allclose(solved[0], x.flatten().double(), atol=1e-4)
    assert solved[2].abs().max() > 1e-3


SIZES = {
    **SHAPES,
    "hashed": (SPEC, {"hash_indices": True, "max_table_size": 7}, 1),
}


@pytest.mark.parametrize("shape", SIZES)
def test_a_blueprint_has_the_shapes_of_the_model_and_no_numbers(shape):
    spec, changes, bag = SIZES[shape]
    config = ModelConfig(**{"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1), **changes})
    drawn, model = blueprint(spec, config), DLRM(spec, config)
    assert {name: tensor.shape for name, tensor in drawn.state_dict().items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    assert all(tensor.is_meta for tensor in drawn.state_dict().values())
    batch = random_batch(spec, bag=bag)
    rows = torch.empty(len(batch.label), len(spec.cardinalities), 6, device="meta")
    assert drawn.dense(batch.numerical.to("meta"), rows).shape == batch.label.shape


def test_parameters_are_counted_by_part_of_a_model_or_its_blueprint():
    spec = FeatureSpec(numerical=5, cardinalities=(30, 1000))
    sizes = {"embedding_dim": 4, "bottom_mlp_sizes": (8, 4), "top_mlp_sizes": (6, 1)}
    config = ModelConfig(**sizes, hash_indices=True, max_table_size=90, interaction_op="dcn", cross_rank=3)
    counts = parameter_counts(blueprint(spec, config))
    assert counts == parameter_counts(model := DLRM(spec, config))
    assert (counts["C1"], counts["C2"]) == (30 * 4, 90 * 4)
    assert counts["bottom MLP"] == (5 + 1) * 8 + (8 + 1) * 4
    assert list(counts) == ["C1", "C2", "bottom MLP", "interaction", "top MLP"]
    assert sum(counts.values()) == sum(weight.numel() for weight in (*model.parameters(), model.tables.weight))
    assert "interaction" not in parameter_counts(blueprint(spec, ModelConfig(**sizes)))  # products have no weights
