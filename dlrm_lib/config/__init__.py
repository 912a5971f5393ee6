"""One configuration with three faces: notebook parameters, widgets and command-line flags are all made from it.

Field names are NVIDIA's flag names where NVIDIA has the flag. Names are unique over all sections, so that an override
(`{"lr": 2.0}` in a notebook, `--lr 2.0` in a shell) needs no section.
"""

from __future__ import annotations

from dlrm_lib.config.data import DataConfig, PreprocessConfig, SyntheticConfig
from dlrm_lib.config.model import ModelConfig
from dlrm_lib.config.presets import PRESETS
from dlrm_lib.config.training import InferenceConfig, ResolvedTraining, TrainingConfig
from dlrm_lib.config.whole import Config, as_dict, digest, fields, idle

__all__ = [
    "PRESETS",
    "Config",
    "DataConfig",
    "InferenceConfig",
    "ModelConfig",
    "PreprocessConfig",
    "ResolvedTraining",
    "SyntheticConfig",
    "TrainingConfig",
    "as_dict",
    "digest",
    "fields",
    "idle",
]
