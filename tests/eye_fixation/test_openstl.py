"""Weights of OpenSTL load whole or not at all, and a file that does not fit says what it holds."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from common.config import UserError
from eye_fixation.openstl import load_weights
from eye_fixation.simvp import SimVP, SimVPConfig

TYPES = ("gSTA", "IncepU", "TAU", "ConvMixer")


def build(seed: int, **settings: object) -> SimVP:
    torch.manual_seed(seed)
    sizes = {"in_shape": (10, 1, 8, 8), "hid_S": 4, "hid_T": 16, "N_S": 2, "N_T": 3}
    return SimVP(SimVPConfig(**{**sizes, **settings}))  # type: ignore[arg-type]


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize(
    ("prefix", "wrapper", "suffix"),
    [
        ("", None, "safetensors"),
        ("", None, "pth"),
        ("model.", "state_dict", "ckpt"),
        ("module._orig_mod.", "state_dict", "pt"),
    ],
)
def test_round_trip(tmp_path: Path, model_type: str, prefix: str, wrapper: str | None, suffix: str) -> None:
    source = build(1, model_type=model_type)
    source(torch.rand(2, 10, 1, 8, 8))  # running statistics of their own
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    model = build(2, model_type=model_type)
    load_weights(model, path)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in source.state_dict().items())
    x = torch.rand(1, 10, 1, 8, 8)
    assert torch.equal(model.eval()(x), source.eval()(x))


@pytest.mark.parametrize("model_type", TYPES)
def test_a_file_of_other_sizes_says_which(tmp_path: Path, model_type: str) -> None:
    other = build(1, model_type=model_type, in_shape=(4, 1, 8, 8), out_len=12, skip="last", hid_T=24, N_T=4)
    torch.save(other.state_dict(), tmp_path / "other.pth")
    model = build(2, model_type="ConvMixer" if model_type == "gSTA" else "gSTA")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as raised:
        load_weights(model, tmp_path / "other.pth")
    lines = str(raised.value).splitlines()
    assert lines[0].startswith(f"--init-from {tmp_path / 'other.pth'} does not fit the model: ")
    assert len(lines) == 5
    sizes = "--hid-S 4 --hid-T 24 --N-S 2 --N-T 4 --in-len 4 --out-len 12"
    assert lines[4].strip() == f"the file holds --model-type {model_type} {sizes}"
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_each_kind_of_difference_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for change, fault in [
        ({"dec.readout.bias": None}, "dec.readout.bias [1]: not in the file"),
        ({"dec.readout.bias": torch.zeros(2)}, "dec.readout.bias: [2] in the file, [1] in the model"),
        ({"hid.enc.0.attn": torch.zeros(3)}, "hid.enc.0.attn [3]: not in the model"),
    ]:
        state = {
            name: value for name, value in {**build(1).state_dict(), **change}.items() if value is not None
        }
        torch.save(state, path)
        with pytest.raises(UserError) as raised:
            load_weights(build(2), path)
        lines = str(raised.value).splitlines()
        assert lines[0].endswith("1 tensors differ")
        assert lines[1].strip() == fault
        assert "--model-type gSTA --hid-S 4 --hid-T 16 --N-S 2 --N-T 3 --in-len 10 --out-len 10" in lines[2]


def test_width_without_reduction(tmp_path: Path) -> None:
    torch.save(build(1, hid_S=2, hid_T=20).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="--hid-S 2 --hid-T 20 --N-S 2 --N-T 3 --in-len 10 --out-len 10"):
        load_weights(build(2), tmp_path / "w.pth")


def test_files_that_are_no_simvp(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for state in (
        {"conv1.weight": torch.zeros(1)},
        {"enc.enc.0.conv.conv.weight": torch.zeros(())},
        {
            "enc.enc.0.conv.conv.weight": torch.zeros(0, 1),
            "hid.enc.0.block.conv_pw.weight": torch.zeros(1, 1),
        },
    ):
        torch.save(state, path)
        with pytest.raises(UserError, match="the file holds no SimVP of these types"):
            load_weights(build(1), path)
    with pytest.raises(UserError, match=r"^--init-from: no file at .*absent\.pth"):
        load_weights(build(1), tmp_path / "absent.pth")
    torch.save({"a": torch.zeros(1), "model.a": torch.ones(1)}, path)
    with pytest.raises(UserError, match="1 names occur twice"):
        load_weights(build(1), path)
