"""Checkpoints: a safetensors file, so that nothing in it can run as code, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dlrm_lib.config import Config, as_dict
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.files import new_file
from dlrm_lib.manifest import Manifest
from dlrm_lib.model import DLRM

_COMPARED = ("config", "vocabulary")


def save_checkpoint(path: Path, model: DLRM, config: Config, manifest: Manifest, *, metrics: dict[str, Any]) -> None:
    """Writes the model with its configuration, the hashes of the data it was trained on, and what it reached."""
    about = {
        "preset": config.preset,
        "model": as_dict(config.model),
        "training": as_dict(config.training),
        "numerical": model.bottom[0].in_features,
        "cardinalities": manifest.cardinalities,
        "hashes": manifest.hashes,
        "metrics": metrics,
    }
    with new_file(path) as partial:
        save_file(model.state_dict(), partial, {"dlrm": json.dumps(about)})


def load_checkpoint(path: Path, manifest: Manifest, device: Device) -> tuple[DLRM, Config]:
    """Opens a checkpoint for a data set.

    Raises:
        InputError: no such file, not a checkpoint, or one that was trained on ids of another meaning.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.", remedy="Train first, or name the checkpoint's file.")
    try:
        with safe_open(path, "pt", device=str(device.torch_device)) as file:
            about = json.loads(file.metadata()["dlrm"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path} is not a checkpoint of this program.", found=repr(error)) from None
    for name in _COMPARED:
        if about["hashes"][name] != manifest.hashes[name]:
            raise InputError(
                f"{path} was trained on a data set with another {name}.",
                found=f"{about['hashes'][name]} in the checkpoint, {manifest.hashes[name]} in the data set",
                remedy="Test on the data set it was trained on, or train again.",
            )
    sections = {"model": about["model"], "training": about["training"]}
    config = Config.from_preset(about["preset"], {k: v for s in sections.values() for k, v in s.items()})
    spec = FeatureSpec(numerical=about["numerical"], cardinalities=tuple(about["cardinalities"]))
    model = DLRM(spec, config.model).to(device.torch_device)
    model.load_state_dict(tensors)
    return model, config
