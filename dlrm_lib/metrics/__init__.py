"""The numbers a click model is judged by: how well it ranks rows, and how likely it finds what happened."""

from dlrm_lib.metrics.likelihood import LogitTotals, NotANumber, entropy, log_loss, normalised_entropy
from dlrm_lib.metrics.ranking import StreamingAuc, auc, auc_difference, auc_interval, verdict

__all__ = [
    "LogitTotals",
    "NotANumber",
    "StreamingAuc",
    "auc",
    "auc_difference",
    "auc_interval",
    "entropy",
    "log_loss",
    "normalised_entropy",
    "verdict",
]
