"""Floating-point formats by what they are made of: a sign, some bits of exponent, some bits of fraction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class NumberFormat:
    """A binary format as IEEE 754 lays them out, with subnormal numbers and infinity.

    Attributes:
        name: As people call it.
        exponent_bits: They decide the range.
        fraction_bits: They decide the spacing.
        dtype: The torch type that holds it; None for TF32, which exists only inside matrix units.
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    dtype: torch.dtype | None = None

    @classmethod
    def of(cls, name: str, dtype: torch.dtype) -> NumberFormat:
        """The format of a torch type, as torch describes it."""
        info = torch.finfo(dtype)
        fraction_bits = round(-math.log2(info.eps))
        return cls(name, info.bits - 1 - fraction_bits, fraction_bits, dtype)

    @property
    def epsilon(self) -> float:
        """The distance from 1 to the next larger number."""
        return 2.0**-self.fraction_bits

    @property
    def smallest_normal(self) -> float:
        """Below it, numbers have fewer significant bits: they are subnormal."""
        return 2.0 ** (2 - 2 ** (self.exponent_bits - 1))

    @property
    def smallest(self) -> float:
        """The smallest subnormal number; half of it or less becomes zero."""
        return self.smallest_normal * self.epsilon

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - self.epsilon) * 2.0 ** (2 ** (self.exponent_bits - 1) - 1)

    def round(self, x: torch.Tensor) -> torch.Tensor:
        """float32 ``x`` → the nearest numbers of this format, ties to even, as float32."""
        if self.dtype is not None:
            return x.to(self.dtype).to(torch.float32)
        # The bits of a positive float32 are in the order of its value: adding half of what is cut off rounds.
        cut = 23 - self.fraction_bits
        bits = x.view(torch.int32)
        bits = bits + (2 ** (cut - 1) - 1) + (bits >> cut & 1)
        return torch.where(x.isfinite(), (bits >> cut << cut).view(torch.float32), x)


FP32 = NumberFormat.of("fp32", torch.float32)
TF32 = NumberFormat("TF32", 8, 10)  # NVIDIA's A100 whitepaper (2020): fp32's exponent, fp16's fraction.
BF16 = NumberFormat.of("bf16", torch.bfloat16)
FP16 = NumberFormat.of("fp16", torch.float16)
FORMATS = (FP32, TF32, BF16, FP16)
