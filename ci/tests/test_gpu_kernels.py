"""The Triton kernels against float64, in Triton's interpreter, and compiled for an H100 without one.

The interpreter runs one program after the other with NumPy. It cannot do bfloat16 (it multiplies bit patterns and
rounds by cutting off), so that type runs on a GPU only: ``TRITON_INTERPRET=0`` with pytest runs these tests on one.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch_kernels import TorchKernels

from dlrm_lib.backends.cuda.kernels import GpuKernels, NoTriton
from dlrm_lib.config import ModelConfig
from dlrm_lib.model.interactions.dot import DotInteraction

triton = pytest.importorskip("triton")
INTERPRETED = os.environ["TRITON_INTERPRET"] == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
DTYPES = [torch.float32, torch.float16] if INTERPRETED else [torch.float32, torch.float16, torch.bfloat16]
BOTH = [GpuKernels, TorchKernels]
pytestmark = [
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="there is no GPU"),
    # NumPy warns of what overflow tests do on purpose.
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning"),
]
SIZES = (1, 4, 127, 128, 129, 300)  # at and around the size up to which tables are summed first


@pytest.fixture(autouse=True)
def _same_numbers(monkeypatch) -> None:
    torch.manual_seed(0)
    if INTERPRETED:  # where every step of a program takes a millisecond
        monkeypatch.setattr("dlrm_lib.backends.cuda.update.SAMPLES", 64)


def make(kind: type, sizes: tuple[int, ...] = SIZES, **settings) -> GpuKernels | TorchKernels:
    settings = {"self_interaction": False, "precision": "fp32", "deterministic": False, **settings}
    return kind(sizes, device=DEVICE, **settings)


def draw_ids(batch: int, sizes: tuple[int, ...] = SIZES) -> torch.Tensor:
    """Random rows; the first sample has the first row of each table, the last one the last."""
    ids = torch.stack([torch.randint(rows, (batch,)) for rows in sizes], dim=1).int()
    ids[:1] = 0
    ids[-1:] = torch.tensor(sizes) - 1
    return ids.to(DEVICE)


def number(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float32, device=DEVICE)


def rows_of(ids: torch.Tensor, sizes: tuple[int, ...]) -> list[list[int]]:
    starts = list(itertools.accumulate(sizes, initial=0))
    return [[starts[m] + row for m, row in enumerate(sample)] for sample in ids.tolist()]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "dim"), [(0, 16), (1, 1), (3, 17), (65, 16), (3, 128), (2, 256)])
def test_gather_rounds_the_right_rows(kind, dtype, batch, dim):
    weight, ids = torch.randn(sum(SIZES), dim, device=DEVICE), draw_ids(batch)
    found = make(kind).gather(weight, ids, dtype)
    assert found.shape == (batch, len(SIZES), dim)
    assert found.dtype == dtype
    for sample, rows in zip(found, rows_of(ids, SIZES), strict=True):
        assert torch.equal(sample, torch.stack([weight[row] for row in rows]).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 16, 17, 128, 256])
@pytest.mark.parametrize(("columns", "has_bottom"), [(0, True), (1, True), (1, False), (26, True), (33, False)])
@pytest.mark.parametrize("self_interaction", [False, True])
def test_interaction_and_its_gradient_equal_autograd_in_float64(dtype, dim, columns, has_bottom, self_interaction):
    config = ModelConfig(embedding_dim=dim, bottom_mlp_sizes=(dim,), self_interaction=self_interaction)
    shape = DotInteraction(columns + has_bottom, has_bottom, config)
    bottom = torch.randn(2, dim, dtype=dtype, device=DEVICE, requires_grad=True) if has_bottom else None
    rows = torch.randn(2, columns, dim, dtype=dtype, device=DEVICE, requires_grad=True)
    exact = [None if x is None else x.detach().double().requires_grad_() for x in (bottom, rows)]
    expected = shape.to(DEVICE)(*exact)
    upstream = torch.randn(2, shape.width, dtype=dtype, device=DEVICE)
    expected.backward(upstream.double())
    for kind in BOTH:
        overflow, inputs = number(0), [None if x is None else x.detach().requires_grad_() for x in (bottom, rows)]
        found = make(kind, self_interaction=self_interaction).interact(*inputs, shape.width, overflow)
        assert found.dtype == dtype
        found.backward(upstream)
        assert overflow.item() == 0
        for result, truth in [
            (found, expected),
            *((x.grad, y.grad) for x, y in zip(inputs, exact, strict=True) if x is not None),
        ]:
            # Sums in float32, one rounding to the type at the end; plain torch rounds the copied part before it adds.
            rounding = torch.finfo(dtype).eps / (2 if kind is GpuKernels else 1)
            assert torch.allclose(
                result.double(), truth, rtol=rounding * 1.01, atol=2e-5 if kind is GpuKernels else 2e-2
            )


def test_interaction_of_no_samples_and_of_pieces_of_tensors():
    for kind in BOTH:
        empty = torch.zeros(0, 3, 16, device=DEVICE, requires_grad=True)
        out = make(kind).interact(None, empty, 4)
        out.sum().backward()
        assert out.shape == (0, 4)
        assert empty.grad.shape == empty.shape
    wide, bottom = torch.randn(3, 4, 32, device=DEVICE), torch.randn(16, 3, device=DEVICE)
    pieces = (bottom.T, wide[:, 1:, :16])
    expected = make(GpuKernels).interact(*(piece.contiguous() for piece in pieces), 23)
    assert torch.equal(make(GpuKernels).interact(*pieces, 23), expected)


# Of bottom · row with gradient g, the bottom's gradient is copied + g · row and the row's g · bottom. The largest
# float16 is 65504; what is nearer to the next step, 65536, becomes infinite, from the middle, 65520, on.
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("copied", "g", "bottom", "row", "expected"),
    [
        (0, 1, 1, 1, 0),
        (65504, 1, 1, 15, 0),
        (65504, 1, 1, 16, 1),
        (-65504, -1, 1, 16, 1),
        (0, 2, 32752, 1, 0),
        (0, 2, 32768, 1, 1),
        (0, -2, 32768, 1, 1),
        (float("nan"), 0, 1, 1, 1),
        (float("inf"), 1, 1, 1, 1),
        (0, float("nan"), 1, 1, 1),
        (0, float("-inf"), 1, 1, 1),
    ],
)
def test_an_overflow_of_float16_sets_the_flag(kind, copied, g, bottom, row, expected):
    inputs = torch.ones(2, 17), torch.ones(2, 1, 17)
    inputs[0][0, -1], inputs[1][0, 0, -1] = bottom, row
    inputs = [x.half().to(DEVICE).requires_grad_() for x in inputs]
    upstream = torch.zeros(2, 19).half().to(DEVICE)
    upstream[0, 16], upstream[0, 17] = copied, g
    for before in (0, 1):  # Nothing takes the flag back.
        flag = number(before)
        make(kind).interact(*inputs, 19, flag).backward(upstream)
        assert flag.item() == max(before, expected)
    make(kind).interact(*inputs, 19).backward(upstream)  # without a flag


def test_the_flag_is_set_by_float32_too():
    rows = torch.full((1, 2, 16), 3e38, device=DEVICE, requires_grad=True)
    for g, expected in ((1.0, 0), (2.0, 1)):
        flag = number(0)
        make(GpuKernels).interact(None, rows, 2, flag).backward(torch.tensor([[g, 0.0]], device=DEVICE))
        assert flag.item() == expected


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "dim"), [(0, 16), (1, 16), (3, 1), (65, 17), (300, 16), (3, 128), (2, 256)])
def test_rows_are_added_to(kind, deterministic, dtype, batch, dim):
    # Whole numbers and a step of a quarter: every sum is exact in any order, so the result must be too.
    weight = torch.randint(-8, 9, (sum(SIZES), dim), device=DEVICE).float()
    gradient = torch.randint(-8, 9, (batch, len(SIZES), dim), device=DEVICE).to(dtype)
    kernels, ids, expected, step = make(kind, deterministic=deterministic), draw_ids(batch), weight.double(), number(0)
    for value in (-0.25, 2.0):
        step.fill_(value)  # read when the kernel runs
        kernels.add_rows(weight, ids, gradient, step, number(0))
        for sample, rows in zip(gradient.double(), rows_of(ids, SIZES), strict=True):
            for row, change in zip(rows, sample, strict=True):
                expected[row] += value * change
        assert torch.equal(weight.double(), expected)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("sizes", [(200,), (3,), (1, 200, 2)])
def test_all_samples_have_the_same_row(kind, deterministic, sizes):
    # 1,200 equal rows are 19 sorted blocks: more than are read at once when a long run is added up.
    batch, ids = 1200, draw_ids(1, sizes)
    gradient = torch.ones(batch, len(sizes), 2, device=DEVICE)
    weight = torch.full((sum(sizes), 2), -0.0, device=DEVICE)  # adding anything, even zero, leaves a mark
    gradient[:, :, 1] = torch.arange(batch, device=DEVICE)[:, None]
    make(kind, sizes, deterministic=deterministic).add_rows(
        weight, ids.repeat(batch, 1), gradient, number(1), number(0)
    )
    hit = rows_of(ids, sizes)[0]
    assert weight[hit].tolist() == [[batch, batch * (batch - 1) / 2]] * len(hit)
    assert (weight == 0).sum() == weight.signbit().sum() == 2 * (len(weight) - len(hit))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sums_of_real_numbers_are_rounded_in_float32(deterministic, dtype):
    sizes, batch = (2, 150), 500
    ids, gradient = draw_ids(batch, sizes), torch.randn(batch, 2, 20, device=DEVICE).to(dtype)
    weight = torch.randn(152, 20, device=DEVICE)
    rows = torch.tensor(rows_of(ids, sizes), device=DEVICE).flatten()
    expected = weight.double().index_add_(0, rows, -0.3 * gradient.double().flatten(0, 1))
    make(GpuKernels, sizes, deterministic=deterministic).add_rows(weight, ids, gradient, number(-0.3), number(0))
    assert torch.allclose(weight.double(), expected, atol=2e-5)


@pytest.mark.skipif(not INTERPRETED, reason="a GPU orders its programs itself")
def test_in_order_mode_gives_the_same_bits_in_whatever_order_programs_run(monkeypatch):
    from triton.runtime import interpreter

    builder, sizes = interpreter.interpreter_builder, (3, 2, 250)
    ids, gradient = draw_ids(900, sizes), torch.randn(900, 3, 4)

    def added(deterministic: bool) -> torch.Tensor:
        weight = torch.zeros(255, 4)
        make(GpuKernels, sizes, deterministic=deterministic).add_rows(weight, ids, gradient, number(-0.1), number(0))
        return weight

    found = {deterministic: [added(deterministic)] for deterministic in (False, True)}
    set_place = builder.set_grid_idx
    monkeypatch.setattr(builder, "set_grid_idx", lambda x, y, z: set_place(builder.grid_dim[0] - 1 - x, y, z))
    for deterministic, results in found.items():
        results.append(added(deterministic))
    assert not torch.equal(*found[False])  # so this test can tell
    assert torch.equal(*found[True])


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("flag", [1.0, float("inf"), float("nan")])
def test_with_the_flag_set_no_bit_changes(kind, deterministic, flag):
    weight, ids = torch.randn(sum(SIZES), 16, device=DEVICE), draw_ids(200)
    weight[::2] = -0.0
    before, gradient = weight.clone(), torch.ones(200, len(SIZES), 16, device=DEVICE)
    gradient[0], gradient[1] = float("inf"), float("nan")
    make(kind, deterministic=deterministic).add_rows(weight, ids, gradient, number(1), number(flag))
    assert torch.equal(weight.view(torch.int32), before.view(torch.int32))


@pytest.fixture
def vast(tmp_path, monkeypatch) -> torch.Tensor:
    """2³¹ + 2¹² float32 zeros in a file full of holes, of which only what is touched takes memory.

    In front of them lie 2³¹ others: where places calculated in 32 bits end up.
    """
    from triton.runtime import interpreter

    # The interpreter copies tensors from and to the device. Here both are the same, and copying touches everything.
    monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *arguments: None)
    path = tmp_path / "vast"
    try:
        with path.open("wb") as file:
            file.truncate(4 * (2**32 + 2**12))
        return torch.from_file(str(path), shared=True, size=2**32 + 2**12)[2**31 :]
    except (OSError, RuntimeError) as error:
        pytest.skip(f"there is no room for a file full of holes: {error}")


@pytest.mark.skipif(not INTERPRETED, reason="ci/bench/gpu.py does it at full size")
@pytest.mark.parametrize("dim", [128, 1])  # with 1, rows themselves cannot be counted in 32 bits
def test_tables_beyond_two_to_the_31_numbers(vast, dim):
    weight = vast.view(-1, dim)
    half = len(weight) // 2
    sizes = (5, half, len(weight) - half - 15, 10)
    ids = torch.tensor([[0, 0, 0, 0], [4, half - 1, sizes[2] - 1, 9], [4, 7, sizes[2] - 2, 9]], dtype=torch.int32)
    ids = ids.repeat(30, 1)  # runs that cross the borders of sorted blocks
    gradient = torch.arange(1.0, 5.0).view(1, 4, 1).repeat(90, 1, dim)
    rows, expected = rows_of(ids, sizes), dict.fromkeys(itertools.chain(*rows_of(ids, sizes)), 0.0)
    assert max(expected) * dim >= 2**31
    for deterministic in (False, True):
        kernels = make(GpuKernels, sizes, deterministic=deterministic)
        kernels.add_rows(weight, ids, gradient, number(2), number(0))
        for sample, changes in zip(rows, gradient[:, :, 0].tolist(), strict=True):
            for row, change in zip(sample, changes, strict=True):
                expected[row] += 2 * change
        assert {row: weight[row].unique().tolist() for row in expected} == {row: [n] for row, n in expected.items()}
        assert kernels.gather(weight, ids, torch.float16)[:, :, 0].tolist() == [[expected[r] for r in s] for s in rows]


def test_without_triton_it_says_so(monkeypatch):
    for module in ("gather", "interaction", "update"):
        monkeypatch.delitem(sys.modules, f"dlrm_lib.backends.cuda.{module}", raising=False)
        monkeypatch.delattr(f"dlrm_lib.backends.cuda.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(NoTriton, match="triton"):
        make(GpuKernels)


def test_the_library_is_imported_without_triton():
    code = "import sys, dlrm_lib.backends.cuda.backend, dlrm_lib.training; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "precision", ["bf16", *(pytest.param(p, marks=pytest.mark.slow) for p in ("fp16", "fp32", "tf32"))]
)
def test_compiled_for_an_h100_nothing_spills(precision, checkout, tmp_path):
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(checkout),
    }
    script = Path(__file__).with_name("compile_for_gpu.py")
    done = subprocess.run(
        [sys.executable, str(script), precision], env=environment, capture_output=True, text=True, check=True
    )
    found = {launch.pop("kernel"): launch for launch in json.loads(done.stdout)}
    assert set(found) == {"_gather", "_forward", "_backward", "_add", "_add_small", "_add_blocks", "_add_parts"}

    def has(kernel: str, start: str) -> bool:
        return any(name.startswith(start) for name in found[kernel]["instructions"])

    for name, launch in found.items():
        assert launch["stack"] == 0
        assert not has(name, "LDL")
        assert not has(name, "STL")
        assert launch["registers"] * launch["warps"] * 32 <= 65536  # one program at least fits
        assert launch["shared"] <= 227 * 1024
    # Sixteen bytes at a time, to and from memory, and four additions in one instruction.
    for name in ("_gather", "_forward", "_backward", "_add_blocks"):
        assert has(name, "STG.E.128")
    for name in ("_gather", "_add", "_add_parts"):
        assert has(name, "LDG.E.128")
    for name in ("_add", "_add_small"):
        assert has(name, "REDG.E.ADD.F32x4")
    assert not any("ATOM" in instruction for launch in found.values() for instruction in launch["instructions"])
    multiplying = {"bf16": ("BF16", 4), "fp16": ("F32", 4), "tf32": ("TF32", 2), "fp32": ("", 0)}[precision]
    kernels = ("_forward", "_backward", "_add_small", "_add_blocks")
    for place, name in enumerate(kernels):
        units = [i for i in found[name]["instructions"] if i.startswith(("HMMA", "HGMMA"))]
        assert bool(units) == (place < multiplying[1])
        assert all(unit.endswith(multiplying[0]) for unit in units)
