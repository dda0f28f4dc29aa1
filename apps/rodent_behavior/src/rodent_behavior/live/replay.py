"""The replay command: a recording computed again, which must give the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np

from common.config import Parsed, UserError
from common.engine.logging import Console
from common.video import Pixels
from rodent_behavior.export import Trained
from rodent_behavior.live.loop import FrameClock
from rodent_behavior.live.model import image_features, open_model, open_stream
from rodent_behavior.live.processor import BehaviorProcessor
from rodent_behavior.live.recording import Recording
from rodent_behavior.live.sinks import Event
from rodent_behavior.live.source import Source, open_source
from rodent_behavior.live.trigger import Trigger
from rodent_behavior.live_config import ReplayConfig

TOLERANCE = 1e-5


def main(parsed: Parsed[ReplayConfig]) -> int:
    """Compute a recording again; return 1 when a probability moves by more than 1e-5 or an event differs."""
    config = parsed.config
    recording = Recording.read(config.recording)
    trained = open_model(config.checkpoint, config.backbone_weights, config.device)
    _check_model(recording, trained)
    again = replay(recording, trained, _source(config, trained))
    difference, identical = compare(recording, again)
    Console().raw(
        f"replay: {len(recording.index)} frames, max abs dp = {difference:.1e}, "
        f"events identical: {'yes' if identical else 'no'}"
    )
    return 0 if difference <= TOLERANCE and identical else 1


def replay(recording: Recording, trained: Trained, source: Source | None = None) -> Recording:
    """Return what the model answers to the recorded poses, at the recorded times.

    `source` gives the pictures of a visual model again. Resets, and faults that left no row, happen where the
    recording says so.
    """
    clock = FrameClock()
    width, height = recording.config["frame_size"]
    processor = BehaviorProcessor(
        open_stream(trained, (width, height)),
        triggers=[Trigger(**settings) for settings in recording.config["triggers"]],
        embed=image_features(trained),
        clock=clock,
    )
    images = repeat(None) if source is None else _pictures(source, recording)
    for row, image in zip(range(len(recording.index)), images):
        pose, moment = recording.pose[row], float(recording.frame_time[row])
        clock.now = float(recording.arrival[row])
        processor.process(pose, frame_time=None if np.isnan(moment) else moment, image=image)
        for event in recording.events:
            if event.index == recording.index[row] and event.reason == "reset":
                processor.reset()
            elif event.index == recording.index[row] and event.reason == "fault" and np.isfinite(pose).any():
                processor.process(pose, frame_time=np.nan)
    processor.close()
    return processor.recording()


def compare(recording: Recording, again: Recording) -> tuple[float, bool]:
    """Return the largest difference of a probability, and whether the events are the same.

    Events are the same at the same frames with the same action, state and probability; why a trigger went off
    is not compared: a fault comes back as a pose without points.
    """
    if not np.array_equal(recording.index, again.index):
        return float("inf"), False
    difference = float(np.abs(recording.probs - again.probs).max(initial=0.0))
    same = len(recording.events) == len(again.events) and all(
        map(_same_event, recording.events, again.events)
    )
    return difference, same


def _same_event(one: Event, other: Event) -> bool:
    if (one.index, one.frame_time, one.label, one.state) != (
        other.index,
        other.frame_time,
        other.label,
        other.state,
    ):
        return False
    if one.p is None or other.p is None:
        return one.p is other.p
    return abs(one.p - other.p) <= TOLERANCE


def _check_model(recording: Recording, trained: Trained) -> None:
    for name, value in (("classes", trained.file.labels.names), ("kp_names", trained.file.kp_names)):
        recorded = recording.config[name]
        if recorded != list(value):
            raise UserError(
                f"{trained.path}: another model than that of the recording: {name} {', '.join(value)}, "
                f"recorded were {', '.join(recorded)}"
            )


def _source(config: ReplayConfig, trained: Trained) -> Source | None:
    visual = trained.file.backbone != "none"
    if config.source is None:
        if visual:
            raise UserError(f"{trained.path}: reads pictures, which are not recorded; --source is needed")
        return None
    if not visual:
        raise UserError(f"--source {config.source}: the model reads no pictures")
    if config.source.isdecimal():
        raise UserError(f"--source {config.source}: a camera does not give the recorded pictures again")
    return open_source(config.source, config.fps, trained.file.fps)


def _pictures(source: Source, recording: Recording) -> Iterator[Pixels | None]:
    """Yield the picture of each recorded row, found by its time."""
    assert source.fps is not None
    frames, half = source.open(), 0.5 / source.fps
    frame = next(frames, None)
    for moment in recording.frame_time.tolist():
        while frame is not None and frame.time < moment - half:
            frame = next(frames, None)
        if frame is None or not abs(frame.time - moment) <= half:
            raise UserError(f"--source {source.name}: has no frame at {moment:.3f} s")
        yield frame.image
