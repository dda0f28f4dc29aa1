"""Weights files: tensors come out, nothing is executed, and whatever is wrong is said with flag and file."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from common.config import UserError
from common.weights_file import read_dictionary, read_tensors, write_dictionary

TENSORS = {"module.a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
def test_torch_files_bare_and_wrapped(tmp_path: Path, wrapper: str | None) -> None:
    content = {"epoch": 3, "notes": {"lr": 0.1}, wrapper: TENSORS} if wrapper else {**TENSORS, "epoch": 3}
    torch.save(content, tmp_path / "weights.pth")
    read = read_tensors(tmp_path / "weights.pth", flag="--init")
    assert list(read) == list(TENSORS)
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype
               for name, tensor in TENSORS.items())  # fmt: skip


def test_a_tensor_called_model_is_no_wrapper(tmp_path: Path) -> None:
    torch.save({"model": torch.ones(1), "b": torch.ones(2)}, tmp_path / "w.pt")
    assert set(read_tensors(tmp_path / "w.pt", flag="--init")) == {"model", "b"}


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "weights.safetensors")
    read = read_tensors(tmp_path / "weights.safetensors", flag="--init")
    assert set(read) == set(TENSORS)
    assert torch.equal(read["module.a.weight"], TENSORS["module.a.weight"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.pth", b"text"),
        ("empty.pth", b""),
        ("cut.pth", b"PK\x03\x04 no zip"),
        ("pickle.pth", b"\x80\x02\x00"),
        ("bytes.pth", b"\x80\x02}q\x00\xffabc"),
        ("text.safetensors", b"not weights either"),
        ("empty.safetensors", b""),
    ],
)
def test_bytes_that_are_no_weights(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"^--init: cannot read .*{name}: .") as raised:
        read_tensors(tmp_path / name, flag="--init")
    assert "\n" not in str(raised.value)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save(TENSORS, whole)
    content = whole.read_bytes()
    for length in range(0, len(content), 97):
        cut.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cut\.pth"):
            read_tensors(cut, flag="--init")


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_file_is_refused_and_not_executed(tmp_path: Path, legacy: bool) -> None:
    content = {"weight": torch.zeros(1), "meta": Trap(tmp_path / "executed")}
    if legacy:
        (tmp_path / "evil.pth").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth: refused"):
        read_tensors(tmp_path / "evil.pth", flag="--init")
    assert not (tmp_path / "executed").exists()


def test_missing_and_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--init: no file at .*absent\.pth"):
        read_tensors(tmp_path / "absent.pth", flag="--init")
    with pytest.raises(UserError, match="no file at"):
        read_tensors(tmp_path, flag="--init")
    for content in ({"lr": 0.1}, [torch.ones(1)], torch.ones(1), {"state_dict": {"lr": 0.1}}):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth holds no named tensors"):
            read_tensors(tmp_path / "w.pth", flag="--init")


class Object:
    pass


def test_a_dictionary_comes_back_and_the_old_one_is_kept(tmp_path: Path) -> None:
    path, before = tmp_path / "new" / "m.pt", tmp_path / "new" / "m.prev.pt"
    write_dictionary(path, {"a": torch.ones(2), "b": [1, "x", None]})
    write_dictionary(path, {"a": torch.zeros(1)}, keep_previous=before)
    assert read_dictionary(path)["a"].tolist() == [0.0]
    assert read_dictionary(before)["b"] == [1, "x", None]
    assert sorted(file.name for file in path.parent.iterdir()) == ["m.prev.pt", "m.pt"]


@pytest.mark.parametrize(
    ("content", "said"),
    [([1], "a dictionary is expected, not a list"), ({"a": Object()}, r"holds objects of .*Object")],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(UserError, match=said):
        read_dictionary(tmp_path / "m.pt")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_damaged_dictionaries_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"m\.pt: (damaged|cannot be read)"):
        read_dictionary(tmp_path / "m.pt")


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"m\.pt: cannot be written: ."):
        write_dictionary(tmp_path / "file" / "m.pt", {})
