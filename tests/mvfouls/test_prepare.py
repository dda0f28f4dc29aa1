"""Every clip is decoded once, and the rest is told; generated data sets."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from mv_files import entry, write_clip, write_split

from common.config import run_main
from mvfouls import prepare, synthetic
from mvfouls.clips import ClipSource
from mvfouls.config_verbs import PrepareConfig
from mvfouls.frames import FrameRule
from mvfouls.prepare import prepare_windows
from mvfouls.settings import CacheSettings, Policies, ViewSettings
from mvfouls.split import Split, open_split


@pytest.fixture
def splits(tmp_path: Path) -> list[Split]:
    train = write_split(tmp_path, [entry((0, 1, 2)), entry((0, 1))], absent=["action_0/clip_1"])
    valid = write_split(tmp_path, [entry((0, 1))], name="valid")
    (valid.folder / "action_0" / "clip_1.mp4").write_bytes(b"")
    return [
        open_split(source, Policies(), ViewSettings(), FrameRule(), labelled=False)
        for source in (train, valid)
    ]


def clips_in(folder: Path | None) -> ClipSource:
    return ClipSource(FrameRule(), CacheSettings(folder=folder), Policies())


@pytest.mark.parametrize("workers", [1, 3])
def test_clips_are_stored_once_and_a_second_call_goes_on(
    tmp_path: Path, splits: list[Split], workers: int
) -> None:
    lines: list[str] = []
    clips = clips_in(tmp_path / "cache")
    assert clips.prepare(splits[0].views[0])
    counts = prepare_windows(splits, clips, workers=workers, say=lines.append)
    assert (counts.stored, counts.found, counts.not_stored, len(counts.skipped)) == (4, 1, 0, 2)
    assert counts.rate == pytest.approx(4 / counts.seconds)
    assert lines[:2] == [
        "prepare  skipped train/action_0/clip_1: no such file",
        "prepare  skipped valid/action_0/clip_1: the file is empty",
    ]
    assert lines[-1].startswith("prepare  4 clips stored in ")
    assert "clips/s, 1 found, 0 not stored, 2 skipped" in lines[-1]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 5
    again = prepare_windows(splits, clips_in(tmp_path / "cache"), workers=workers, say=lines.append)
    assert (again.stored, again.found, again.rate) == (0, 5, 0)


def test_a_clip_that_breaks_meanwhile_is_skipped(tmp_path: Path, splits: list[Split]) -> None:
    lines: list[str] = []
    write_clip(splits[0].views[1].path, 30)
    counts = prepare_windows(splits, clips_in(tmp_path / "cache"), workers=1, say=lines.append)
    assert (counts.stored, len(counts.skipped)) == (4, 3)
    assert "action_0/clip_2" in counts.skipped[-1].clip
    assert "30 frames decode" in counts.skipped[-1].reason


def test_equal_clips_may_be_stored_at_the_same_time(tmp_path: Path, splits: list[Split]) -> None:
    content = splits[0].views[0].path.read_bytes()
    for view in splits[0].views:
        view.path.write_bytes(content)
    counts = prepare_windows(splits[:1], clips_in(tmp_path / "cache"), workers=4, say=lambda line: None)
    assert counts.stored + counts.found == 4
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_progress_is_told(tmp_path: Path, splits: list[Split], monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(prepare, "PROGRESS_SECONDS", 0.0)
    counts = prepare_windows(splits, clips_in(None), workers=1, say=lines.append)
    assert (counts.not_stored, counts.stored) == (5, 0)
    assert [line.split(" clips,")[0] for line in lines if "/5 clips" in line] == [
        f"prepare  {k}/5" for k in range(1, 6)
    ]
    with pytest.raises(ValueError, match="workers is 0"):
        prepare_windows(splits, clips_in(None), workers=0, say=lines.append)


Prepare = Callable[..., str]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Prepare:
    def call(line: str, *, code: int = 0) -> str:
        assert run_main(prepare.main, PrepareConfig, line.split(), prog="mvfouls prepare") == code
        said = capfd.readouterr()
        return said.err if code == 2 else said.out

    return call


@pytest.fixture
def root(tmp_path: Path, splits: list[Split]) -> Path:
    """A data set with a missing and an empty clip."""
    return splits[0].source.folder.parent


def windows(folder: Path) -> list[list[int]]:
    found: list[list[int]] = json.loads((folder / "windows.json").read_text())
    return found


def test_the_verb_fills_the_store_and_goes_on(root: Path, run: Prepare) -> None:
    out = run(f"--dataset_root {root} --workers 1")
    folder = root / "mvfouls_cache"
    assert "data     train 2 actions 4 clips | views 2:2 | missing clips 1 short 0" in out
    assert f"cache    {folder}   frames 59..90   uint8" in out
    assert "prepare  skipped train/action_0/clip_1: no such file" in out
    assert "prepare  skipped valid/action_0/clip_1: the file is empty" in out
    assert "prepare  5 clips stored in " in out
    assert len(list(folder.glob("*.npy"))) == len(list(folder.glob("*.json"))) - 1 == 5
    assert windows(folder) == [[59, 90]]
    assert "0 clips stored in " in run(f"--dataset_root {root} --workers 3")


def test_window_format_and_place(root: Path, run: Prepare, tmp_path: Path) -> None:
    run(f"--dataset_root {root} --cache_dir {tmp_path / 'pixels'}")
    out = run(f"--dataset_root {root} --cache_dir {tmp_path / 'wide'} --window 50 95 --cache_format jpeg")
    assert "frames 50..95   jpeg" in out
    assert windows(tmp_path / "wide") == [[50, 95]]
    sizes = {
        name: sum(path.stat().st_size for path in (tmp_path / name).glob("*.npy"))
        for name in ("pixels", "wide")
    }
    assert 0 < sizes["wide"] < sizes["pixels"]
    assert not (root / "mvfouls_cache").exists()
    out = run(f"--dataset_root {root} --cache_dir {tmp_path / 'narrow'} --window 70 80")
    assert "frames 63..86, which training may ask for   uint8" in out


def test_a_limit_fills_the_store_and_is_no_failure(root: Path, run: Prepare) -> None:
    out = run(f"--dataset_root {root} --workers 1 --max_cache_gb 0.001")
    assert "it is full; clips that are not in it are decoded each time" in out
    assert "prepare  2 clips stored in " in out
    assert "3 not stored" in out


def test_a_store_that_cannot_be_written_is_a_failure(root: Path, run: Prepare) -> None:
    (root / "file").write_bytes(b"")
    out = run(f"--dataset_root {root} --cache_dir {root / 'file' / 'cache'}", code=1)
    assert "cannot be written" in out
    assert "5 not stored" in out


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated clips are small and short."""
    writer = partial(synthetic.write_dataset, frames=84)
    monkeypatch.setattr(synthetic, "write_dataset", writer)


@pytest.mark.usefixtures("small")
def test_a_data_set_is_generated_and_never_replaced(tmp_path: Path, run: Prepare) -> None:
    folders = {name: tmp_path / name for name in ("a", "other", "damaged")}
    out = run(f"--synthetic {folders['a']} --actions 4 --size 32 32 --seed 1")
    assert "data     train 4 actions " in out
    assert "data     challenge 1 actions " in out
    assert f"written  {folders['a'] / 'mvfouls'}" in out
    run(f"--synthetic {folders['other']} --actions 4 --size 32 32")
    run(f"--synthetic {folders['damaged']} --actions 4 --size 32 32 --seed 1 --damaged_clips")
    found = {name: content(folder) for name, folder in folders.items()}
    assert found["a"].keys() == found["damaged"].keys()
    changed = [name for name, data in found["damaged"].items() if data != found["a"][name]]
    assert [len(found["damaged"][name]) for name in changed] == [0]
    assert found["a"]["mvfouls/train/annotations.json"] != found["other"]["mvfouls/train/annotations.json"]
    assert [path.name for path in folders["a"].iterdir()] == ["mvfouls"]
    assert "mvfouls is there; nothing is replaced" in run(f"--synthetic {folders['a']}", code=2)
    assert content(folders["a"]) == found["a"]


def test_generated_motion_has_four_classes_and_no_oddity(tmp_path: Path, run: Prepare) -> None:
    out = run(f"--synthetic {tmp_path} --contents motion --actions 20 --size 32 32 --seed 3")
    assert "data     train 20 actions 40 clips" in out
    labels = json.loads((tmp_path / "mvfouls" / "train" / "annotations.json").read_text())["Actions"]
    assert len({action["Action class"] for action in labels.values()}) == 4


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_generating_leaves_nothing_behind_when_it_fails(
    tmp_path: Path, run: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, **settings: object) -> None:
        (folder / "mvfouls").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "write_dataset", fail)
    assert "cannot be written: No space left" in run(f"--synthetic {tmp_path / 'new'}", code=2)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "give --dataset-root, whose clips are decoded, or --synthetic"),
        ("--dataset_root . --workers 0", "--workers 0: at least 1 is expected"),
        ("--dataset_root . --window 90 59", "--window 90 59: 0 <= first <= last is expected"),
        ("--dataset_root . --max_cache_gb -1", "--max-cache-gb -1.0: 0 or more is expected"),
        ("--synthetic D --actions 0", "--actions 0: at least 1 is expected"),
        ("--synthetic D --seed -1", "--seed -1: 0 or more is expected"),
        ("--synthetic D --size 33 32", "--size is (33, 32): even lengths of 32 or more are expected"),
        ("--synthetic D --contents motion --damaged_clips", "has none to damage with --contents motion"),
        ("--dataset_root absent", "no split is there"),
    ],
)
def test_bad_lines(run: Prepare, line: str, message: str) -> None:
    assert message in run(line, code=2)


@pytest.mark.usefixtures("small")
def test_flags_that_cannot_act(
    root: Path, run: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(f"--dataset_root {root} --actions 3 --seed 2")
    assert [message.split(" has no effect")[0] for message in caplog.messages] == ["--actions", "--seed"]
    caplog.clear()
    run(f"--synthetic {tmp_path / 'new'} --actions 1 --size 32 32 --cache_dir C --workers 3 --max_cache_gb 2")
    assert [message.split(" has no effect")[0] for message in caplog.messages] == [
        "--cache-dir",
        "--max-cache-gb",
        "--workers",
    ]
