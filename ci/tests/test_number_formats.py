"""Number formats against what torch and NumPy know of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm_lib.number_formats import BF16, FORMATS, FP16, FP32, TF32


@pytest.mark.parametrize("format", [FP32, BF16, FP16], ids=lambda f: f.name)
def test_limits_are_those_of_torch(format):
    info = torch.finfo(format.dtype)
    assert 1 + format.exponent_bits + format.fraction_bits == info.bits
    assert (format.epsilon, format.largest) == (info.eps, info.max)
    assert format.smallest_normal == info.smallest_normal
    half, more = format.smallest / 2, format.smallest * 0.51
    rounded = torch.tensor([format.smallest, half, more], dtype=torch.float64).to(format.dtype).double()
    assert rounded.tolist() == [format.smallest, 0.0, format.smallest]


def test_tf32_has_the_range_of_fp32_and_the_spacing_of_fp16():
    assert (TF32.smallest_normal, TF32.epsilon) == (FP32.smallest_normal, FP16.epsilon)
    assert FP32.largest * (1 - FP16.epsilon) < TF32.largest < FP32.largest


def test_tf32_rounds_to_the_nearest_number_and_ties_to_even():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=4000).astype(np.float32))
    x = torch.cat([x * 10.0**scale for scale in range(-30, 30, 6)])
    # frexp takes a number apart: with eleven significant bits, one of them implicit, it is a multiple of 2^-11.
    mantissa, exponent = np.frexp(x.double().numpy())
    expected = np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent)
    assert np.array_equal(TF32.round(x).double().numpy(), expected)
    ties = torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11, 0.0, torch.inf, -torch.inf])
    assert TF32.round(ties).tolist() == [1.0, 1 + 2**-9, -1.0, 0.0, torch.inf, -torch.inf]
    assert TF32.round(torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_rounding_moves_a_normal_number_by_half_the_spacing_at_most(format):
    x = torch.from_numpy(np.geomspace(2.0**-13, 2.0**15, 5000).astype(np.float32))
    error = ((format.round(x) - x).abs() / x).max()
    assert format.epsilon / 4 < error <= format.epsilon / 2 or format is FP32
    assert torch.equal(format.round(format.round(x)), format.round(x))
