"""What a user gets for what cannot be trained: exit code 2, one message, no traceback, nothing trained."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from eye_files import gaze_splits, masked
from eye_runs import SMALL, TRAIN, Bench, checked

from eye_fixation.cli import main
from eye_fixation.data.contract import GazeSplits
from eye_fixation.data.pt import FILES, write_folder
from eye_fixation.data.pt_file import file_contents


@pytest.fixture
def tried(tmp_path: Path, data_folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a line, expect a refusal, return what was said."""
    bench = Bench(tmp_path, data_folder, capfd)

    def run(line: str) -> str:
        ran = bench.run(line)
        assert ran.code == 2, ran.out
        assert ran.err.startswith("error: ") or "\nerror: " in ran.err
        assert "Traceback" not in ran.err
        assert not list(tmp_path.glob("**/seed*"))
        assert not list(tmp_path.glob("**/loss_comparison.json"))
        return ran.err

    return run


FLAGS = [
    # losses and seeds
    ("train --loss focl", "no loss is called 'focl'", "focal"),
    ("compare --losses mse softmax", "no loss is called 'softmax'", "softmax_ce"),
    ("compare --losses mse focal mse", "loss mse is listed 2 times: once is enough", ""),
    ("compare --losses documented dice", "loss dice is listed 2 times: once is enough", ""),
    ("train --loss documented", "no loss is called 'documented'", ""),
    ("compare --losses", "--losses", ""),
    ("compare --seeds", "--seeds", ""),
    ("compare --seeds 1 2 1", "--seeds: 1 is listed twice", ""),
    ("train --seed -1", "seed -1: a number from 0 is expected", ""),
    # the demo
    ("compare --demo --data-dir x", "--demo", "--data-dir"),
    ("compare --demo --preset small", "--demo", "--preset"),
    # flags that cannot act
    ("train --loss mse --focal-alpha 0.5", "--focal-alpha has no effect", "mse"),
    ("train --loss focal --sparsity-weight 2", "--sparsity-weight has no effect", "focal"),
    ("compare --losses mse dice --pos-weight 5", "--pos-weight has no effect", "mse, dice"),
    ("train --loss composite_literal --sparsity-penalty 0.5", "--sparsity-penalty has no effect", ""),
    ("train --scheduler cosine --plateau-patience 3", "--plateau-patience", "--scheduler is cosine"),
    ("train --scheduler none --plateau-factor 0.2", "--plateau-factor", "--scheduler is none"),
    ("train --model-type IncepU --norm group", "--norm has no effect", "--model-type is IncepU"),
    ("train --model-type ConvMixer --drop 0.1", "--drop has no effect", "--model-type is ConvMixer"),
    ("train --bootstrap 0 --ci 0.9", "--ci has no effect", "--bootstrap is 0"),
    ("train --wandb-project mine", "--wandb-project has no effect", "--wandb is off"),
    ("train --loss mse --prior-bias all", "--prior-bias has no effect", "mse"),
    ("train --loss bce --prior-bias off --init-from x", "--prior-bias has no effect", "--init-from"),
    ("train --resume a --out b", "--out b with --resume a", ""),
    # values out of range
    ("train --focal-alpha 1.5", "--focal-alpha", "from 0 to 1"),
    ("train --focal-gamma -1", "--focal-gamma", ">= 0"),
    ("train --focal-weight 0 --sparsity-weight 0 --concentration-weight 0", "are all 0", "--focal-weight"),
    ("train --sparsity-penalty 2", "--sparsity-penalty", "value < 2"),
    ("train --loss weighted_mse --pos-weight 0", "--pos-weight", "above 0 or balanced"),
    ("train --loss dice --dice-smooth -1", "--dice-smooth", ">= 0"),
    ("train --epochs 0", "--epochs 0: at least 1 is expected", ""),
    ("train --batch-size 0", "--batch-size 0: at least 1 is expected", ""),
    ("train --max-train -1", "--max-train -1: at least 0 is expected", ""),
    ("train --lr -1", "--lr -1: at least 0 is expected", ""),
    ("train --lr nan", "--lr nan: a finite number is expected", ""),
    ("train --weight-decay -1", "--weight-decay -1", ""),
    ("train --clip-norm -1", "--clip-norm -1", ""),
    ("train --input-sigma -1", "--input-sigma -1", ""),
    ("train --ci 1", "--ci 1: above 0 and below 1 is expected", ""),
    ("train --bootstrap -5", "--bootstrap -5: at least 0 is expected", ""),
    ("train --plateau-factor 1", "--plateau-factor 1: above 0 and below 1 is expected", ""),
    ("train --plateau-patience -1", "--plateau-patience -1: at least 0 is expected", ""),
    ("train --early-stopping-patience -1", "--early-stopping-patience -1", ""),
    ("train --num-threads -1", "--num-threads -1", ""),
    ("train --model-type unet", "--model-type unet", "gSTA, IncepU, TAU, ConvMixer"),
    ("train --epocs 3", "unknown flag --epocs", "--epochs"),
    ("train --preset tiny", "--preset", "small"),
]


@pytest.mark.parametrize(("line", "text", "more"), FLAGS, ids=[line for line, *_ in FLAGS])
def test_what_cannot_be_is_refused_before_anything_is_read(line: str, text: str, more: str) -> None:
    said = checked(line)
    assert text in said
    assert more in said


def test_contradictions_are_all_named_at_once(tried: Callable[..., str]) -> None:
    said = tried("train --loss mse --epochs 0 --focal-gamma 1 --scheduler none --plateau-patience 2")
    for flag in ("--epochs 0", "--focal-gamma has no effect", "--plateau-patience has no effect"):
        assert flag in said


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--skip aligned --out-len 4", ["--skip", "--in-len 3", "--out-len 4"]),
        ("--in-len 15 --out-len 15", ["train_data.pt", "--in-len 15 and --out-len 15 need 30"]),
        ("--in-len 0", ["--in-len 0: at least 1 is expected"]),
        ("--out-len 0 --skip last", ["--out-len 0: at least 1 is expected"]),
        ("--N-S 3", ["--N-S 3: an even number of at least 2 is expected"]),
        ("--N-T 1", ["--N-T 1: a number of at least 2 is expected"]),
        ("--N-S 12", ["--N-S 12", "2^(N_S/2) = 64, not 32 x 32"]),
        ("--hid-S 3", ["--hid-S 3"]),
        ("--norm group", ["--norm group needs channels divisible by 8"]),
        ("--drop 1", ["--drop 1"]),
        ("--mlp-ratio 0", ["--mlp-ratio 0"]),
        ("--init-from nowhere.pt", ["--init-from: no file at nowhere.pt"]),
        ("--data-dir nowhere", ["--data-dir nowhere: train_data.pt, val_data.pt, test_data.pt not found"]),
        ("--coord-order yx", ["--coord-order yx", "xy"]),
        ("--device cuda:99", ["--device: device 'cuda:99' is not there"]),
        ("--out data/train_data.pt", ["--out"]),
        ("--results-file data", ["--results-file data"]),
        ("--results-file data/train_data.pt/r.json", ["train_data.pt"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(
    words: str, texts: list[str], tried: Callable[..., str]
) -> None:
    said = tried(f"{TRAIN} {SMALL} {words}")
    assert all(text in said for text in texts), said


def test_weights_of_another_network_are_described(tried: Callable[..., str], tmp_path: Path) -> None:
    torch.save({"enc.enc.0.conv.conv.weight": torch.zeros(4, 1, 3, 3)}, tmp_path / "other.pt")
    said = tried(f"{TRAIN} {SMALL} --init-from {tmp_path / 'other.pt'}")
    assert f"--init-from {tmp_path / 'other.pt'} does not fit the model" in said
    assert "[4, 1, 3, 3] in the file, [2, 1, 3, 3] in the model" in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--loss focal --focal-alpha 1", "alpha"),
        ("--loss composite --focal-alpha 0", "alpha"),
        ("--loss sparsity --sparsity-penalty 1", "an L1 weight of 1 blanks every cell"),
        ("--loss dice --prior-bias all", "dice stalls with it"),
    ],
)
def test_what_is_odd_is_said(words: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert checked(f"train {' '.join(words.split()[:2])}") == ""
    assert not caplog.messages
    assert checked(f"train {words}") == ""
    assert text in caplog.text


def put(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda contents: contents.update(values)


def shorten(contents: dict[str, Any]) -> None:
    contents["fixation_mask"] = contents["fixation_mask"][:, :19]


def lose(contents: dict[str, Any]) -> None:
    contents["coordinates"][:, :, 0] = math.nan


POINTS = torch.zeros(24, 20, 3)
FILES_SPOILT: dict[str, tuple[str, Callable[[dict[str, Any]], object], list[str]]] = {
    "key missing": (
        "val", lambda c: c.pop("coordinates"),
        ["val_data.pt", "no tensor 'coordinates'; keys found: fixation_mask"],
    ),
    "shapes disagree": ("train", shorten, ["train_data.pt", "(24, 20, 2)", "(24, 19)"]),
    "three numbers a point": ("train", put(coordinates=POINTS), ["train_data.pt", "(24, 20, 3)"]),
    "no finite number": ("test", lose, ["test_data.pt"]),
    "all masked": (
        "test", lambda c: c["fixation_mask"].zero_(),
        ["test_data.pt", "no valid frame: 12 sequences, 240 frames, 0 not masked"],
    ),
    "other source": ("test", lambda c: c["metadata"].update(source="real"), ["simulated", "real"]),
    "other rate": ("val", lambda c: c["metadata"].update(rate_hz=5.0), ["10.0", "5.0", "--rate-hz"]),
    "other grid": ("val", lambda c: c["metadata"].update(img_size=64), ["32", "64", "--img-size"]),
    "group in two splits": (
        "test", lambda c: c["group"].add_(-200), ["recordings are in", "train_data.pt", "test_data.pt"]
    ),
    "frames of the other order": ("train", lambda c: c.update(frames=turned(c)), ["--coord-order yx"]),
}  # fmt: skip


def turned(contents: dict[str, Any]) -> torch.Tensor:
    """Frames drawn with rows and columns exchanged."""
    cells = contents["coordinates"].long().clamp(max=31)
    frames = torch.zeros(*cells.shape[:2], 1, 32, 32)
    sequence, frame = torch.meshgrid(*map(torch.arange, cells.shape[:2]), indexing="ij")
    frames[sequence, frame, 0, cells[..., 0], cells[..., 1]] = 1
    return frames


@pytest.mark.parametrize("name", FILES_SPOILT)
def test_files_that_cannot_be_used_are_named(
    name: str, tried: Callable[..., str], tmp_path: Path, splits: GazeSplits
) -> None:
    split, change, texts = FILES_SPOILT[name]
    write_folder(tmp_path / "gaze", splits, {})
    contents = file_contents(dict(zip(("train", "val", "test"), splits))[split])
    contents["metadata"] = dict(contents["metadata"])
    contents = {
        key: part.clone() if isinstance(part, torch.Tensor) else part for key, part in contents.items()
    }
    change(contents)
    torch.save(contents, tmp_path / "gaze" / f"{split}_data.pt")
    said = tried(f"{TRAIN} {SMALL} --data-dir {tmp_path / 'gaze'}")
    assert all(text in said for text in texts), said


def test_a_file_that_is_missing_is_named(
    tried: Callable[..., str], tmp_path: Path, splits: GazeSplits
) -> None:
    write_folder(tmp_path / "gaze", splits, {})
    (tmp_path / "gaze" / "val_data.pt").unlink()
    said = tried(f"{TRAIN} {SMALL} --data-dir {tmp_path / 'gaze'}")
    assert f"--data-dir {tmp_path / 'gaze'}: val_data.pt not found" in said


@pytest.mark.parametrize("content", [b"", b"not a tensor file", [1, 2]])
def test_a_file_of_something_else_is_named(
    content: object, tried: Callable[..., str], tmp_path: Path, splits: GazeSplits
) -> None:
    write_folder(tmp_path / "gaze", splits, {})
    path = tmp_path / "gaze" / "train_data.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    assert str(path) in tried(f"{TRAIN} {SMALL} --data-dir {tmp_path / 'gaze'}")


def test_a_sequence_in_two_splits_is_named(
    tried: Callable[..., str], tmp_path: Path, splits: GazeSplits
) -> None:
    test = splits.test
    test.coordinates[3] = splits.train.coordinates[5]
    write_folder(tmp_path / "gaze", splits, {})
    said = tried(f"{TRAIN} {SMALL} --data-dir {tmp_path / 'gaze'}")
    assert "1 sequences are identical" in said
    assert "sequences 5 and 3" in said


def test_a_split_without_a_target_is_refused_and_sequences_without_are_counted(
    tried: Callable[..., str],
    tmp_path: Path,
    splits: GazeSplits,
    data_folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    targets = [(sequence, frame) for sequence in range(12) for frame in range(3, 20)]
    write_folder(tmp_path / "none", splits._replace(test=masked(splits.test, *targets)), {})
    said = tried(f"{TRAIN} {SMALL} --data-dir {tmp_path / 'none'}")
    assert "no sequence has a valid target frame: 12 sequences" in said
    some = masked(splits.test, *targets[: 2 * 17])
    write_folder(tmp_path / "some", splits._replace(test=some), {})
    bench = Bench(tmp_path / "runs", data_folder, capfd)
    ran = bench.run(f"{TRAIN} {SMALL} --data-dir {tmp_path / 'some'}")
    assert ran.code == 0
    assert ran.content["data"]["sequences"]["test"] == 10
    assert ran.content["data"]["counts"]["test"]["without_target"] == 2


def test_without_data_every_command_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eye_fixation.data.pt._APP", tmp_path / "nowhere")
    for line in ("compare", "train", "evaluate --baseline uniform"):
        assert main(line.split()) == 2
        lines = capfd.readouterr().err.splitlines()
        assert lines[0] == f"error: no eye-fixation data: {', '.join(FILES)} not found"
        assert lines[1].split() == ["looked", "in", str(tmp_path / "data")]
        assert lines[-2].startswith("  simulated   eye-fixation prepare --out ")
        assert lines[-1].startswith("  your own    eye-fixation prepare --source csv --input gaze.csv")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_takes_no_data_that_lie_in_its_folder(tried: Callable[..., str], tmp_path: Path) -> None:
    write_folder(tmp_path / "run" / "data", gaze_splits(source="real"), {})
    assert "data: holds" in tried(f"compare --demo --losses mse {SMALL} --out {tmp_path / 'run'}")


def test_the_demo_keeps_what_was_typed(
    tmp_path: Path, data_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = Bench(tmp_path, data_folder, capfd).run(f"compare --demo --losses mse {SMALL}")
    config = ran.content["config"]
    assert (config["network"]["preset"], config["network"]["hid_S"]) == ("smoke", 2)
    assert (config["optimization"]["epochs"], config["optimization"]["batch_size"]) == (1, 4)
    assert ran.content["data"]["sequences"] == {"train": 8, "val": 8, "test": 32}
    assert ran.content["data"]["source"] == "simulated"
