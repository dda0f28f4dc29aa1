"""The three data files: what is read, what is refused with which words, and writing them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from eye_files import gaze_data, gaze_splits, masked

from common.config import UserError
from eye_fixation.data import pt
from eye_fixation.data.contract import GazeData, GazeSplits, Metadata
from eye_fixation.data.pt_file import file_contents
from eye_fixation.frames import create_sparse_frames
from eye_fixation.geometry import Geometry

Change = Callable[[dict[str, Any]], object]


def saved(path: Path, data: GazeData, change: Change | None = None) -> Path:
    """Write one file after `change` of its contents."""
    contents = file_contents(data)
    if change is not None:
        change(contents)
    torch.save(contents, path)
    return path


def drop(*names: str) -> Change:
    return lambda contents: [contents.pop(name) for name in names]


def put(**values: Any) -> Change:
    return lambda contents: contents.update(values)


def test_what_is_written_is_read(tmp_path: Path, splits: GazeSplits) -> None:
    geometry = Geometry((1920.0, 1080.0), (533.0, 301.0), 565.0)
    known = {"geometry": geometry, "sha256": {"a.csv": "1f"}, "counts": {"train": 24}, "stimulus_period": 30}
    train = replace(
        masked(splits.train, (0, 3), (5, 19)),
        metadata=replace(splits.train.metadata, **known),
        subject=torch.arange(24), recording=torch.arange(24) % 5, start_s=torch.rand(24, dtype=torch.float64),
        events=torch.randint(0, 6, (24, 20), dtype=torch.uint8),
    )  # fmt: skip
    pt.write_folder(tmp_path / "data", splits._replace(train=train), {"command": "x"})
    read = pt.load_folder(tmp_path / "data").train
    assert torch.equal(read.coordinates, train.coordinates)
    assert torch.equal(read.mask, train.mask)
    assert read.metadata == train.metadata
    for (name, part), (_, written) in zip(read.named(), train.named(), strict=True):
        assert torch.equal(part, written), name
    assert read.counts == {
        "sequences": 24, "frames": 480, "valid_frames": 478, "invalid_frames": 0, "on_edge": 0
    }  # fmt: skip
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["command"] == "x"
    assert manifest["files"]["train_data.pt"]["sha256"] == read.sha256
    assert len(list((tmp_path / "data").iterdir())) == 4
    assert read.metadata.prevalence == pytest.approx(0.000977, abs=5e-7)


def test_take(splits: GazeSplits) -> None:
    some = splits.train.take([3, 1])
    assert torch.equal(some.coordinates, splits.train.coordinates[[3, 1]])
    assert some.group is not None
    assert some.group.tolist() == [1, 0]
    assert len(splits.train.take(slice(0, 5))) == 5
    assert len(splits.train.take(torch.arange(24) > 20)) == 3
    assert len(splits.train.take([])) == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_older_files_and_other_types(tmp_path: Path, dtype: torch.dtype) -> None:
    data = masked(gaze_data(6, seed=0), (1, 1))
    changes = put(fixation_mask=data.mask.to(dtype), coordinates=data.coordinates.double())
    path = saved(
        tmp_path / "a.pt", data, lambda contents: [changes(contents), drop("metadata", "group")(contents)]
    )
    read = pt.load_file(path)
    assert torch.equal(read.mask, data.mask)
    assert torch.equal(read.coordinates, data.coordinates)
    assert read.metadata == Metadata()
    assert (read.metadata.source, read.metadata.img_size, read.group) == ("unknown", 32, None)
    turned = pt.load_file(path, coord_order="yx")
    assert torch.equal(turned.coordinates, data.coordinates.flip(-1))


def test_frames_outside_the_grid_become_invalid(tmp_path: Path) -> None:
    data = gaze_data(40, seed=0)
    points = data.coordinates.clone()
    points[0, 0, 0], points[1, 1, 1], points[2, 2, 0] = float("nan"), -0.5, 32.5
    points[3, 3, 1] = 32.0
    hidden = masked(data, (4, 4)).mask
    points[4, 4] = float("nan")
    read = pt.load_file(saved(tmp_path / "a.pt", data, put(coordinates=points, fixation_mask=hidden)))
    assert [read.mask[k, k].item() for k in range(5)] == [False, False, False, True, False]
    assert (read.counts["invalid_frames"], read.counts["on_edge"]) == (3, 1)
    assert read.coordinates.isfinite().all()
    assert read.coordinates[2, 2].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("fixation_mask"), r"no tensor 'fixation_mask'; keys found: coordinates \(Tensor\), metadata"),
        (put(coordinates=[1]), r"no tensor 'coordinates'; keys found: coordinates \(list\)"),
        (put(extra=Path("x")), r"holds objects of pathlib.*Path, which are not read"),
        (put(coordinates=torch.rand(6, 20, 3)), r"coordinates \(6, 20, 3\) with fixation_mask \(6, 20\)"),
        (put(fixation_mask=torch.ones(6, 19)), r"mask \(6, 19\) does not fit coordinates \(6, 20, 2\)"),
        (put(fixation_mask=torch.full((6, 20), 0.5)), r"holds 0\.5: only 0 and 1"),
        (put(coordinates=torch.ones(6, 20, 2, dtype=torch.int64)), "are torch.int64: float32"),
        (put(fixation_mask=torch.zeros(6, 20)), "no valid frame: 6 sequences, 120 frames, 0 not masked"),
        (put(coordinates=torch.full((6, 20, 2), 40.0)), r"120 of 120 .* above 32 \(100\.0%, at most 1%\)"),
        (put(group=torch.arange(5)), r"group is \(5,\), with coordinates of 6 sequences \(6,\)"),
        (put(events=torch.zeros(6, 19)), r"events is \(6, 19\), with .* \(6, 20\)"),
        (put(metadata=[1]), "metadata is a list"),
        (put(metadata={"source": "found"}), "source 'found': one of real, simulated, unknown"),
        (put(metadata={"rate_hz": 0}), "rate_hz 0"),
        (put(metadata={"img_size": 1.5}), "img_size 1.5"),
        (put(metadata={"geometry": {"screen_px": [0, 1]}}), "positive"),
        (put(metadata={"schema": 2}), "schema 2"),
        (put(frames=torch.zeros(6, 1, 20, 32, 16)), r"frames \(6, 1, 20, 32, 16\) do not fit"),
        (put(frames=torch.zeros(6, 1, 20, 32, 32)), "frames do not show the coordinates: 0% .* 0% as yx"),
        (put(frames=torch.zeros(6, 1, 20, 64, 64), metadata={"img_size": 32}), "64 x 64 cells, img_size 32"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path: Path, change: Change, said: str) -> None:
    path = saved(tmp_path / "train_data.pt", gaze_data(6, seed=0), change)
    with pytest.raises(UserError, match=said) as error:
        pt.load_file(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut off"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pt"):
        pt.load_file(tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(UserError, match=r"b\.pt: a dictionary is expected, not a list"):
        pt.load_file(tmp_path / "b.pt")


@pytest.mark.parametrize("channels_first", [True, False])
def test_frames_tell_the_axis_order(tmp_path: Path, channels_first: bool) -> None:
    data = gaze_data(6, seed=0)
    frames = create_sparse_frames(data.coordinates, data.mask, 32, "yx")
    frames = frames.transpose(1, 2) if channels_first else frames
    path = saved(tmp_path / "a.pt", data, put(frames=frames))
    with pytest.raises(UserError, match=r"in 100% read as yx; --coord-order yx would fit"):
        pt.load_file(path)
    read = pt.load_file(path, coord_order="yx")
    assert torch.equal(create_sparse_frames(read.coordinates, read.mask), frames.reshape(6, 20, 1, 32, 32))
    assert read.metadata.coord_order == "yx"


def test_flag_does_not_contradict_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", gaze_data(6, seed=0))
    with pytest.raises(UserError, match=r"--coord-order yx contradicts .*a\.pt, which says xy"):
        pt.load_file(path, coord_order="yx")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"img_size": 64}, "img_size is 32 in train and 64 in val; prepare --img-size 32"),
        ({"rate_hz": 20.0}, r"rate_hz is 10\.0 in train and 20\.0 in val; prepare --rate-hz 10"),
        ({"coord_order": "yx"}, "coord_order is xy in train and yx in val; --coord-order xy"),
        ({"source": "real"}, "source is simulated in train and real in val"),
    ],
)
def test_splits_that_differ(splits: GazeSplits, metadata: dict[str, Any], said: str) -> None:
    other = replace(splits.val, metadata=replace(splits.val.metadata, **metadata))
    with pytest.raises(UserError, match=said):
        pt.check_splits(splits._replace(val=other))


def test_group_in_two_splits(splits: GazeSplits) -> None:
    pt.check_splits(splits)
    assert splits.test.group is not None
    shared = replace(splits.test, group=torch.where(torch.arange(12) < 4, 105, splits.test.group))
    with pytest.raises(
        UserError, match=r"1 recordings are in val and in test; .* recording 105, sequences 10 and 0"
    ):
        pt.check_splits(splits._replace(test=shared))
    by_chance = [replace(part, metadata=replace(part.metadata, split_by="random")) for part in splits]
    pt.check_splits(GazeSplits(*by_chance)._replace(test=replace(by_chance[2], group=splits.val.group)))


@pytest.mark.parametrize(("shift", "found"), [(0.0, True), (5e-5, True), (5e-3, False)])
def test_sequence_in_two_splits(splits: GazeSplits, shift: float, found: bool) -> None:
    points = splits.test.coordinates.clone()
    points[7] = splits.train.coordinates[15] + shift
    points[2] = splits.train.coordinates[20] - shift
    copied = splits._replace(test=replace(splits.test, coordinates=points))
    if not found:
        pt.check_splits(copied)
        return
    with pytest.raises(
        UserError, match=r"2 sequences are identical in train and in test; .* sequences 15 and 7"
    ):
        pt.check_splits(copied)


def test_empty_sequences_are_no_copies(splits: GazeSplits) -> None:
    empty = [masked(part, *((0, frame) for frame in range(20))) for part in splits]
    pt.check_splits(GazeSplits(*empty))


def test_usable_sequences(splits: GazeSplits) -> None:
    data = masked(splits.val, *((0, frame) for frame in range(10, 15)), (1, 12))
    cut = pt.usable(data, 10, 5)
    assert cut.coordinates.shape == (11, 15, 2)
    assert (cut.counts["without_target"], cut.counts["unused_frames"]) == (1, 60)
    assert torch.equal(cut.coordinates[0], data.coordinates[1, :15])
    assert len(pt.usable(data, 10, 10)) == 12
    with pytest.raises(
        UserError, match=r"coordinates \(12, 20, 2\) have 20 frames, --in-len 16 and --out-len 5 need 21"
    ):
        pt.usable(data, 16, 5)
    nothing = masked(data, *((n, t) for n in range(12) for t in range(10, 20)))
    with pytest.raises(
        UserError, match="no sequence has a valid target frame: 12 sequences, 120 valid frames"
    ):
        pt.usable(nothing, 10, 10)


def test_folder_is_searched_in_order(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "app" / "experiments" / "phase1_loss_function_analysis"
    script.mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(pt, "_APP", tmp_path / "app")
    places = [tmp_path / "here", script, script.parent, tmp_path / "app"]
    with pytest.raises(UserError) as error:
        pt.find_folder()
    first = places[0] / "data"
    assert str(error.value) == (
        "no eye-fixation data: train_data.pt, val_data.pt, test_data.pt not found\n"
        f"  looked in   {first}\n"
        + "".join(f"              {place / 'data'}\n" for place in places[1:])
        + f"  simulated   eye-fixation prepare --out {first}\n"
        "  your own    eye-fixation prepare --source csv --input gaze.csv --rate-hz 20 --screen-px 1920 1080 "
        f"--out {first}"
    )
    for place in reversed(places):
        (place / "data").symlink_to(data_folder)
        assert pt.find_folder() == place / "data"
    assert pt.find_folder(data_folder) == data_folder


def test_given_folder_names_what_is_missing(data_folder: Path, tmp_path: Path) -> None:
    for name in ("train_data.pt", "test_data.pt"):
        (tmp_path / name).symlink_to(data_folder / name)
    with pytest.raises(UserError, match=r"--data-dir .*: val_data\.pt not found"):
        pt.find_folder(tmp_path)
    with pytest.raises(UserError, match=r"val_data\.pt not found"):
        pt.load_folder(tmp_path)


def test_existing_files_are_replaced_only_when_asked(tmp_path: Path, splits: GazeSplits) -> None:
    oracle = {"transition": torch.eye(4), "start": torch.ones(4) / 4}
    pt.write_folder(tmp_path, splits, {}, oracle=oracle)
    read = pt.load_oracle(tmp_path, "test")
    assert read is not None
    assert torch.equal(read["transition"], torch.eye(4))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = gaze_splits((4, 4, 4))
    with pytest.raises(UserError, match=r"holds train_data\.pt, .*--overwrite replaces them"):
        pt.write_folder(tmp_path, other, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    pt.write_folder(tmp_path, other, {}, overwrite=True)
    assert [len(part) for part in pt.load_folder(tmp_path)] == [4, 4, 4]
    assert pt.load_oracle(tmp_path, "test") is None
    torch.save({"start": torch.ones(4)}, tmp_path / "oracle.pt")
    with pytest.raises(UserError, match=r"oracle\.pt: no tensor 'transition'; keys found: start"):
        pt.load_oracle(tmp_path, "test")


def test_failure_leaves_what_was_there(
    tmp_path: Path, splits: GazeSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt.write_folder(tmp_path, splits, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = torch.save

    def full_disk(contents: Any, path: Path) -> None:
        if path.name == "test_data.pt":
            raise OSError(28, "No space left on device")
        save(contents, path)

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(UserError, match=r"cannot be written: No space left"):
        pt.write_folder(tmp_path, gaze_splits((4, 4, 4)), {}, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_file_in_the_way(tmp_path: Path, splits: GazeSplits) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(UserError, match="a file is in the way"):
        pt.write_folder(tmp_path / "data", splits, {})
    with pytest.raises(UserError, match="cannot be written"):
        pt.write_folder(tmp_path / "data" / "deeper", splits, {})
