"""The live and replay commands on generated keypoints and pictures."""

import json
import socket
import time

import numpy as np
import pytest
import torch
from live_pieces import SIZE, install_stub, write_checkpoint, write_pose_file
from streaming_pieces import offline

from common.config import UserError
from common.video import decode
from rodent_behavior.cli import main
from rodent_behavior.dlc import read_dlc
from rodent_behavior.export import load_checkpoint
from rodent_behavior.frames import to_input
from rodent_behavior.live import BehaviorProcessor, Trigger, setup
from rodent_behavior.live import loop as module
from rodent_behavior.live.loop import follow
from rodent_behavior.live.model import ImageFeatures, open_stream
from rodent_behavior.live.recording import Recording
from rodent_behavior.live.source import LiveFrame, Source, clock_source
from rodent_behavior.synth import generate


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A causal model file, and the keypoints and video of one trial."""
    root = tmp_path_factory.mktemp("live")
    generate(root, videos=1, trials=1, size=SIZE)
    write_checkpoint(root / "model.pt")
    (root / "mouse.csv").write_bytes(next((root / "Videos").glob("*.csv")).read_bytes())
    (root / "Videos" / "mouse_1.mp4").rename(root / "mouse.mp4")
    return root


def live(home, *extra, poses="mouse.csv"):
    line = ["live", "--checkpoint", str(home / "model.pt"), "--device", "cpu"]
    return main([*line, *(["--poses", str(home / poses)] if poses else []), *map(str, extra)])


def replay(home, folder, *extra):
    return main(["replay", str(folder), "--checkpoint", str(home / "model.pt"), "--device", "cpu", *extra])


def poses_of(home):
    table = read_dlc(home / "mouse.csv", load_checkpoint(home / "model.pt").file.kp_names)
    return np.concatenate([table.xy, table.likelihood[..., None]], axis=2).astype(np.float32)


def busiest(home, folder):
    """Return the action whose probability moves most, and a level it crosses."""
    probs = Recording.read(folder).probs
    action = int(probs.std(axis=0).argmax())
    return load_checkpoint(home / "model.pt").file.labels.names[action], float(
        np.quantile(probs[:, action], 0.7)
    )


def test_a_table_gives_the_offline_probabilities(home, tmp_path, capsys):
    assert live(home, "--record", tmp_path / "record") == 0
    recording = Recording.read(tmp_path / "record")
    trained = load_checkpoint(home / "model.pt")
    poses = poses_of(home)
    assert np.array_equal(recording.pose, poses)
    expected = offline(trained.network.behavior, open_stream(trained, None).config, poses)
    assert recording.probs == pytest.approx(expected, abs=1e-5)
    assert recording.frame_time == pytest.approx(np.arange(360) / 30)
    shown = capsys.readouterr().out
    assert "frames   360   dropped 0   missed 0   repeated 0   faults 0   events 0   not delivered 0" in shown
    assert "latency  behaviour p50" in shown
    assert json.loads((tmp_path / "record" / "latency.json").read_text())["total"]["count"] == 360


def test_a_replay_says_the_same(home, tmp_path, capsys):
    live(home, "--record", tmp_path / "plain")
    label, level = busiest(home, tmp_path / "plain")
    trigger = ["--trigger", f"{label}={level}", "--refractory_ms", "60"]
    assert live(home, *trigger, "--record", tmp_path / "record", "--events", tmp_path / "events.jsonl") == 0
    recording = Recording.read(tmp_path / "record")
    assert {event.state for event in recording.events} == {"on", "off"}
    assert (tmp_path / "events.jsonl").read_text() == (tmp_path / "record" / "events.jsonl").read_text()
    shown = capsys.readouterr().out
    assert f"frame {recording.events[0].index}: {label} on (level) p=0." in shown
    assert replay(home, tmp_path / "record") == 0
    assert capsys.readouterr().out == "replay: 360 frames, max abs dp = 0.0e+00, events identical: yes\n"


def test_a_replay_finds_what_was_changed(home, tmp_path, capsys):
    live(home, "--record", tmp_path / "plain")
    label, level = busiest(home, tmp_path / "plain")
    folder = tmp_path / "record"
    live(home, "--trigger", f"{label}={level}", "--record", folder)
    probs, events = np.load(folder / "probs.npy"), (folder / "events.jsonl").read_text()
    np.save(folder / "probs.npy", probs + np.float32(2e-5) * (np.arange(360) == 7)[:, None])
    capsys.readouterr()
    assert replay(home, folder) == 1
    assert "dp = 2.0e-05, events identical: yes" in capsys.readouterr().out
    np.save(folder / "probs.npy", probs)
    for changed in (events.split("\n", 1)[1], events.replace('"index": ', '"index": 1', 1)):
        (folder / "events.jsonl").write_text(changed)
        assert replay(home, folder) == 1
        assert "events identical: no" in capsys.readouterr().out
    (folder / "events.jsonl").write_text(events)
    assert replay(home, folder) == 0
    write_checkpoint(tmp_path / "model.pt", seed=1)
    assert replay(tmp_path, folder) == 1


def test_resets_faults_and_gaps_are_replayed(home, tmp_path):
    trained = load_checkpoint(home / "model.pt")
    live(home, "--record", tmp_path / "plain")
    label, _ = busiest(home, tmp_path / "plain")
    trigger = Trigger(label, 0.01, off_at=0.001, refractory_ms=0)
    moment = [0.0]
    processor = BehaviorProcessor(
        open_stream(trained, None), triggers=[trigger], record=tmp_path / "record", clock=lambda: moment[0]
    )
    poses = poses_of(home)
    times = np.arange(60) / 30
    times[40:] += 1.0
    times[50:] -= 1.5
    for number, (pose, at) in enumerate(zip(poses, times)):
        moment[0] += 1 / 30 if number != 25 else 0.4
        processor.process(None if number == 30 else pose, frame_time=at)
        if number == 10:
            processor.reset()
        if number == 20:
            processor.process(pose, frame_time="late")
    processor.close()
    reasons = {event.reason for event in processor.events}
    assert {"level", "reset", "restart", "fault", "watchdog", "gap", "backwards", "closed"} <= reasons
    assert replay(home, tmp_path / "record") == 0


def test_a_table_at_another_rate_falls_on_the_models_grid(home, tmp_path, capsys):
    assert live(home, "--fps", "60", "--record", tmp_path / "record") == 0
    assert "frames   181   dropped 0   missed 0   repeated 179" in capsys.readouterr().out
    assert live(home, "--fps", "15", "--record", tmp_path / "slow") == 0
    assert "frames   360   dropped 0   missed 359" in capsys.readouterr().out


def test_pictures_reach_a_visual_model(home, tmp_path):
    write_checkpoint(tmp_path / "model.pt", backbone="tiny_cnn")
    trained = load_checkpoint(tmp_path / "model.pt")
    arguments = ["--poses", str(home / "mouse.csv"), "--source", str(home / "mouse.mp4")]
    assert live(tmp_path, *arguments, "--record", tmp_path / "record", poses=None) == 0
    recording = Recording.read(tmp_path / "record")
    frames = decode(home / "mouse.mp4", transform=trained.file.resize).astype(np.float32) / 255
    with torch.no_grad():
        visual = trained.network.backbone(to_input(frames)).half().float().numpy()
    expected = offline(
        trained.network.behavior, open_stream(trained, (SIZE, SIZE)).config, recording.pose, visual
    )
    assert recording.probs == pytest.approx(expected, abs=1e-3)
    blind = offline(trained.network.behavior, open_stream(trained, None).config, recording.pose, 0 * visual)
    assert np.abs(blind - expected).max() > 0.01
    assert replay(tmp_path, tmp_path / "record", "--source", str(home / "mouse.mp4")) == 0
    for extra, words in (([], "--source is needed"), (["--source", "0"], "a camera does not")):
        assert replay(tmp_path, tmp_path / "record", *extra) == 2, words


def test_a_model_of_pictures_alone_needs_no_poses(home, tmp_path):
    write_checkpoint(tmp_path / "model.pt", backbone="tiny_cnn", pose_features="none", num_keypoints=0)
    source = ["--source", home / "mouse.mp4"]
    assert live(tmp_path, *source, "--record", tmp_path / "record", poses=None) == 0
    recording = Recording.read(tmp_path / "record")
    assert recording.probs.std(axis=0).max() > 1e-4
    assert replay(tmp_path, tmp_path / "record", *map(str, source)) == 0


def test_frames_that_fail_are_counted_and_change_the_exit_code(home, tmp_path, monkeypatch, capsys):
    write_checkpoint(tmp_path / "model.pt", backbone="tiny_cnn", pose_features="none", num_keypoints=0)
    calls = []

    def features(image):
        calls.append(image)
        if len(calls) == 3:
            raise ZeroDivisionError
        return np.zeros(128)

    monkeypatch.setattr(setup, "image_features", lambda trained: features)
    assert live(tmp_path, "--source", home / "mouse.mp4", poses=None) == 1
    assert "faults 1 " in capsys.readouterr().out
    assert len(calls) == 360


def test_grey_pictures_are_grey_in_colour(home, tmp_path):
    write_checkpoint(tmp_path / "model.pt", backbone="tiny_cnn")
    trained = load_checkpoint(tmp_path / "model.pt")
    features = ImageFeatures(trained.network.backbone, trained.file.resize)
    image = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    assert np.array_equal(features(image), features(np.stack([image] * 3, axis=2)))
    colour = np.stack([image, image // 2, image // 3], axis=2)
    assert not np.array_equal(features(colour), features(colour[..., ::-1]))


def test_a_file_in_real_time_drops_what_it_cannot_follow(home, tmp_path, monkeypatch, capsys):
    stub = install_stub(monkeypatch)
    find = stub.get_pose
    monkeypatch.setattr(
        stub, "get_pose", lambda self, frame=None, **kw: (time.sleep(0.1), find(self, frame, **kw))[1]
    )
    pose = write_pose_file(tmp_path / "pose.pt")
    short = Source("short", 30.0, np.zeros((SIZE, SIZE, 3), np.uint8), lambda: pictures(30))
    monkeypatch.setattr(module, "open_source", lambda *given: short)
    arguments = ["--source", "x", "--pose_model", pose, "--realtime", "--record", tmp_path / "record"]
    assert live(home, *arguments, poses=None) == 0
    counts = capsys.readouterr().out.split("frames   ")[1].split()
    assert int(counts[2]) >= 10
    recording = Recording.read(tmp_path / "record")
    assert recording.index.tolist() == np.rint(30 * recording.frame_time).astype(int).tolist()
    assert int(counts[0]) + int(counts[2]) == 30


def pictures(frames):
    for number in range(frames):
        yield LiveFrame(number, number / 30, time.perf_counter(), np.zeros((SIZE, SIZE, 3), np.uint8))


def test_an_interrupt_ends_a_camera_in_good_order(home):
    processor = BehaviorProcessor(open_stream(load_checkpoint(home / "model.pt"), None))
    closed = []

    def frames():
        try:
            while True:
                time.sleep(0.002)
                yield LiveFrame(0, 0.0, 0.0)
        finally:
            closed.append(True)

    def interrupted(frame):
        raise KeyboardInterrupt

    camera = Source("camera 0", None, None, frames, camera=True)
    assert follow(camera, interrupted, processor, None) >= 0
    file = clock_source(3, 30.0)
    with pytest.raises(KeyboardInterrupt):
        follow(file, interrupted, processor, None)
    assert closed == [True]


def test_events_are_sent(home, tmp_path):
    live(home, "--record", tmp_path / "plain")
    label, level = busiest(home, tmp_path / "plain")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        live(home, "--trigger", f"{label}={level}", "--udp", f"127.0.0.1:{receiver.getsockname()[1]}")
        assert json.loads(receiver.recv(4096))["label"] == label


@pytest.mark.parametrize(
    ("flag", "value", "more"),
    [
        ("min_on", 8, False),
        ("refractory_ms", 2000, False),
        ("off_at", 0.0, False),
        ("watchdog_ms", 100, True),
    ],
)
def test_trigger_settings_bite(home, tmp_path, flag, value, more):
    live(home, "--record", tmp_path / "plain")
    label, level = busiest(home, tmp_path / "plain")
    settings = {"min_on": 1, "refractory_ms": 0, "off_at": level, "watchdog_ms": 200, "fps": 7}
    counts = []
    for name, extra in (("a", {}), ("b", {flag: value})):
        flags = [word for pair in {**settings, **extra}.items() for word in (f"--{pair[0]}", pair[1])]
        live(home, "--trigger", f"{label}={level}", "--record", tmp_path / name, *flags)
        counts.append(len(Recording.read(tmp_path / name).events))
    assert counts[1] > counts[0] > 4 if more else counts[1] < counts[0]


def test_a_recording_is_kept_when_the_source_fails(home, tmp_path, capsys):
    rows = (home / "mouse.csv").read_text().splitlines()
    (tmp_path / "short.csv").write_text("\n".join(rows[:23]) + "\n")
    arguments = ["--poses", tmp_path / "short.csv", "--source", home / "mouse.mp4"]
    assert live(home, *arguments, "--record", tmp_path / "record", poses=None) == 2
    assert "20 rows, the source has more frames" in capsys.readouterr().err
    assert len(Recording.read(tmp_path / "record").index) == 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--poses {0}/mouse.csv --pose_model x.pt", "exclude each other"),
        ("", "--source FILE, CAMERA or FOLDER is needed"),
        ("--source {0}/mouse.mp4", "--pose_model FILE or --poses FILE is needed"),
        ("--source 0 --poses {0}/mouse.csv", "--poses with a camera"),
        ("--source {0}/mouse.mp4 --individual a --pose_model x.pt", "--individual"),
        ("--poses {0}/mouse.csv --resize 0.5 --cropping 1 2 3 4", "--cropping, --resize: has no effect"),
        ("--poses {0}/mouse.csv --trigger sleep=0.5", "trigger sleep: the actions are rest"),
        ("--poses {0}/mouse.csv --trigger paw_lick", "--trigger paw_lick: NAME=P is expected"),
        ("--poses {0}/mouse.csv --trigger rest=0.5 rest=0.6", "given twice"),
        ("--poses {0}/mouse.csv --trigger rest=high", "'high' is no probability"),
        ("--poses {0}/mouse.csv --trigger rest=1.5", "level of trigger rest is 1.5"),
        ("--poses {0}/mouse.csv --trigger rest=0.5 --watchdog_ms 5", "watchdog_ms"),
        ("--poses {0}/mouse.csv --udp here", "HOST:PORT is expected"),
        ("--poses {0}/mouse.csv --udp 127.0.0.1:99999", "--udp 127.0.0.1:99999"),
        ("--poses {0}/mouse.csv --events {0}/absent/e.jsonl", "--events"),
        ("--poses {0}/mouse.csv --record {0}/mouse.csv", "--record"),
        ("--poses {0}/mouse.csv --kp_alias nose", "--kp_alias nose"),
        ("--poses {0}/mouse.csv --device tpu", "--device"),
        ("--source {0}/mouse.mp4 --poses {0}/mouse.csv --fps 20", "--fps 20"),
        ("--source {0}/mouse.mp4 --pose_model {0}/absent.pt", "no pose model file"),
    ],
)
def test_bad_input_is_named(home, capsys, arguments, words):
    assert live(home, *arguments.format(home).split(), poses=None) == 2
    assert words in capsys.readouterr().err


def test_a_model_that_looks_ahead_is_refused(home, tmp_path, capsys):
    write_checkpoint(tmp_path / "model.pt", causal=False)
    assert live(tmp_path, "--poses", home / "mouse.csv", poses=None) == 2
    assert "train with --causal" in capsys.readouterr().err


def test_a_visual_model_without_pictures_is_refused(home, tmp_path, capsys):
    write_checkpoint(tmp_path / "model.pt", backbone="tiny_cnn")
    assert live(tmp_path, "--poses", home / "mouse.csv", poses=None) == 2
    assert "reads pictures (tiny_cnn); --source is needed" in capsys.readouterr().err


def test_a_recording_is_never_overwritten(home, tmp_path, capsys):
    assert live(home, "--record", tmp_path / "record") == 0
    assert live(home, "--record", tmp_path / "record") == 2
    assert "a recording is there already" in capsys.readouterr().err


def test_aliases_name_the_points_of_a_file(home, tmp_path):
    (tmp_path / "other.csv").write_text((home / "mouse.csv").read_text().replace("mouth", "Schnauze"))
    given = ["--poses", tmp_path / "other.csv", "--record", tmp_path / "record"]
    assert live(home, *given, poses=None) == 2
    assert live(home, *given, "--kp_alias", "Schnauze=mouth", poses=None) == 0
    assert np.array_equal(Recording.read(tmp_path / "record").pose, poses_of(home))


def test_a_recording_of_another_model_is_refused(home, tmp_path, capsys):
    live(home, "--record", tmp_path / "record")
    path = tmp_path / "record" / "config.yaml"
    path.write_text(path.read_text().replace("- walk", "- run"))
    assert replay(home, tmp_path / "record") == 2
    assert "another model" in capsys.readouterr().err
    assert replay(home, tmp_path / "record", "--source", str(home / "mouse.mp4")) == 2
    with pytest.raises(UserError, match="no recording"):
        Recording.read(tmp_path / "absent")
