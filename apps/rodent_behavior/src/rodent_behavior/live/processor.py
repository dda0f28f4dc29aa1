"""What happens to each live pose: time base, behaviour, triggers, recording."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rodent_behavior.dlc import normalise_name, point_of
from rodent_behavior.live.faults import Faults
from rodent_behavior.live.latency import Latency
from rodent_behavior.live.recording import Recorder, Recording
from rodent_behavior.live.sinks import Event, Sink, Sinks
from rodent_behavior.live.trigger import Edge, Reason, Trigger
from rodent_behavior.live.watchdog import Watchdog
from rodent_behavior.streaming import FrameResult, StreamingBehavior

Embed = Callable[[Any], NDArray[np.floating]]
ProcessorState = Literal["waiting", "running", "unknown", "fault"]

LATENCY = "latency.json"
_log = logging.getLogger(__name__)


class BehaviorProcessor:
    """Follows the poses of a live tracker and fires triggers; DeepLabCut-live takes it as a processor.

    `bodyparts` are the tracker's points in their order (default: `kp_names` of the stream), matched as those
    of keypoint files are, `aliases` {bodypart: kp_name} first. `embed` turns the `image` of a frame into the
    features of a visual model. `record` is the folder that `close` writes the recording to. `clock` gives
    monotonic seconds and is read once per call. ValueError at the start for a point that no body part
    matches, a trigger of an unknown action, a watchdog shorter than a frame, and a visual model without
    `embed`.
    """

    def __init__(
        self,
        stream: StreamingBehavior,
        *,
        bodyparts: Sequence[str] | None = None,
        aliases: Mapping[str, str] | None = None,
        triggers: Sequence[Trigger] = (),
        sinks: Sequence[Sink] = (),
        embed: Embed | None = None,
        record: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = stream.config
        if config.model.visual_dim and embed is None:
            raise ValueError("embed is absent: the model needs the visual features of each image")
        self.stream = stream
        self.state: ProcessorState = "waiting"
        self.result: FrameResult | None = None
        self.faults = Faults("frame")
        self.sinks = Sinks(sinks)
        self.latency = Latency()
        self.events: list[Event] = []
        self.repeated = 0
        self.missed = 0
        parts = list(config.kp_names if bodyparts is None else bodyparts)
        self._points = len(parts)
        self._order = point_order(parts, config.kp_names, aliases or {})
        self._triggers = [(trigger, _class_of(trigger, config.classes, config.fps)) for trigger in triggers]
        self._embed = embed
        self._folder = record
        self._clock = clock
        self._recorder = Recorder(len(config.kp_names), len(config.classes))
        self._lost = np.full((len(config.kp_names), 3), np.nan, dtype=np.float32)
        self._index, self._base, self._segment = -1, 0, 0
        self._frame_time: float | None = None
        self._watchdog: Watchdog | None = None
        self._lock = threading.RLock()

    # The parameters are those of the base class of DeepLabCut-live's processors.
    def process(self, pose: NDArray[np.floating], **kwargs: Any) -> NDArray[np.floating]:
        """Take a pose [K, 3] or [1, K, 3] of x, y px and likelihood, and return the same array.

        Reads the keywords `frame_time` (seconds, see `StreamingBehavior.step`) and `image`. Never raises: an
        error is counted in `faults`, the state becomes `fault` and the triggers go off.
        """
        began, now = time.perf_counter(), self._clock()
        with self._lock:
            before = self.faults.count
            with self.faults:
                moment = kwargs.get("frame_time")
                self._take(pose, None if moment is None else float(moment), kwargs.get("image"), now)
            if self.faults.count > before:
                self.state = "fault"
                self._release("fault")
            self._watch()
        self.latency.add("behaviour", time.perf_counter() - began)
        self._report(now)
        return pose

    def poll(self) -> None:
        """Switch off the triggers whose watchdog has run out."""
        now = self._clock()
        with self._lock:
            for trigger, _ in self._triggers:
                self._emit(trigger.expire(now))

    def reset(self) -> None:
        """Start a new trial."""
        with self._lock:
            self.stream.reset()
            if self._index >= self._base:
                self._restart("reset", self._index)

    def recording(self) -> Recording:
        """Return what was received and answered so far."""
        with self._lock:
            return self._recorder.finish(self.events, self._settings())

    def save(self, file: str | Path = "") -> int:
        """Write the recording and latency.json into the folder `file`; return 1, or 0 without a folder."""
        folder = Path(file) if str(file) else self._folder
        if folder is None:
            return 0
        self.recording().write(folder)
        (folder / LATENCY).write_text(json.dumps(self.latency.summary(), indent=2), encoding="utf-8")
        return 1

    def close(self) -> None:
        """Switch the triggers off, end the watchdog, write the recording, close the sinks."""
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        with self._lock:
            self._release("closed")
        self.save()
        self.sinks.close()

    def _take(self, pose: NDArray[np.floating], frame_time: float | None, image: object, now: float) -> None:
        faults, points, visual = self.faults.count, self._lost, None
        with self.faults:
            visual = None if self._embed is None else self._embedded(image)
            points = self._ordered(pose)
        failed = self.faults.count > faults
        result = self.stream.miss(frame_time) if failed else self.stream.step(points, frame_time, visual)
        if result.status == "repeated":
            self.repeated += 1
            return
        self._frame_time = frame_time
        if result.status in ("gap", "backwards"):
            self._restart(result.status, self._index + 1)
        self._index = self._base + result.index
        self.missed += result.missed
        self.result = result
        self._recorder.append(
            index=self._index,
            frame_time=frame_time,
            pose=points,
            segment=self._segment,
            arrival=now,
            probs=result.probs,
        )
        self.state = "unknown" if result.abstain else "running"
        self._fire(result, now, "fault" if failed else "abstain")

    def _fire(self, result: FrameResult, now: float, why: Reason) -> None:
        at = self._index / self.stream.config.fps
        silent = result.abstain or why == "fault"
        for trigger, action in self._triggers:
            p = None if silent else float(result.probs[action])
            self._emit(trigger.update(p, at=at, now=now, why=why))

    def _release(self, reason: Reason) -> None:
        for trigger, _ in self._triggers:
            self._emit(trigger.release(reason))

    def _restart(self, reason: Literal["gap", "backwards", "reset"], index: int) -> None:
        self._release("restart")
        self._base = self._index + 1
        self._segment += 1
        self._publish(Event(index, self._frame_time, time.time(), None, None, "restart", reason))

    def _emit(self, edges: Sequence[Edge]) -> None:
        for edge in edges:
            state: Literal["on", "off"] = "on" if edge.on else "off"
            self._publish(
                Event(self._index, self._frame_time, time.time(), edge.label, edge.p, state, edge.reason)
            )

    def _publish(self, event: Event) -> None:
        self.events.append(event)
        self.sinks.send(event)

    def _ordered(self, pose: NDArray[np.floating]) -> NDArray[np.float32]:
        points = np.asarray(pose, dtype=np.float32)
        if points.ndim == 3 and len(points) == 1:
            points = points[0]
        if points.shape != (self._points, 3):
            raise ValueError(f"pose is {list(points.shape)}: [{self._points}, 3] of one animal is expected")
        return points[self._order]

    def _embedded(self, image: object) -> NDArray[np.floating]:
        if image is None:
            raise ValueError("image is absent: the model needs the image of each frame")
        assert self._embed is not None
        return self._embed(image)

    def _watch(self) -> None:
        if self._triggers and self._watchdog is None:
            shortest = min(trigger.watchdog_ms for trigger, _ in self._triggers)
            self._watchdog = Watchdog(self.poll, shortest / 4000)

    def _report(self, now: float) -> None:
        for part, values in (self.latency.report(now) or {}).items():
            _log.info(
                "latency %s %s", part, " ".join(f"{name} {value:.2f}" for name, value in values.items())
            )

    def _settings(self) -> dict[str, Any]:
        config = self.stream.config
        plain = {
            "source": config.source,
            "classes": list(config.classes),
            "fps": config.fps,
            "frame_size": list(config.frame_size),
            "kp_names": list(config.kp_names),
            "pose_features": config.pose_features,
            "axis_points": None if config.axis_points is None else list(config.axis_points),
            "likelihood_threshold": config.likelihood_threshold,
            "max_gap": config.max_gap,
            "temperature": config.temperature,
            "model": dataclasses.asdict(config.model),
        }
        names = ("label", "level", "off_at", "min_on", "refractory_ms", "watchdog_ms")
        triggers = [{name: getattr(trigger, name) for name in names} for trigger, _ in self._triggers]
        return {**plain, "triggers": triggers}


def point_order(bodyparts: Sequence[str], kp_names: Sequence[str], aliases: Mapping[str, str]) -> list[int]:
    """Return the position in `bodyparts` of each of `kp_names`.

    A body part stands for the point that `aliases` {bodypart: kp_name} or else `ALIASES` gives it. ValueError
    lists the points that no body part or more than one stands for.
    """
    typed = {normalise_name(part): name for part, name in aliases.items()}
    points = [point_of(normalise_name(part), kp_names, typed) for part in bodyparts]
    wrong = [f"{name} ({points.count(name)} found)" for name in kp_names if points.count(name) != 1]
    if wrong:
        raise ValueError(f"bodyparts {', '.join(bodyparts)} do not give {', '.join(wrong)}")
    return [points.index(name) for name in kp_names]


def _class_of(trigger: Trigger, classes: Sequence[str], fps: float) -> int:
    if trigger.label not in classes:
        raise ValueError(f"trigger {trigger.label}: the actions are {', '.join(classes)}")
    if trigger.watchdog_ms * fps < 1000:
        raise ValueError(
            f"watchdog_ms of trigger {trigger.label} is {trigger.watchdog_ms}: "
            f"a frame takes {1000 / fps:.0f} ms"
        )
    return classes.index(trigger.label)
