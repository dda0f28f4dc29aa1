import errno
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.engine import checkpoint_folders
from common.engine.checkpoint import (
    Checkpoint,
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    load_latest_good,
    load_weights,
    read_manifest,
    save_checkpoint,
    verify_checkpoint,
)
from common.engine.manifest import MANIFEST, sealed, unsealed

FILES = [
    "config.yaml",
    "ema.safetensors",
    "metadata.json",
    "model.safetensors",
    "state.pt",
    "statistics.json",
]


def make(step: int, *, value: float | None = None, size: int = 8, **fields) -> Checkpoint:
    weights = torch.full((size,), float(step) if value is None else value)
    content = {
        "step": step,
        "epoch": step // 10,
        "headline": {"metric": "miou", "mode": "max", "value": 0.5},
        "model": {"weight": weights},
        "ema": {"weight": weights + 0.5},
        "state": {"progress": {"step": step}, "rng": [torch.get_rng_state()]},
        "config": "lr: 0.1\n",
        "statistics": {"counts": [5, 1]},
        "metadata": {"labels": ["a", "b"]},
    }
    return Checkpoint(**{**content, **fields})


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@contextmanager
def largest_file(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_everything_comes_back(tmp_path):
    saved = make(7, state={"nested": [1, (2.5, "x", None, b"y", True)], "od": OrderedDict(a=torch.eye(2))})
    path = save_checkpoint(tmp_path / "checkpoints", saved, best=True)
    loaded = load_checkpoint(path)
    assert path.name == "step-00000007"
    assert (loaded.step, loaded.epoch, loaded.headline) == (
        7,
        0,
        {"metric": "miou", "mode": "max", "value": 0.5},
    )
    assert loaded.model["weight"].tolist() == [7.0] * 8
    assert loaded.ema["weight"].tolist() == [7.5] * 8
    assert loaded.state["nested"] == [1, (2.5, "x", None, b"y", True)]
    assert loaded.state["od"]["a"].tolist() == [[1, 0], [0, 1]]
    assert (loaded.config, loaded.statistics, loaded.metadata) == (
        saved.config,
        saved.statistics,
        saved.metadata,
    )
    assert loaded.path == path


def test_optional_parts_may_be_absent_and_an_infinite_headline_is_none(tmp_path):
    headline = {"metric": "loss", "mode": "min", "value": float("nan")}
    path = save_checkpoint(tmp_path, make(1, ema=None, statistics=None, headline=headline), best=False)
    loaded = load_checkpoint(path)
    assert loaded.ema is None
    assert loaded.statistics is None
    assert loaded.headline == {"metric": "loss", "mode": "min", "value": None}
    assert not (tmp_path / "best").exists()


def test_manifest_tells_sizes_sums_versions_and_world(tmp_path):
    path = save_checkpoint(tmp_path, make(3), best=False)
    manifest = json.loads((path / MANIFEST).read_text())
    told = subprocess.run(["sha256sum", *FILES], cwd=path, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1]: line.split()[0] for line in told.splitlines()} == {
        name: entry["sha256"] for name, entry in manifest["files"].items()
    }
    assert all((path / name).stat().st_size == manifest["files"][name]["bytes"] for name in FILES)
    assert torch.__version__.startswith(manifest["versions"]["torch"].split("+")[0])
    assert (manifest["schema"], manifest["step"], manifest["epoch"], manifest["world"]) == (2, 3, 0, 1)
    assert read_manifest(path)["step"] == 3


def test_tied_sliced_transposed_and_channels_last_weights(tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 2, 2)
    model = {
        "one": base,
        "tied": base,
        "slice": base[:, 1:2],
        "channels_last": base.clone().to(memory_format=torch.channels_last),
        "transposed": base.reshape(6, 4).t(),
        "scalar": torch.tensor(5),
        "empty": torch.empty(0),
        "empty_too": torch.empty(0, 3),
        "half": base.to(torch.bfloat16),
        "parameter": nn.Parameter(base * 2),
    }
    loaded = load_checkpoint(save_checkpoint(tmp_path, make(1, model=model), best=False)).model
    assert loaded.keys() == model.keys()
    for name, tensor in model.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.detach())


def test_a_small_view_does_not_store_the_tensor_it_looks_into(tmp_path):
    big = torch.zeros(1_000_000)
    path = save_checkpoint(tmp_path, make(1, state={"view": big[:2]}), best=False)
    assert (path / "state.pt").stat().st_size < 10_000


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"state": {"a": {"b": np.float64(1)}}}, r"state\['a'\]\['b'\] is a numpy.float64"),
        ({"state": {"where": Path("x")}}, r"state\['where'\] is a pathlib"),
        ({"state": {"list": [1, {2, 3}]}}, r"state\['list'\]\[1\] is a builtins.set"),
        ({"model": {"weight": 3.0}}, r"model\['weight'\] is a float"),
        ({"metadata": {"labels": {0: "a"}}}, r"metadata\['labels'\] has the key 0"),
    ],
)
def test_what_cannot_be_stored_is_named_before_anything_is_written(tmp_path, fields, text):
    with pytest.raises(TypeError, match=text):
        save_checkpoint(tmp_path, make(1, **fields), best=False)
    assert list(tmp_path.iterdir()) == []


def test_keeps_the_last_two_and_the_best(tmp_path):
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, make(step), best=step == 1, keep_last=2)
    assert names(tmp_path) == ["step-00000001", "step-00000003", "step-00000004"]
    assert (tmp_path / "last").read_text() == "step-00000004\n"
    assert (tmp_path / "best").read_text() == "step-00000001\n"
    with pytest.raises(ValueError, match="keep_last"):
        save_checkpoint(tmp_path, make(5), best=False, keep_last=0)


def test_continuing_from_an_earlier_step_keeps_the_new_branch(tmp_path):
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, make(step), best=step == 30, keep_last=3)
    save_checkpoint(tmp_path, make(15), best=False, keep_last=2)
    assert names(tmp_path) == ["step-00000010", "step-00000015", "step-00000030"]
    loaded, lines = load_latest_good(tmp_path)
    assert (loaded.step, lines) == (15, [])
    flip_bit(tmp_path / "step-00000015" / "state.pt", 100)
    assert load_latest_good(tmp_path)[0].step == 10


def test_saving_a_step_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, make(5), best=True)
    save_checkpoint(tmp_path, make(5, value=-1.0), best=True)
    assert names(tmp_path) == ["step-00000005"]
    assert load_checkpoint(tmp_path / "step-00000005").model["weight"][0] == -1


def test_the_best_survives_its_step_being_saved_again_with_other_weights(tmp_path):
    save_checkpoint(tmp_path, make(5), best=True)
    for value in (-1.0, -2.0):
        save_checkpoint(tmp_path, make(5, value=value), best=False)
        assert load_checkpoint(find_checkpoint("best", tmp_path)).model["weight"][0] == 5
        assert load_checkpoint(find_checkpoint("last", tmp_path)).model["weight"][0] == value
    save_checkpoint(tmp_path, make(6), best=True, keep_last=1)
    assert names(tmp_path) == ["step-00000006"]


def test_find_accepts_run_folder_checkpoint_folder_and_pointers(tmp_path):
    root = tmp_path / "run" / "checkpoints"
    for step in (1, 2):
        save_checkpoint(root, make(step), best=step == 1)
    run = tmp_path / "run"
    assert find_checkpoint(run).name == "step-00000002"
    assert find_checkpoint(str(root)).name == "step-00000002"
    assert find_checkpoint(root / "step-00000001").name == "step-00000001"
    assert find_checkpoint(root / "best").name == "step-00000001"
    assert find_checkpoint("last", run).name == "step-00000002"
    assert find_checkpoint("best", run).name == "step-00000001"
    moved = (root / "step-00000001").rename(tmp_path / "exported")
    assert load_checkpoint(find_checkpoint(moved)).step == 1
    with pytest.raises(CheckpointError, match="nowhere: no such"):
        find_checkpoint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        find_checkpoint(tmp_path / "empty")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped", "removed"])
def test_damage_is_named_and_the_one_before_is_used(tmp_path, name, damage):
    for step in (1, 2):
        save_checkpoint(tmp_path, make(step), best=False)
    path = tmp_path / "step-00000002" / name
    size = path.stat().st_size
    if damage == "flipped":
        flip_bit(path, size // 2)
    elif damage == "removed":
        path.unlink()
    else:
        os.truncate(path, 0 if damage == "emptied" else size - 1)
    expected = {"flipped": "BAD sha256", "removed": "missing"}.get(damage, "size")
    if name == MANIFEST and damage != "removed":
        expected = "BAD sha256"
    assert [entry for entry in verify_checkpoint(path.parent) if entry.status != "ok"] == [(name, expected)]
    with pytest.raises(CheckpointError, match=f"step-00000002: {name} {expected}"):
        load_checkpoint(path.parent)
    for where in (tmp_path, path.parent):
        loaded, lines = load_latest_good(where)
        assert loaded.step == 1
        assert f"{name} {expected}" in lines[0]
        assert "using" in lines[1]
        assert "step-00000001" in lines[1]


def test_every_single_bit_of_the_manifest_counts(tmp_path):
    content = (save_checkpoint(tmp_path, make(1), best=False) / MANIFEST).read_bytes()
    assert unsealed(content)["step"] == 1
    for position in range(len(content)):
        for bit in (1, 32):
            flipped = bytes([content[position] ^ bit])
            assert unsealed(content[:position] + flipped + content[position + 1 :]) is None


def test_an_edited_manifest_is_detected(tmp_path):
    path = save_checkpoint(tmp_path, make(1), best=False) / MANIFEST
    path.write_text(path.read_text().replace('"step": 1', '"step": 9'))
    with pytest.raises(CheckpointError, match=r"manifest.json BAD sha256"):
        load_checkpoint(path.parent)


@pytest.mark.parametrize("content", ["", "\n", "step-00000009\n", "../outside\n", "\u00e9"])
def test_a_damaged_pointer_is_named_and_the_newest_is_used(tmp_path, content):
    for step in (1, 2):
        save_checkpoint(tmp_path, make(step), best=False)
    (tmp_path / "last").write_text(content, encoding="utf-8")
    loaded, lines = load_latest_good("last", tmp_path)
    assert loaded.step == 2
    assert str(tmp_path / "last") in lines[0]


def test_when_none_is_good_each_is_listed(tmp_path):
    for step in (1, 2):
        path = save_checkpoint(tmp_path, make(step), best=False)
        (path / ("state.pt" if step == 1 else MANIFEST)).unlink()
    with pytest.raises(CheckpointError) as caught:
        load_latest_good(tmp_path)
    assert "step-00000001: state.pt missing" in str(caught.value)
    assert "step-00000002: manifest.json missing" in str(caught.value)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize(
    "write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))]
)
def test_a_pickle_that_runs_code_is_refused(tmp_path, write):
    path = save_checkpoint(tmp_path, make(1), best=False)
    write({"x": Malicious(tmp_path / "executed")}, path / "state.pt")
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["seal"]
    content = (path / "state.pt").read_bytes()
    told = subprocess.run(["sha256sum", path / "state.pt"], capture_output=True, text=True, check=True).stdout
    manifest["files"]["state.pt"] = {"bytes": len(content), "sha256": told.split()[0]}
    (path / MANIFEST).write_bytes(sealed(manifest))
    with pytest.raises(CheckpointError, match=r"state.pt: refused"):
        load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("schema", [1, 3])
def test_a_checkpoint_of_another_version_is_refused(tmp_path, schema):
    path = save_checkpoint(tmp_path, make(1), best=False)
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["seal"]
    (path / MANIFEST).write_bytes(sealed({**manifest, "schema": schema}))
    with pytest.raises(CheckpointError, match=f"another version: schema {schema}, this version reads 2"):
        load_checkpoint(path)


@pytest.mark.parametrize("part", ["model", "state", "config"])
def test_a_full_disk_leaves_the_old_checkpoints_intact(tmp_path, part):
    save_checkpoint(tmp_path, make(1), best=True)
    big = {
        "model": {"model": {"weight": torch.zeros(50_000)}},
        "state": {"state": {"moments": torch.zeros(50_000)}},
        "config": {"config": "#" * 200_000},
    }[part]
    with (
        largest_file(20_000),
        pytest.raises(CheckpointError, match="step-00000002: File too large") as caught,
    ):
        save_checkpoint(tmp_path, make(2, **big), best=True)
    assert caught.value.errno == errno.EFBIG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last", "step-00000001"]
    loaded, lines = load_latest_good(tmp_path)
    assert (loaded.step, lines) == (1, [])
    save_checkpoint(tmp_path, make(2, **big), best=True)
    assert load_latest_good(tmp_path)[0].step == 2


@pytest.mark.parametrize("step", [1, 2])
def test_a_disk_that_fills_up_at_the_pointers_loses_nothing(tmp_path, monkeypatch, step):
    save_checkpoint(tmp_path, make(1), best=True)

    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_folders, "replace_text", full)
        with pytest.raises(CheckpointError, match="No space left"):
            save_checkpoint(tmp_path, make(step, value=-1.0), best=False)
    for where in ("last", "best"):
        loaded, lines = load_latest_good(where, tmp_path)
        assert (loaded.step, loaded.model["weight"][0].item(), lines) == (1, 1, [])


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file/checkpoints/step-00000001: Not a directory"):
        save_checkpoint(tmp_path / "file" / "checkpoints", make(1), best=False)


def test_a_read_only_folder_is_named(tmp_path):
    save_checkpoint(tmp_path / "root", make(1), best=False)
    (tmp_path / "root").chmod(0o555)
    if os.access(tmp_path / "root", os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(CheckpointError, match="Permission denied") as caught:
        save_checkpoint(tmp_path / "root", make(2), best=False)
    assert caught.value.errno == errno.EACCES
    assert load_latest_good(tmp_path / "root")[0].step == 1


def test_load_weights_lists_every_mismatch_and_changes_nothing():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {
        "0.weight": torch.ones(3, 2),
        "0.bias": torch.ones(4),
        "1.weight": torch.ones(1, 3),
        "head": torch.ones(1),
    }
    with pytest.raises(ValueError, match="best checkpoint does not fit the model") as caught:
        load_weights(model, state, what="best checkpoint")
    assert "missing (1): 1.bias" in str(caught.value)
    assert "unexpected (1): head" in str(caught.value)
    assert "wrong shape (1): 0.bias: (4,) instead of (3,)" in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_load_weights_into_tied_channels_last_model(tmp_path):
    model = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)]).to(memory_format=torch.channels_last)
    model[1].weight = model[0].weight
    path = save_checkpoint(tmp_path, make(1, model=model.state_dict()), best=False)
    other = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)]).to(memory_format=torch.channels_last)
    other[1].weight = other[0].weight
    load_weights(other, load_checkpoint(path).model, what="it")
    assert torch.equal(other[1].weight, model[0].weight)
    assert other[0].weight.is_contiguous(memory_format=torch.channels_last)


KILLER = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from common.engine.checkpoint import Checkpoint, load_latest_good, save_checkpoint, verify_checkpoint

def save(root, step, best):
    weights = {"weight": torch.full((20_000,), float(step))}
    save_checkpoint(root, Checkpoint(step=step, epoch=0, headline=None, model=weights, ema=weights, config="",
                                     state={"best": best, "moments": weights["weight"].clone()}), best=best)

def check(root, acknowledged):
    for folder in root.glob("step-*"):
        if ".tmp-" not in folder.name:
            assert all(status == "ok" for _, status in verify_checkpoint(folder)), folder
    last, _ = load_latest_good("last", root)
    best, lines = load_latest_good("best", root)
    assert last.step >= acknowledged, (last.step, acknowledged)
    assert last.model["weight"].eq(last.step).all()
    assert best.state["best"] is True and lines == [], (best.step, lines)
    assert best.step >= last.step or not last.state["best"], (best.step, last.step)
    return last.step

def at_random_moments(root, runs):
    save(root, 1, True)
    random.seed(0)
    for _ in range(runs):
        start = load_latest_good("last", root)[0].step
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            for step in range(start, start + 10_000):
                save(root, step, step % 3 == 0)
                save(root, step, False)
                os.write(write_end, b"%08d" % step)
        os.close(write_end)
        time.sleep(random.random() * 0.08)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        told = os.read(read_end, 65536)
        os.close(read_end)
        check(root, int(told[-8:] or b"0"))

def at_every_file_operation(root, step, best):
    limit = 0
    while True:
        shutil.rmtree(root, ignore_errors=True)
        save(root, 1, False), save(root, 2, True)
        child = os.fork()
        if child == 0:
            left = limit
            def count(event, arguments):
                nonlocal left
                if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
                    left -= 1
                    if left < 0:
                        os._exit(9)
            sys.addaudithook(count)
            save(root, step, best)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        check(root, 2)
        save(root, step, best)
        assert check(root, step) == step
        if code == 0:
            return limit
        assert code == 9, code
        limit += 1

root = Path(sys.argv[1])
at_random_moments(root / "random", int(sys.argv[2]))
counts = [at_every_file_operation(root / "each", int(case[0]), case[1] == "+") for case in sys.argv[3:]]
print(min(counts))
"""


@pytest.mark.parametrize(
    ("runs", "cases"),
    [(20, ["2-", "3+"]), pytest.param(100, ["2-", "2+", "3-", "3+"], marks=pytest.mark.slow)],
)
def test_killed_at_any_moment_of_saving_every_checkpoint_is_whole(tmp_path, runs, cases):
    memory = Path("/dev/shm")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        command = [sys.executable, "-c", KILLER, folder, str(runs), *cases]
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=250
        )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 20
