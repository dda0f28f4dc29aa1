"""The processor as a live tracker calls it."""

import json
import time

import numpy as np
import pytest
from streaming_pieces import CLASSES, build, offline, walk

from rodent_behavior.live import BehaviorProcessor, Trigger
from rodent_behavior.live.recording import Recording
from rodent_behavior.live.sinks import CallbackSink
from rodent_behavior.streaming import FrameResult


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Scripted:
    """Stands for a stream that answers with given probabilities of paw_lick; None abstains."""

    def __init__(self, script):
        self.config = build()[1].config
        self._script = list(script)
        self._index = -1

    def step(self, pose, frame_time=None, visual=None):
        self._index += 1
        p = self._script[self._index]
        probs = np.zeros(6, dtype=np.float32)
        probs[2] = p or 0.0
        return FrameResult(self._index, probs, "unknown" if p is None else "paw_lick", p is None)

    def miss(self, frame_time=None):
        return self.step(None)

    def reset(self):
        self._index = -1


def states(processor):
    return [(event.index, event.label, event.state, event.reason) for event in processor.events]


def run(processor, poses, clock, *, fps=30.0):
    for pose in poses:
        processor.process(pose)
        clock.now += 1 / fps


def test_the_pose_comes_back_as_it_was():
    processor = BehaviorProcessor(build()[1])
    pose = walk(1)[0]
    kept = pose.copy()
    assert processor.process(pose, frame_time=0.0, anything=3) is pose
    batched = pose[None]
    assert processor.process(batched) is batched
    assert np.array_equal(pose, kept)
    assert processor.faults.count == 0


def test_probabilities_equal_the_offline_model():
    model, stream = build()
    processor = BehaviorProcessor(stream)
    poses = walk(40)
    for pose in poses:
        processor.process(pose)
    recording = processor.recording()
    assert recording.probs == pytest.approx(offline(model, stream.config, poses), abs=1e-5)
    assert np.array_equal(recording.pose, poses)
    assert recording.index.tolist() == list(range(40))
    assert np.isnan(recording.frame_time).all()


def test_body_parts_are_matched_by_name():
    poses = walk(20)
    straight = BehaviorProcessor(build()[1])
    order = [5, 1, 0, 3, 2, 4]
    names = ["Right hindpaw", "Tailbase", "Snout", "RF", "l-frontpaw", "left_hind"]
    mixed = BehaviorProcessor(build()[1], bodyparts=[*names, "tail"])
    extra = np.concatenate([poses[:, order], np.ones((20, 1, 3), dtype=np.float32)], axis=1)
    for pose, other in zip(poses, extra):
        straight.process(pose)
        mixed.process(other)
    assert np.array_equal(straight.recording().probs, mixed.recording().probs)
    aliased = BehaviorProcessor(
        build()[1], bodyparts=["Schnauze", *names[:2], *names[3:]], aliases={"Schnauze": "mouth"}
    )
    aliased.process(poses[0][[0, 5, 1, 3, 2, 4]])
    assert np.array_equal(aliased.recording().probs[0], straight.recording().probs[0])


@pytest.mark.parametrize("parts", [["mouth", "tail"], ["nose", "snout", *["x"] * 4]])
def test_unknown_or_doubled_body_parts_fail_at_the_start(parts):
    with pytest.raises(ValueError, match=r"bodyparts .*(tail_base|mouth \(2 found\))"):
        BehaviorProcessor(build()[1], bodyparts=parts)


def test_start_up_errors():
    for triggers, word in (
        ([Trigger("sleep", 0.5)], "sleep"),
        ([Trigger("rest", 0.5, watchdog_ms=20)], "watchdog"),
    ):
        with pytest.raises(ValueError, match=word):
            BehaviorProcessor(build()[1], triggers=triggers)
    with pytest.raises(ValueError, match="embed"):
        BehaviorProcessor(build(visual_dim=3)[1])


def test_the_initialising_call_counts_once():
    processor = BehaviorProcessor(build()[1])
    poses = walk(5)
    processor.process(poses[0], frame_time=0.0)
    for frame, pose in enumerate(poses):
        processor.process(pose, frame_time=frame / 30)
    assert processor.recording().index.tolist() == [0, 1, 2, 3, 4]
    assert processor.repeated == 1


def test_dropped_frames_do_not_shift_the_time_base():
    processor = BehaviorProcessor(build()[1])
    poses = walk(20)
    for frame in (0, 1, 2, 5, 6, 19):
        processor.process(poses[frame], frame_time=np.float64(frame / 30))
    recording = processor.recording()
    assert processor.missed == 2
    assert recording.index.tolist() == [0, 1, 2, 5, 6, 7]
    assert recording.segment.tolist() == [0, 0, 0, 0, 0, 1]
    assert states(processor) == [(7, None, "restart", "gap")]
    assert processor.events[0].frame_time == pytest.approx(19 / 30)


def test_time_going_back_and_reset_start_again():
    processor = BehaviorProcessor(build()[1])
    poses = walk(6)
    processor.reset()
    for pose, moment in zip(poses[:3], (1.0, 1.034, 0.5)):
        processor.process(pose, frame_time=moment)
    processor.reset()
    processor.reset()
    processor.process(poses[0], frame_time=0.6)
    recording = processor.recording()
    assert recording.index.tolist() == [0, 1, 2, 3]
    assert recording.segment.tolist() == [0, 0, 1, 2]
    assert states(processor) == [(2, None, "restart", "backwards"), (2, None, "restart", "reset")]
    assert np.array_equal(recording.probs[0], recording.probs[3])


@pytest.mark.parametrize("bad", [np.zeros((2, 6, 3)), np.zeros((5, 3)), None, "pose"])
def test_bad_poses_are_counted_never_raised(bad):
    processor = BehaviorProcessor(build()[1])
    poses = walk(4, hidden=0)
    for pose in (poses[0], bad, poses[2]):
        assert processor.process(pose) is pose
    assert processor.faults.count == 1
    assert processor.recording().index.tolist() == [0, 1, 2]
    assert np.isnan(processor.recording().pose[1]).all()
    assert processor.state == "running"
    processor.process(bad)
    assert processor.state == "fault"


def test_a_bad_frame_time_is_a_fault():
    processor = BehaviorProcessor(build()[1])
    for moment in (float("nan"), "now", [1, 2]):
        processor.process(walk(1)[0], frame_time=moment)
        assert processor.state == "fault"
    assert processor.faults.count == 3


def test_trigger_edges_on_a_scripted_trace():
    clock = Clock()
    got = []
    script = [0.9, 0.9, 0.9, 0.5, 0.3, *[0.9] * 15, None, 0.9]
    trigger = Trigger("paw_lick", 0.8)
    processor = BehaviorProcessor(
        Scripted(script), triggers=[trigger], sinks=[CallbackSink(got.append)], clock=clock
    )
    run(processor, walk(len(script)), clock)
    processor.close()
    assert states(processor) == [
        (1, "paw_lick", "on", "level"),
        (4, "paw_lick", "off", "level"),
        (19, "paw_lick", "on", "level"),
        (20, "paw_lick", "off", "abstain"),
    ]
    assert got == processor.events
    assert [event.p for event in got[:2]] == pytest.approx([0.9, 0.3])


def test_a_fault_and_closing_switch_the_trigger_off():
    for end, reason in (("pose", "fault"), ("close", "closed"), ("time", "fault")):
        clock = Clock()
        processor = BehaviorProcessor(Scripted([0.9] * 9), triggers=[Trigger("paw_lick", 0.8)], clock=clock)
        run(processor, walk(4), clock)
        if end == "pose":
            processor.process(np.zeros((3, 3)))
        if end == "time":
            processor.process(walk(1)[0], frame_time="late")
        processor.close()
        assert [event[2:] for event in states(processor)] == [("on", "level"), ("off", reason)]


def test_poll_switches_off_when_the_stream_stops():
    clock = Clock()
    processor = BehaviorProcessor(Scripted([0.9] * 5), triggers=[Trigger("paw_lick", 0.8)], clock=clock)
    run(processor, walk(3), clock)
    processor.poll()
    assert len(processor.events) == 1
    clock.now += 0.3
    processor.poll()
    processor.close()
    assert states(processor)[1:] == [(2, "paw_lick", "off", "watchdog")]


def test_the_watchdog_runs_by_itself():
    processor = BehaviorProcessor(Scripted([0.9] * 5), triggers=[Trigger("paw_lick", 0.8, watchdog_ms=60)])
    processor.process(walk(1)[0])
    processor.process(walk(1)[0])
    until = time.monotonic() + 5
    while processor.events[-1].state != "off" and time.monotonic() < until:
        time.sleep(0.01)
    processor.close()
    assert states(processor)[-1] == (1, "paw_lick", "off", "watchdog")


def test_a_failing_sink_does_not_stop_the_loop(caplog):
    def fail(event):
        raise ZeroDivisionError

    processor = BehaviorProcessor(
        Scripted([0.9] * 5), triggers=[Trigger("paw_lick", 0.8)], sinks=[CallbackSink(fail)], clock=Clock()
    )
    run(processor, walk(4), Clock())
    assert processor.sinks.faults == 1
    assert processor.faults.count == 0
    assert processor.state == "running"
    processor.close()


def test_a_visual_model_reads_the_image():
    model, stream = build(visual_dim=3)
    poses = walk(8)
    images = np.random.default_rng(0).random((8, 4, 4, 3))
    visual = images.mean(axis=(1, 2))
    processor = BehaviorProcessor(stream, embed=lambda image: image.mean(axis=(0, 1)))
    for pose, image in zip(poses, images):
        processor.process(pose, image=image)
    assert processor.recording().probs == pytest.approx(
        offline(model, stream.config, poses, visual), abs=1e-5
    )
    processor.process(poses[0])
    assert processor.state == "fault"


def test_close_writes_a_recording_that_computes_the_same(tmp_path):
    clock = Clock()
    trigger = Trigger("walk", 0.05, off_at=0.01)
    processor = BehaviorProcessor(build()[1], triggers=[trigger], record=tmp_path / "live", clock=clock)
    poses = walk(30)
    for frame, pose in enumerate(poses):
        if frame not in (4, 5):
            processor.process(pose if frame != 9 else None, frame_time=frame / 30)
        clock.now += 1 / 30
    processor.close()
    recording = Recording.read(tmp_path / "live")
    assert recording.config["classes"] == list(CLASSES)
    assert recording.config["triggers"][0]["label"] == "walk"
    latency = json.loads((tmp_path / "live" / "latency.json").read_text())
    assert latency["behaviour"]["count"] == 28
    again = BehaviorProcessor(build()[1], triggers=[Trigger("walk", 0.05, off_at=0.01)], clock=clock)
    for pose, moment, arrival in zip(recording.pose, recording.frame_time, recording.arrival):
        clock.now = arrival
        again.process(pose, frame_time=moment)
    again.close()
    assert np.array_equal(again.recording().probs, recording.probs)
    assert len(recording.events) >= 2
    edges = [[(e.index, e.label, e.state) for e in found] for found in (again.events, recording.events)]
    assert edges[0] == edges[1]


def test_save_without_a_folder_says_so(tmp_path):
    processor = BehaviorProcessor(build()[1])
    processor.process(walk(1)[0])
    assert processor.save() == 0
    assert processor.save(str(tmp_path / "here")) == 1
    assert (tmp_path / "here" / "poses.npz").is_file()
