"""DLRM (Naumov et al. 2019, https://arxiv.org/abs/1906.00091), block by block."""

from dlrm_lib.model.dlrm import DLRM

__all__ = ["DLRM"]
