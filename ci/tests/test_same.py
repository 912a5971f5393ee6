"""What compares this version of the library with another: bits that differ are named, and speeds are paired."""

from __future__ import annotations

import json

import pytest
from bench import same_bits, same_speed

ONE = "smoke sgd fp32 eager"


def test_the_same_bits_are_the_same_and_a_changed_one_is_named(tmp_path, capsys):
    path = tmp_path / "before.json"
    same_bits.main(["--write", str(path), "--only", ONE])
    with pytest.raises(SystemExit) as end:
        same_bits.main(["--compare", str(path), "--only", ONE])
    assert end.value.code == 0
    assert "1 of 1 trainings are the same to the bit" in capsys.readouterr().out

    before = json.loads(path.read_text())
    assert {"losses", "AUCs", "model.safetensors tables.weight"} < before[ONE].keys()
    assert len(before[ONE]["losses"]) == 20
    before[ONE]["losses"][7] = (float.fromhex(before[ONE]["losses"][7]) + 1e-9).hex()
    path.write_text(json.dumps(before))
    with pytest.raises(SystemExit) as end:
        same_bits.main(["--compare", str(path), "--only", ONE])
    assert end.value.code == 1
    assert f"{ONE}: losses\n0 of 1" in capsys.readouterr().out


def test_every_preset_optimizer_and_way_to_run_is_compared(tmp_path):
    names = [name for name, _ in same_bits.runs(tmp_path)]
    assert len(names) == len(set(names))
    for preset in same_bits.PRESETS:
        for optimizer in same_bits.OPTIMIZERS:
            for precision in ("fp32", "bf16"):
                assert {f"{preset} {optimizer} {precision} {how}" for how in ("eager", "compile")} <= set(names)


def test_speeds_are_compared_in_pairs(checkout, capsys):
    same_speed.main(["--code", str(checkout), "--pairs", "1", "--models", "smoke"])
    _, line = capsys.readouterr().out.splitlines()
    model, other, this, ratio, _ = line.split()
    assert model == "smoke"
    speeds = [float(number.replace(",", "")) for number in (other, this)]
    assert float(ratio) == pytest.approx(speeds[1] / speeds[0], abs=0.01)
