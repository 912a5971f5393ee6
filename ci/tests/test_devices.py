"""Devices: how one is picked, and how many threads the processor gets."""

from __future__ import annotations

import pytest
import torch

from dlrm_lib.dataset import Batch
from dlrm_lib.devices import cpu, pick
from dlrm_lib.errors import InputError


@pytest.mark.parametrize(("cores", "threads", "expected"), [(1, 1, 1), (2, 2, 2), (4, 4, 3), (4, 2, 2), (8, 1, 1)])
def test_one_core_of_many_is_left_free_and_a_choice_is_kept(monkeypatch, cores, threads, expected):
    given = {"threads": threads}
    monkeypatch.setattr(cpu, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: given["threads"])
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: given.update(threads=threads))
    assert f"{expected} threads" in pick("auto").description
    assert given["threads"] == expected


def test_a_batch_keeps_its_shape_and_values():
    batch = Batch(torch.rand(2, 3), torch.ones(2, 4, dtype=torch.int32), torch.zeros(2))
    moved = pick("cpu").put(batch)
    assert type(moved) is Batch
    assert all(torch.equal(a, b) for a, b in zip(batch, moved, strict=True))


def test_an_unknown_device_is_named():
    with pytest.raises(InputError, match=r"no such device[\s\S]*found: tpu"):
        pick("tpu")
