"""The doctor tells what is wrong, counts it, and says nothing about what is right."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mv_files import entry, view_of, write_annotations, write_clip, write_split
from mv_tiny_backbone import tiny_backbone

from common.config import run_main
from mvfouls import backbones
from mvfouls.annotations import Annotations
from mvfouls.config_verbs import DoctorConfig
from mvfouls.doctor import main, window_bytes
from mvfouls.doctor_checks import Examined, Report, decode_clips
from mvfouls.settings import SplitSource
from mvfouls.survey import View

Doctor = Callable[..., str]
SOUND = {"train": range(2), "valid": range(2, 4)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sound splits of two actions with two clips."""
    for name, numbers in SOUND.items():
        write_split(tmp_path, {str(k): entry(action=str(k)) for k in numbers}, name=name)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Doctor:
    def call(root: Path, line: str = "", *, code: int = 0) -> str:
        argv = ["--dataset_root", str(root), *line.split()]
        assert run_main(main, DoctorConfig, argv, prog="mvfouls doctor") == code
        said = capfd.readouterr()
        return said.err if code == 2 else said.out

    return call


def counted(out: str) -> tuple[int, int]:
    """Return the errors and warnings of the last line, which the lines before it must bear out."""
    *lines, last = out.splitlines()
    found = re.fullmatch(r"doctor: (\d+) errors, (\d+) warnings", last)
    assert found
    assert sum(line.startswith("error ") for line in lines) == int(found[1])
    assert sum(line.startswith("warning ") for line in lines) == int(found[2])
    return int(found[1]), int(found[2])


def test_sound_data_has_no_finding(root: Path, run: Doctor) -> None:
    out = run(root, "--device cpu")
    assert counted(out) == (0, 0)
    for text in (
        f"layout   train {root / 'train'}\n",
        "layout   test is not there",
        "data     train 2 actions 4 clips | views 2:2 | missing clips 0 short 0",
        "clips    valid size 80x48:4 | fps 25:4 | frames 126:4",
        "decode   8 of 8 clips decode",
        "overlap  no two clips are the same",
        f"cache    {root / 'mvfouls_cache'}   0.00295 GB as uint8 for all clips   0 GB in it",
        "weights  none: a network would start from random numbers",
        "device   cpu",
        f"torch {torch.__version__.split('+')[0]}",
    ):
        assert text in out
    assert not (root / "mvfouls_cache").exists()


def test_real_clips_lack_exactly_one(real_data: Path, run: Doctor) -> None:
    out = run(real_data, "--num_workers 1")
    assert counted(out) == (0, 2)
    assert "test clips missing 1: action_4/clip_2" in out
    assert "test size 398x224:14 | fps 25:14 | frames 126:12 127:2" in out
    assert "dataset has annotations and is not named as a split" in out


def break_json(root: Path) -> None:
    (root / "train" / "annotations.json").write_text("{")


def change(root: Path, split: str, **labels: str) -> None:
    numbers = SOUND[split]
    actions = {str(k): entry(action=str(k), **labels) for k in numbers}
    write_annotations(root / split / "annotations.json", actions, set_name=split)


def unlabelled(root: Path) -> None:
    actions = {str(k): entry(action=str(k), labelled=False) for k in SOUND["valid"]}
    write_annotations(root / "valid" / "annotations.json", actions, set_name="valid")


def empty(root: Path) -> None:
    (root / "train" / "action_0" / "clip_1.mp4").write_bytes(b"")


def copied(root: Path, to: str) -> None:
    (root / to).write_bytes((root / "train" / "action_0" / "clip_0.mp4").read_bytes())


def same_match(root: Path) -> None:
    path = root / "valid" / "annotations.json"
    path.write_text(path.read_text().replace("match 2", "match 1"))


DAMAGE: dict[str, tuple[Callable[[Path], object], tuple[int, int], str]] = {
    "missing": (
        lambda root: (root / "train" / "action_0" / "clip_1.mp4").unlink(),
        (0, 1),
        "train clips missing 1: action_0/clip_1",
    ),
    "several missing": (
        lambda root: [(root / "train" / f"action_{k}" / "clip_1.mp4").unlink() for k in range(2)],
        (1, 1),
        "error    train: 2 of 4 clips cannot be used, 50.0%",
    ),
    "no view": (
        lambda root: [(root / "train" / "action_0" / f"clip_{k}.mp4").unlink() for k in range(2)],
        (2, 1),
        "error    train: no view left of action 0: action_0/clip_0 (missing)",
    ),
    "empty": (empty, (0, 1), "train clips undecodable 1: action_0/clip_1 (the file is empty)"),
    "short": (
        lambda root: write_clip(root / "train" / "action_0" / "clip_1.mp4", 75),
        (0, 1),
        "train clips that end inside the window 1: action_0/clip_1",
    ),
    "unlisted": (
        lambda root: write_clip(root / "train" / "action_0" / "clip_7.mp4"),
        (0, 1),
        "train clips not listed 1: action_0/clip_7",
    ),
    "size": (
        lambda root: write_clip(root / "train" / "action_0" / "clip_1.mp4", size=(64, 48)),
        (0, 1),
        "train clips of another size 1: action_0/clip_1",
    ),
    "fps": (
        lambda root: write_clip(root / "train" / "action_0" / "clip_1.mp4", fps=30),
        (0, 1),
        "train clips not at 25 fps 1: action_0/clip_1",
    ),
    "overlap": (
        lambda root: copied(root, "valid/action_3/clip_1.mp4"),
        (1, 0),
        "error    splits train and valid must not share any: the same clip: ",
    ),
    "twice in a split": (
        lambda root: copied(root, "train/action_1/clip_1.mp4"),
        (0, 1),
        "warning  the same clip: ",
    ),
    "match": (same_match, (0, 1), "splits train and valid share 1 matches: league\\season\\match 1"),
    "unknown label": (
        lambda root: change(root, "train", severity="6.0"),
        (1, 1),
        "error    {root}/train/annotations.json: action 0: Severity is '6.0'",
    ),
    "no labels": (unlabelled, (1, 0), "valid/annotations.json: no labels"),
    "json": (break_json, (1, 0), "train/annotations.json: line 1, column 2"),
    "no split": (
        lambda root: (root / "valid").rename(root / "other"),
        (0, 1),
        "nothing can be trained: --dataset_root {root}: no folder of split valid",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_is_named(root: Path, run: Doctor, damage: str) -> None:
    spoil, numbers, text = DAMAGE[damage]
    spoil(root)
    out = run(root, "--no-decode_clips", code=int(numbers[0] > 0))
    assert counted(out) == numbers
    assert text.format(root=root) in out
    assert "decode   " not in out


def test_a_folder_without_a_split_is_an_error(tmp_path: Path, run: Doctor) -> None:
    out = run(tmp_path, code=1)
    assert counted(out) == (1, 0)
    assert "no folder of split train; tried, in any case:" in out
    assert "cache    " not in out


@pytest.mark.parametrize(
    ("frames", "claimed", "numbers", "text"),
    [
        (126, 126, (0, 0), "1 of 1 clips decode"),
        (75, 126, (0, 1), "warning valid action_0/clip_0: 75 of 126 frames decode: its last frame is"),
        (30, 126, (1, 0), "error valid action_0/clip_0: "),
    ],
)
def test_clips_are_decoded_to_the_end_of_the_window(
    tmp_path: Path, frames: int, claimed: int, numbers: tuple[int, int], text: str
) -> None:
    view = view_of(write_clip(tmp_path / "action_0" / "clip_0.mp4", frames), frames=claimed)
    lines: list[str] = []
    report = Report(lambda label, line: lines.append(f"{label} {line}"))
    annotations = Annotations(set_name="valid", actions=(), path=tmp_path)
    source = SplitSource(name="valid", folder=tmp_path, annotations=tmp_path)
    decode_clips([Examined(source=source, annotations=annotations, views=(view,))], 2, report)
    assert (report.errors, report.warnings) == numbers
    assert any(text in line for line in lines), lines


def save(path: Path, **changes: torch.Tensor) -> Path:
    tensors = {**tiny_backbone().network.state_dict(), "fc.weight": torch.ones(400, 16), **changes}
    torch.save(tensors, path)
    return path


def test_weights_of_the_right_names_and_shapes(
    root: Path, run: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "build_backbone", lambda name, frames: tiny_backbone())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    line = "--no-decode_clips --weights"
    path = save(tmp_path / "w.pth")
    out = run(root, f"{line} {path}")
    assert counted(out) == (0, 0)
    assert f"weights  {path}   " in out
    assert "tensors, all of r2plus1d_18   its classifier of 400 classes is not used" in out
    out = run(root, f"{line} auto --weights_dir {tmp_path} --backbone_name mc3_18", code=1)
    assert "error    --weights auto: nothing at " in out
    path.rename(tmp_path / "mc3_18-a90a0ba3.pth")
    assert "all of mc3_18" in run(root, f"{line} auto --weights_dir {tmp_path} --backbone_name mc3_18")
    spoiled = save(tmp_path / "n.pth", **{"stem.0.weight": torch.full((4, 3, 1, 4, 4), torch.nan)})
    out = run(root, f"{line} {spoiled}", code=1)
    assert counted(out) == (1, 0)
    assert "NaN or infinite numbers in stem.0.weight" in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--weights {w}", "the file does not fit r2plus1d_18: stem.3.weight is missing"),
        (
            "--weights {w} --backbone_name swin3d_t",
            "the file does not fit swin3d_t: patch_embed.proj.weight is missing",
        ),
        ("--weights absent.pth", "--weights: no file at absent.pth"),
        ("--device cuda:99", "--device cuda:99: "),
        ("--device gpu", "--device gpu: "),
    ],
)
def test_weights_or_a_device_that_cannot_be_used(root: Path, run: Doctor, words: str, text: str) -> None:
    out = run(root, f"--no-decode_clips {words.format(w=save(root / 'w.pth'))}", code=1)
    assert counted(out) == (1, 0)
    assert text in out


def test_the_store_needs_a_place(root: Path, run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "file").write_bytes(b"")
    out = run(root, f"--no-decode_clips --cache_dir {root / 'file' / 'cache'}")
    assert counted(out) == (0, 1)
    assert "cannot be written to; clips are decoded each time" in out
    free = SimpleNamespace(free=2 * 10**9 + 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    out = run(root, f"--no-decode_clips --cache_dir {root / 'cache'}")
    assert counted(out) == (0, 1)
    assert "has no room for all clips, besides 2 GB that stay free" in out
    out = run(root, f"--no-decode_clips --cache_dir {root / 'cache'} --cache_format jpeg")
    assert counted(out) == (0, 0)
    assert "0.000295 GB as jpeg" in out


@pytest.mark.parametrize(
    ("fps", "frames", "stored"), [(25.0, 126, 32), (25.0, 75, 16), (50.0, 252, 63), (25.0, 40, 0)]
)
def test_a_stored_window_has_the_frames_59_to_90(fps: float, frames: int, stored: int) -> None:
    view = View(path=Path("a.mp4"), index=0, frames=frames, fps=fps, size=(398, 224))
    assert window_bytes(view) == stored * 398 * 224 * 3


def test_flags_that_cannot_act(root: Path, run: Doctor, caplog: pytest.LogCaptureFixture) -> None:
    assert "--num-workers 0: at least 1 is expected" in run(root, "--num_workers 0", code=2)
    run(root, "--no-decode_clips --num_workers 3 --backbone_name s3d --weights_dir .")
    assert caplog.messages == [
        "--num-workers has no effect because --no-decode-clips decodes nothing",
        "--backbone-name has no effect because --weights is none",
        "--weights-dir has no effect because --weights is none, not auto",
    ]


def test_a_missing_field_is_told_once(root: Path, run: Doctor) -> None:
    path = root / "train" / "annotations.json"
    content = json.loads(path.read_text())
    del content["Actions"]["0"]["Offence"]
    path.write_text(json.dumps(content))
    out = run(root, "--no-decode_clips", code=1)
    assert counted(out) == (1, 0)
    assert "action 0: field Offence is missing" in out
