"""Optimizers that update all parameters in one operation."""

from .fused import FusedAdagrad as FusedAdagrad
