"""DeepLabCut-live behind its wrapper: a stand-in always, the real one in an environment of its own."""

import builtins
import importlib
import json
import subprocess
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from live_pieces import SIZE, blob_pose, install_stub, write_checkpoint, write_pose_file
from streaming_pieces import offline

from common.config import UserError
from common.video import decode
from rodent_behavior.cli import main
from rodent_behavior.config import KEYPOINTS
from rodent_behavior.dlc import DEFAULT_KP_NAMES
from rodent_behavior.export import load_checkpoint
from rodent_behavior.live import BehaviorProcessor, Trigger
from rodent_behavior.live.dlc import LivePose, build_pose_network, model_bodyparts
from rodent_behavior.live.model import open_stream
from rodent_behavior.live.pose_model import CONFIG, MODEL, judge
from rodent_behavior.live.recording import Recording
from rodent_behavior.rendering import draw_frame
from rodent_behavior.synth import generate

POSE = np.array([[60, 48], [24, 48], [50, 40], [50, 56], [34, 38], [34, 58]], dtype=np.float64)


class Keeps:
    """A processor that keeps what it was called with."""

    def __init__(self, answer=None):
        self.calls = []
        self.answer = answer

    def process(self, pose, **kwargs):
        self.calls.append((pose, kwargs))
        return pose if self.answer is None else self.answer

    def save(self, file=""):
        return 0


@pytest.fixture
def stub(monkeypatch):
    return install_stub(monkeypatch)


def picture(pose=POSE):
    return np.ascontiguousarray(draw_frame(pose, SIZE)[..., ::-1])


def test_the_package_does_not_import_deeplabcut_live():
    code = (
        "import sys, rodent_behavior.live.loop, rodent_behavior.live.replay, rodent_behavior.live.pose_model;"
        "assert 'dlclive' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_calls_reach_the_processor_with_their_keywords(stub, tmp_path):
    keeps = Keeps()
    pose = LivePose(write_pose_file(tmp_path / "pose.pt"), processor=keeps)
    first = pose.init_inference(picture(), frame_time=0.0)
    again = pose.get_pose(picture(), frame_time=0.0, image="frame")
    assert [kwargs for _, kwargs in keeps.calls] == [
        {"frame_time": 0.0},
        {"frame_time": 0.0, "image": "frame"},
    ]
    assert again is keeps.calls[1][0]
    assert first[:, :2] == pytest.approx(POSE, abs=1.0)
    assert pose.processor_seconds > 0
    pose.close()
    assert stub.made[0].closed


def test_warming_up_stays_out_of_the_processor(stub, tmp_path):
    keeps = Keeps()
    pose = LivePose(write_pose_file(tmp_path / "pose.pt"), processor=keeps)
    pose.warm_up(picture())
    assert keeps.calls == []
    pose.get_pose(picture(), frame_time=1.0)
    assert len(keeps.calls) == 1


def test_a_pose_before_the_network_is_loaded_is_an_error(stub, tmp_path):
    with pytest.raises(RuntimeError, match="init_inference"):
        LivePose(write_pose_file(tmp_path / "pose.pt")).get_pose(picture())


@pytest.mark.parametrize("answer", [True, np.zeros((2, 3)), [1, 2]])
def test_a_processor_must_return_a_pose(stub, tmp_path, answer):
    pose = LivePose(write_pose_file(tmp_path / "pose.pt"), processor=Keeps(answer))
    with pytest.raises(TypeError, match=r"processor Keeps returned .* an array \[6, 3\]"):
        pose.init_inference(picture())


@pytest.mark.parametrize("frame", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_frames_are_bytes_in_colour_or_grey(stub, tmp_path, frame):
    pose = LivePose(write_pose_file(tmp_path / "pose.pt"))
    pose.warm_up(picture()[..., 0])
    with pytest.raises(ValueError, match="uint8 BGR"):
        pose.get_pose(frame)


def test_settings_are_those_of_the_pytorch_engine(stub, tmp_path):
    file = write_pose_file(tmp_path / "pose.pt")
    LivePose(file)
    LivePose(file, precision="FP16", device="cuda:0", cropping=(1, 90, 2, 80), resize=0.5)
    LivePose(file, dynamic=(0.6, 12))
    plain, cropped, dynamic = (made.settings for made in stub.made)
    assert plain == {
        "precision": "FP32", "device": "cpu", "single_animal": True, "cropping": None,
        "dynamic": (False, 0.5, 10), "resize": None,
    }  # fmt: skip
    assert (cropped["cropping"], cropped["resize"], cropped["precision"]) == ([1, 90, 2, 80], 0.5, "FP16")
    assert dynamic["dynamic"] == (True, 0.6, 12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cropping": (0, 9, 0, 9), "dynamic": (0.5, 10)}, "--cropping with --dynamic"),
        ({"cropping": (9, 9, 0, 9)}, "--cropping"),
        ({"dynamic": (0.5, 0)}, "--dynamic"),
        ({"resize": 0.0}, "--resize"),
    ],
)
def test_views_that_give_wrong_poses_are_refused(stub, tmp_path, settings, words):
    with pytest.raises(UserError, match=words):
        LivePose(write_pose_file(tmp_path / "pose.pt"), **settings)
    assert stub.made == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metadata": {}}, "metadata.bodyparts"),
        ({"metadata": {"bodyparts": ["a"], "individuals": ["m1", "m2"]}}, "2 animals"),
        ({"method": "td"}, "without its detector"),
        ({"data": {}, "model": {"heads": {}}}, r"no data.inference, model.backbone$"),
    ],
)
def test_model_files_that_cannot_serve(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        model_bodyparts(write_pose_file(tmp_path / "pose.pt", **changes))


def test_files_that_are_no_pose_models(tmp_path):
    (tmp_path / "text.pt").write_text("no model")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    torch.save({"config": {"x": np.float64(3)}, "pose": {}}, tmp_path / "numpy.pt")
    for name, words in (
        ("", "one .pt file"),
        ("model.onnx", "one .pt file"),
        ("absent.pt", "no pose model file"),
        ("text.pt", "is no pose model of plain types"),
        ("numpy.pt", "is no pose model of plain types"),
        ("other.pt", "no config and pose"),
    ):
        with pytest.raises(UserError, match=words):
            model_bodyparts(tmp_path / name)


def test_points_that_the_metadata_does_not_name(stub, tmp_path):
    file = write_pose_file(tmp_path / "pose.pt", metadata={"bodyparts": ["nose", "tail_base"]})
    with pytest.raises(UserError, match="name 2 points"):
        LivePose(file).init_inference(picture())


def test_body_parts_come_from_the_file(tmp_path):
    assert model_bodyparts(write_pose_file(tmp_path / "pose.pt")) == KEYPOINTS


def test_an_absent_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dlclive", None)
    monkeypatch.setattr(importlib, "import_module", lambda name: builtins.__import__(name))
    with pytest.raises(UserError, match=r"rodent_behavior\[live\].*AGPL"):
        LivePose(write_pose_file(tmp_path / "pose.pt"))


def test_torch_and_torchvision_that_do_not_fit_are_named(monkeypatch, tmp_path):
    def broken(*given, **settings):
        raise RuntimeError("operator torchvision::nms does not exist")

    module = ModuleType("dlclive")
    monkeypatch.setattr(module, "DLCLive", broken, raising=False)
    monkeypatch.setitem(sys.modules, "dlclive", module)
    with pytest.raises(UserError, match="torchvision must be of one build"):
        LivePose(write_pose_file(tmp_path / "pose.pt"))


def test_the_stand_in_drives_the_live_command(stub, tmp_path, capsys):
    write_checkpoint(tmp_path / "model.pt")
    write_pose_file(tmp_path / "pose.pt")
    frames = tmp_path / "frames"
    frames.mkdir()
    poses = POSE + np.linspace(-8, 8, 12)[:, None, None]
    for number, pose in enumerate(poses):
        cv2.imwrite(str(frames / f"{number}.png"), picture(pose))
    line = f"live --checkpoint {tmp_path / 'model.pt'} --pose_model {tmp_path / 'pose.pt'} --source {frames}"
    assert main([*line.split(), "--record", str(tmp_path / "record"), "--device", "cpu"]) == 0
    recording = Recording.read(tmp_path / "record")
    assert recording.pose[..., :2] == pytest.approx(poses, abs=1.0)
    assert recording.index.tolist() == list(range(12))
    assert recording.config["frame_size"] == [SIZE, SIZE]
    latency = json.loads((tmp_path / "record" / "latency.json").read_text())
    assert {part: values["count"] for part, values in latency.items()} == dict.fromkeys(
        ("pose", "behaviour", "total"), 12
    )
    assert "frames   12   dropped 0" in capsys.readouterr().out
    assert main(["replay", str(tmp_path / "record"), "--checkpoint", str(tmp_path / "model.pt")]) == 0


# The tests below drive the real DeepLabCut-live.


@pytest.fixture(scope="module")
def pose_model(tmp_path_factory):
    """The model file of `make-pose-model`."""
    pytest.importorskip("dlclive", reason="DeepLabCut-live is not installed: nox -s tests_live")
    path = tmp_path_factory.mktemp("pose") / "pose.pt"
    assert main(["make-pose-model", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A generated video of 360 frames and its truth."""
    truth = generate(tmp_path_factory.mktemp("film"), videos=1, trials=1, size=SIZE)
    return truth.videos / truth.recordings[0].video, truth.recordings[0].xy


def images(path, count):
    return np.ascontiguousarray(decode(path, 0, count)[..., ::-1])


@pytest.mark.live
def test_the_network_is_the_documented_one():
    pytest.importorskip("dlclive")
    network = build_pose_network(MODEL)
    parameters = sum(p.numel() for p in network.parameters())
    backbone = sum(p.numel() for name, p in network.named_parameters() if name.startswith("backbone.model."))
    assert (parameters, backbone, len(network.state_dict())) == (388_258, 372_688, 94)
    assert "pretrained" not in CONFIG["model"]["backbone"]


@pytest.mark.live
def test_the_pose_model_finds_the_points(pose_model, filmed):
    assert pose_model.stat().st_size < 1.7e6
    assert model_bodyparts(pose_model) == KEYPOINTS
    assert np.median(judge(pose_model, 1)) <= 4.0
    pose = LivePose(pose_model)
    frames = images(filmed[0], 30)
    pose.warm_up(frames[0])
    found = np.stack([pose.get_pose(frame) for frame in frames])
    assert found.dtype == np.float32
    assert np.median(np.linalg.norm(found[..., :2] - filmed[1][:30], axis=2)) <= 6.0


@pytest.mark.live
def test_behaviour_inside_deeplabcut_live(pose_model, filmed, tmp_path):
    trained = load_checkpoint(write_checkpoint(tmp_path / "model.pt"))
    stream = open_stream(trained, (SIZE, SIZE))
    processor = BehaviorProcessor(stream, bodyparts=model_bodyparts(pose_model))
    counted = Keeps()
    counted.process, plain = (
        lambda pose, **kw: (counted.calls.append(pose.copy()), plain(pose, **kw))[1],
        processor.process,
    )
    pose = LivePose(pose_model, processor=counted)
    frames = images(filmed[0], 90)
    pose.init_inference(frames[0], frame_time=0.0)
    answers = [pose.get_pose(frame, frame_time=number / 30) for number, frame in enumerate(frames)]
    assert len(counted.calls) == 1 + len(frames)
    assert np.array_equal(answers, counted.calls[1:])
    assert (processor.repeated, processor.faults.count) == (1, 0)
    recording = processor.recording()
    assert recording.index.tolist() == list(range(90))
    expected = offline(trained.network.behavior, stream.config, recording.pose)
    assert recording.probs == pytest.approx(expected, abs=1e-5)
    assert expected.std(axis=0).max() > 0.01


@pytest.mark.live
def test_the_live_command_and_its_replay(pose_model, filmed, tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "model.pt")
    live = [
        "live",
        "--checkpoint",
        str(checkpoint),
        "--pose_model",
        str(pose_model),
        "--source",
        str(filmed[0]),
    ]
    assert main([*live, "--record", str(tmp_path / "first"), "--device", "cpu"]) == 0
    first = Recording.read(tmp_path / "first")
    action = int(first.probs.std(axis=0).argmax())
    label, level = first.config["classes"][action], float(np.quantile(first.probs[:, action], 0.6))
    trigger = ["--trigger", f"{label}={level}", "--refractory_ms", "100"]
    assert main([*live, *trigger, "--record", str(tmp_path / "second"), "--device", "cpu"]) == 0
    second = Recording.read(tmp_path / "second")
    assert np.array_equal(first.pose, second.pose)
    assert len(second.index) == 360
    alone = Trigger(label, level, refractory_ms=100)
    known = (first.pose[:, :, 2] >= 0.9).sum(axis=1) >= 3
    edges = []
    for row, p in enumerate(first.probs[:, action].tolist()):
        edges += [(row, e.on) for e in alone.update(p if known[row] else None, at=row / 30, now=row / 30)]
    edges += [(359, e.on) for e in alone.release("closed")]
    found = [(event.index, event.state == "on") for event in second.events]
    assert found == edges
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "second"), "--checkpoint", str(checkpoint), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("replay: 360 frames, max abs dp = ")


@pytest.mark.live
def test_cut_scaled_grey_and_half_precise_frames(pose_model, filmed):
    frames, truth = images(filmed[0], 16), filmed[1][:16]

    def found(given=frames, **settings):
        pose = LivePose(pose_model, **settings)
        pose.warm_up(given[0])
        return np.stack([pose.get_pose(frame) for frame in given])

    whole = found()
    left, top = (max(0, int(truth[..., axis].min()) - 16) for axis in (0, 1))
    right, bottom = (min(SIZE, int(truth[..., axis].max()) + 16) for axis in (0, 1))
    for points in (
        found(cropping=(left, right, top, bottom)),
        found(dynamic=(0.3, 20)),
        2 * found(np.stack([cv2.resize(frame, (48, 48)) for frame in frames]), resize=2.0),
        found(precision="FP16"),
    ):
        assert points.shape == whole.shape
        assert np.median(np.linalg.norm(points[..., :2] - truth, axis=2)) <= 8.0
    half = found(precision="FP16")
    assert np.median(np.abs(half - whole)) <= 0.05
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames[:2]])
    assert np.array_equal(found(grey), found(np.stack([grey] * 3, axis=3)))
    odd = np.ascontiguousarray(frames[:2, :77, :90])
    assert found(odd).shape == (2, len(DEFAULT_KP_NAMES), 3)


def test_the_stand_in_finds_what_was_drawn():
    assert blob_pose(picture())[:, :2] == pytest.approx(POSE, abs=1.0)
