"""The generated data set is complete, odd where it should be, and shows its classes in motion."""

import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.video import decode, probe
from mvfouls.annotations import read_annotations
from mvfouls.clips import ClipSource
from mvfouls.dataset import FoulDataset
from mvfouls.frames import FrameRule
from mvfouls.labels import OFFICIAL_ACTIONS, OFFICIAL_OS, TASKS, project_label
from mvfouls.layout import find_split
from mvfouls.settings import CacheSettings, Pixels, Policies, ViewSettings
from mvfouls.split import open_split
from mvfouls.synthetic import _SplitWriter, class_counts, write_dataset, write_learning_set
from mvfouls.synthetic_drawing import (
    MOVES,
    SPEEDS,
    Camera,
    Foul,
    Likeness,
    Look,
    Motion,
    draw_bar_code,
    pictures,
    read_bar_codes,
)
from mvfouls.synthetic_labels import ACTIONS, ODDITIES, ActionPlan, plan_split

SIZE, FRAMES = (56, 32), 95
RULE = FrameRule()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with every fault."""
    root = tmp_path_factory.mktemp("generated")
    write_dataset(root, actions=24, seed=3, size=SIZE, frames=FRAMES, zero_byte=True)
    return root


def entries(folder: Path, split: str) -> dict[str, dict[str, Any]]:
    text = (folder / "mvfouls" / split / "annotations.json").read_text()
    found: dict[str, dict[str, Any]] = json.loads(text)["Actions"]
    return found


def hashes(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_splits_open_with_exactly_the_faults_that_were_made(folder: Path) -> None:
    for split, count in (("train", 24), ("valid", 12), ("test", 6)):
        opened = open_split(find_split(folder, split), Policies(), ViewSettings(), RULE, labelled=True)
        report = opened.report
        assert (len(opened.actions), report.listed_actions, report.warnings) == (count, count, ())
        faults = [len(found) for found in (report.missing, report.undecodable, report.short)]
        assert faults == ([1, 1, 1] if split == "train" else [0, 0, 0])
        assert not report.unlisted
        assert {view.size for view in opened.views} == {SIZE}
        assert {view.fps for view in opened.views} == {25.0}
        assert {view.frames for view in opened.views} - {FRAMES} == ({75, 96} if split == "train" else set())
    challenge = open_split(find_split(folder, "challenge"), Policies(), ViewSettings(), RULE, labelled=False)
    assert len(challenge.actions) == 3
    assert not any("Offence" in entry for entry in entries(folder, "challenge").values())


def test_training_and_validation_have_every_official_class(folder: Path) -> None:
    for split in ("train", "valid"):
        actions = read_annotations(folder / "mvfouls" / split / "annotations.json").actions
        official = [project_label(a.action_class, a.offence, a.severity) for a in actions]
        kept = [ids for ids in official if ids is not None]
        assert {action for action, _ in kept} == set(range(len(OFFICIAL_ACTIONS)))
        assert {os for _, os in kept} == set(range(len(OFFICIAL_OS)))


def test_training_has_every_oddity(folder: Path) -> None:
    train = entries(folder, "train")
    values = {
        (key, value) for entry in train.values() for key, value in entry.items() if isinstance(value, str)
    }
    assert {item for oddity in ODDITIES for item in oddity.items()} <= values
    assert ("Offence", "No Offence") in values
    assert {len(entry["Clips"]) for entry in train.values()} == {1, 2, 3, 4}
    ids = sorted(map(int, train))
    assert ids != list(range(len(ids)))
    assert all(entry["Clips"][0]["Camera type"] == "Main camera center" for entry in train.values())


def test_the_rest_follows_the_real_shares() -> None:
    plans = plan_split(1200, np.random.default_rng(1), odd=False)
    counts = Counter(plan.fields["Action class"] for plan in plans)
    for name, count in ACTIONS.items():
        assert counts[name] / 1200 == pytest.approx(count / sum(ACTIONS.values()), abs=0.04)
    for plan in plans:
        fields = plan.fields
        assert project_label(fields["Action class"], fields["Offence"], fields["Severity"]) is not None
    assert [plan.id for plan in plans] == list(range(1200))


def test_the_frames_seen_are_the_window(folder: Path) -> None:
    split = open_split(find_split(folder, "valid"), Policies(), ViewSettings(), RULE, labelled=True)
    clips = ClipSource(RULE, CacheSettings(folder=None), Policies())
    pixels = Pixels(frames=RULE, height=32, width=56)
    dataset = FoulDataset(split, clips, pixels, ViewSettings(), None, dict(TASKS), seed=0)
    for view in dataset[0]["clips"].numpy():
        assert read_bar_codes(view.transpose(1, 2, 3, 0)) == list(range(67, 83))


def test_same_arguments_same_files_and_no_clip_twice(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, actions=2, seed=seed, size=(32, 32), frames=83, odd=False)
    first, second, other = (hashes(tmp_path / name) for name in "abc")
    assert first == second
    assert len(set(first.values())) == len(first)
    assert not set(first.values()) & set(other.values())


def test_bar_codes_survive_coding(folder: Path) -> None:
    path = folder / "mvfouls" / "valid" / "action_0" / "clip_0.mp4"
    assert probe(path).frames == FRAMES
    assert read_bar_codes(decode(path)) == list(range(FRAMES))
    with pytest.raises(ValueError, match="number is 256"):
        draw_bar_code(np.zeros((32, 56, 3), np.uint8), 256)


def moved(
    action_class: str = "Tackling",
    severity: str = "3.0",
    offence: str = "Offence",
    likeness: Likeness | None = None,
) -> np.ndarray:
    """Return frames 67 to 82 of a scene."""
    look = Look((230, 60, 60), (60, 60, 230), 1)
    motion = Motion(Foul(action_class, severity, offence), likeness)
    frames = pictures(motion, look=look, camera=Camera(64, 112), frames=83)
    return np.stack([frame.astype(int) for frame in map(np.copy, frames)])[67:, 10:]


def test_every_class_moves_differently() -> None:
    scenes = [moved(kind) for kind in (*MOVES, "Dont know")]
    for place, scene in enumerate(scenes):
        assert (np.abs(np.diff(scene, axis=0)).max(axis=(1, 2, 3)) > 50).all()
        assert all(np.abs(scene - other).mean() > 0.5 for other in scenes[:place])


def test_severity_is_the_speed_after_the_impact() -> None:
    for kind, move in MOVES.items():
        places = [move(0.28, speed) for speed in sorted(SPEEDS.values())]
        travelled = [abs(moment.attacker.x - move(0.0, 1.0).attacker.x) for moment in places]
        assert travelled == sorted(travelled), kind
        assert travelled[-1] > travelled[0] + 0.1, kind
        before = [move(-0.3, speed).attacker.x for speed in (0.4, 2.3)]
        if kind != "Holding":
            assert before[0] == before[1]


def test_the_offence_is_the_gesture() -> None:
    scenes = [moved(offence=offence) for offence in ("Offence", "No offence", "Between")]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        columns = np.abs(scenes[first] - scenes[second]).max(axis=(0, 1, 3))
        assert columns.max() > 50
        assert columns[40:].max() == 0
    assert (moved(offence="No Offence") == scenes[1]).all()


def test_a_foul_that_is_like_another_lies_between_the_two() -> None:
    own, other = ("Challenge", "1.0", "Offence"), ("Holding", "5.0", "No offence")
    alike = [Likeness(Foul(*other), share, share) for share in (0.0, 0.5, 1.0)]
    start, middle, end = (moved(*own, likeness) for likeness in alike)
    assert (start == moved(*own)).all()
    assert (end == moved(*other)).all()
    assert min(np.abs(middle - scene).mean() for scene in (start, end)) > 0.5
    speed = (SPEEDS["1.0"] + SPEEDS["5.0"]) / 2
    moments = [Motion(Foul(kind, *own[1:]), Likeness(Foul(*other), 0.5, 0.5)).moment(0.2) for kind in MOVES]
    for kind, moment in zip(MOVES, moments, strict=True):
        ends = [MOVES[name](0.2, speed).attacker.x for name in (kind, "Holding")]
        assert moment.attacker.x == pytest.approx(sum(ends) / 2)
    assert Motion(Foul(*own), alike[1]).referee(0.0).arm == pytest.approx((2.9 + 1.2) / 2)
    apart = Likeness(Foul(*other), 0.0, 1.0)
    assert (moved(*own, apart) == moved("Challenge", "5.0", "No offence")).all()


def planned(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[ActionPlan]:
    """Return the training actions of a learning set of which no clip is drawn."""
    found: list[ActionPlan] = []
    monkeypatch.setattr(_SplitWriter, "write", lambda self, plans, labels: found.extend(plans))
    write_learning_set(folder, **settings)
    return found[: settings["actions"]]


def test_overlapping_classes_are_told_apart_as_often_as_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = planned(tmp_path, monkeypatch, actions=4000, overlap=0.35)
    likeness = [plan.likeness for plan in plans if plan.likeness is not None]
    shares = np.array([(found.action, found.outcome) for found in likeness])
    assert shares.shape == (4000, 2)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares < 0.5).mean(axis=0) == pytest.approx([0.847, 0.847], abs=0.02)
    assert abs(np.corrcoef(shares.T)[0, 1]) < 0.06
    for key in ("action_class", "severity"):
        own = [getattr(plan.motion.foul, key) for plan in plans]
        other = [getattr(found.other, key) for found in likeness]
        assert not any(map(str.__eq__, own, other))
        most = Counter(own).most_common(1)[0][0]
        drawn = Counter(value for value, mine in zip(other, own, strict=True) if mine == most)
        assert len(drawn) == 3
        assert max(drawn.values()) / min(drawn.values()) < 1.2


def test_overlap_changes_clips_and_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart, alike = (planned(tmp_path, monkeypatch, actions=60, overlap=overlap) for overlap in (0.0, 0.35))
    assert all(plan.likeness is None for plan in apart)
    assert [plan.fields for plan in apart] == [plan.fields for plan in alike]


@pytest.mark.parametrize("overlap", [-0.1, math.inf, math.nan])
def test_an_overlap_that_cannot_be(tmp_path: Path, overlap: float) -> None:
    with pytest.raises(ValueError, match="overlap is"):
        write_learning_set(tmp_path, overlap=overlap)


def test_the_learning_set_is_as_imbalanced_as_asked(tmp_path: Path) -> None:
    write_learning_set(tmp_path, actions=40, size=(32, 32), frames=83, imbalance=50)
    train = entries(tmp_path, "train").values()
    for keys in (("Action class",), ("Offence", "Severity")):
        counts = sorted(Counter(tuple(entry[key] for key in keys) for entry in train).values())
        assert len(counts) == 4
        assert counts == sorted(class_counts(40, 4, 50))
    assert class_counts(160, 4, 50)[0] / class_counts(160, 4, 50)[3] >= 50
    valid = Counter(
        (entry["Action class"], entry["Offence"], entry["Severity"])
        for entry in entries(tmp_path, "valid").values()
    )
    assert set(valid.values()) == {2}
    assert len(valid) == 16


@pytest.mark.parametrize("change", [{"actions": 0}, {"size": (57, 32)}, {"size": (16, 16)}, {"frames": 82}])
def test_arguments_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} is"):
        write_dataset(tmp_path, **change)
