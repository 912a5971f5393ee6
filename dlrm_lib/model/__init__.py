"""What is computed: DLRM (Naumov et al. 2019, https://arxiv.org/abs/1906.00091), block by block, in plain torch.

Nothing here knows of a device or of a kernel. It is the reference that every backend is tested against.
"""

from dlrm_lib.model.cost import Cost, parameter_counts, training_cost
from dlrm_lib.model.dlrm import DLRM, Parts, blueprint

__all__ = ["DLRM", "Cost", "Parts", "blueprint", "parameter_counts", "training_cost"]
