"""The live command: frames to poses, poses to actions, actions to triggers."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config import Parsed, UserError
from common.engine.command import choose_device
from common.engine.logging import Console
from rodent_behavior.dlc import PoseTable, read_dlc
from rodent_behavior.export import Trained
from rodent_behavior.live.dlc import LivePose
from rodent_behavior.live.model import open_model
from rodent_behavior.live.processor import BehaviorProcessor
from rodent_behavior.live.setup import build_processor, check_inputs
from rodent_behavior.live.source import LiveFrame, NewestFrame, Source, clock_source, open_source, paced
from rodent_behavior.live_config import LiveConfig
from rodent_behavior.settings import read_aliases

Tracker = Callable[[LiveFrame], None]
"""Gives the pose of a frame to the processor."""


class FrameClock:
    """Seconds of the frame being worked on, the time of a file that is not played in real time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def main(parsed: Parsed[LiveConfig]) -> int:
    """Follow the source to its end, a camera until interrupted; return 1 if a frame was a fault, else 0."""
    config, console = parsed.config, Console()
    check_inputs(config)
    trained = open_model(config.checkpoint, config.backbone_weights, config.device)
    table = read_poses(config, trained)
    source = find_source(config, trained, table)
    clock = None if config.realtime or source.camera else FrameClock()
    processor = build_processor(config, trained, source.size, clock or time.monotonic)
    with _latency_lines(shown=clock is None), closing(processor):
        tracker = build_tracker(config, processor, source, table)
        console.line("live", _describe(trained, source))
        dropped = follow(source, tracker, processor, clock)
    for label, text in _summary(processor, dropped):
        console.line(label, text)
    if config.record is not None:
        console.line("wrote", str(config.record))
    return 1 if processor.faults.count else 0


def read_poses(config: LiveConfig, trained: Trained) -> PoseTable | None:
    """Return the keypoints of `--poses` in the model's order, None without the flag."""
    if config.poses is None:
        return None
    names = trained.file.kp_names
    return read_dlc(config.poses, names, aliases=read_aliases(config.kp_alias), individual=config.individual)


def find_source(config: LiveConfig, trained: Trained, table: PoseTable | None) -> Source:
    """Return the frames; UserError when they or the poses lack what the model reads."""
    file = trained.file
    if config.source is not None:
        source = open_source(config.source, config.fps, file.fps)
    else:
        source = clock_source(0 if table is None else len(table), config.fps or file.fps)
    if file.backbone != "none" and source.first is None:
        raise UserError(f"{trained.path}: reads pictures ({file.backbone}); --source is needed")
    if file.pose_features != "none" and config.pose_model is None and table is None:
        raise UserError(f"{trained.path}: reads keypoints; --pose_model FILE or --poses FILE is needed")
    return source


def build_tracker(
    config: LiveConfig, processor: BehaviorProcessor, source: Source, table: PoseTable | None
) -> Tracker:
    """Return what finds poses: the pose model, warmed up; a table; or nothing for pictures alone."""
    if config.pose_model is not None:
        pose = LivePose(
            config.pose_model,
            processor=processor,
            device=str(choose_device(config.device)),
            precision=config.precision,
            cropping=config.cropping,
            dynamic=config.dynamic,
            resize=config.resize,
        )
        assert source.first is not None
        pose.warm_up(source.first)
        return _model_tracker(pose, processor)
    if table is not None:
        assert config.poses is not None
        points = np.concatenate([table.xy, table.likelihood[..., None]], axis=2, dtype=np.float32)
        return _table_tracker(config.poses, points, processor)
    unseen = np.full((len(processor.stream.config.kp_names), 3), np.nan, dtype=np.float32)
    return lambda frame: _process(processor, unseen, frame)


def follow(source: Source, tracker: Tracker, processor: BehaviorProcessor, clock: FrameClock | None) -> int:
    """Give every frame to the tracker and return how many were dropped.

    With a `clock` frames come one after the other and set it. Without, they come in their own time and the
    tracker gets the newest; an interrupt then ends a camera in good order.
    """
    frames = source.open()
    if clock is not None:
        for frame in frames:
            clock.now = frame.time
            _track(tracker, frame, processor)
        return 0
    queue = NewestFrame(frames if source.camera else paced(frames))
    try:
        for frame in queue:
            _track(tracker, frame, processor)
    except KeyboardInterrupt:
        if not source.camera:
            raise
    finally:
        queue.stop()
    return queue.dropped


def _track(tracker: Tracker, frame: LiveFrame, processor: BehaviorProcessor) -> None:
    tracker(frame)
    processor.latency.add("total", time.perf_counter() - frame.arrival)


def _process(processor: BehaviorProcessor, pose: NDArray[np.float32], frame: LiveFrame) -> None:
    processor.process(pose, frame_time=frame.time, image=frame.image)


def _table_tracker(path: Path, points: NDArray[np.float32], processor: BehaviorProcessor) -> Tracker:
    def track(frame: LiveFrame) -> None:
        if frame.number >= len(points):
            raise UserError(f"{path}: {len(points)} rows, the source has more frames")
        _process(processor, points[frame.number], frame)

    return track


def _model_tracker(pose: LivePose, processor: BehaviorProcessor) -> Tracker:
    def track(frame: LiveFrame) -> None:
        assert frame.image is not None
        began = time.perf_counter()
        pose.get_pose(frame.image, frame_time=frame.time, image=frame.image)
        processor.latency.add("pose", time.perf_counter() - began - pose.processor_seconds)

    return track


@contextmanager
def _latency_lines(*, shown: bool) -> Iterator[None]:
    """Show what the processor logs, such as its latency every 10 s, on the console."""
    log = logging.getLogger("rodent_behavior.live")
    handler, level = logging.StreamHandler(sys.stdout), log.level
    if shown:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _describe(trained: Trained, source: Source) -> str:
    size = "" if source.size is None else f"   {source.size[0]} x {source.size[1]}"
    rate = "" if source.fps is None else f"   {source.fps:g} fps"
    file = trained.file
    return f"{source.name}{size}{rate}   {len(file.labels.names)} actions at {file.fps:g} fps"


def _summary(processor: BehaviorProcessor, dropped: int) -> Iterator[tuple[str, str]]:
    frames = len(processor.recording().index)
    counts = {
        "dropped": dropped,
        "missed": processor.missed,
        "repeated": processor.repeated,
        "faults": processor.faults.count,
        "events": len(processor.events),
        "not delivered": processor.sinks.faults,
    }
    yield "frames", "   ".join([str(frames), *(f"{name} {value}" for name, value in counts.items())])
    for part, values in processor.latency.summary().items():
        text = "   ".join(f"{name} {values[f'{name}_ms']:.2f}" for name in ("p50", "p95", "p99", "max"))
        yield "latency", f"{part} {text} ms"
