"""Triggers, sinks and the processor of a live command, from its settings."""

from __future__ import annotations

from collections.abc import Callable

from common.config import UserError, writing
from rodent_behavior.export import Trained
from rodent_behavior.live.dlc import model_bodyparts
from rodent_behavior.live.model import image_features, open_stream
from rodent_behavior.live.processor import BehaviorProcessor
from rodent_behavior.live.recording import POSES
from rodent_behavior.live.sinks import JsonLinesSink, PrintSink, Sink, UdpSink
from rodent_behavior.live.trigger import Trigger
from rodent_behavior.live_config import LiveConfig
from rodent_behavior.settings import named_values, read_aliases

PORTS = 2**16


def check_inputs(config: LiveConfig) -> None:
    """Raise UserError for flags that exclude or need each other, and for a recording that would be lost."""
    if config.pose_model is not None and config.poses is not None:
        raise UserError("--pose_model and --poses exclude each other: poses come from one of them")
    if config.source is None and config.poses is None:
        raise UserError("--source FILE, CAMERA or FOLDER is needed (only --poses goes without)")
    if config.poses is not None and config.source is not None and config.source.isdecimal():
        raise UserError("--poses with a camera: the keypoints of a file belong to recorded frames")
    if config.poses is None and config.individual is not None:
        raise UserError("--individual chooses an animal of --poses, which is not given")
    view = {"cropping": config.cropping, "dynamic": config.dynamic, "resize": config.resize}
    typed = [f"--{name}" for name, value in view.items() if value is not None]
    if config.pose_model is None and typed:
        raise UserError(f"{', '.join(typed)}: has no effect without --pose_model")
    if config.record is not None and (config.record / POSES).exists():
        raise UserError(f"--record {config.record}: a recording is there already")


def build_processor(
    config: LiveConfig,
    trained: Trained,
    frame_size: tuple[int, int] | None,
    clock: Callable[[], float],
) -> BehaviorProcessor:
    """Return the processor with its triggers, sinks and recording; UserError names what does not fit."""
    bodyparts, renamed = None, {}
    if config.pose_model is not None:
        bodyparts, renamed = model_bodyparts(config.pose_model), read_aliases(config.kp_alias)
    stream = open_stream(trained, frame_size)
    triggers = build_triggers(config)
    sinks = open_sinks(config)
    try:
        if config.record is not None:
            config.record.mkdir(parents=True, exist_ok=True)
        return BehaviorProcessor(
            stream,
            bodyparts=bodyparts,
            aliases=renamed,
            triggers=triggers,
            sinks=sinks,
            embed=image_features(trained),
            record=config.record,
            clock=clock,
        )
    except (ValueError, OSError) as error:
        for sink in sinks:
            sink.close()
        source = f"--record {config.record}: " if isinstance(error, OSError) else ""
        raise UserError(f"{source}{error}") from error


def build_triggers(config: LiveConfig) -> list[Trigger]:
    """Return a trigger for each `--trigger NAME=P`."""
    levels = named_values("trigger", config.trigger, "NAME=P")
    try:
        return [
            Trigger(
                label,
                _level(label, level),
                off_at=config.off_at,
                min_on=config.min_on,
                refractory_ms=config.refractory_ms,
                watchdog_ms=config.watchdog_ms,
            )
            for label, level in levels
        ]
    except ValueError as error:
        raise UserError(str(error)) from error


def open_sinks(config: LiveConfig) -> list[Sink]:
    """Return where events go: the console always, a file and UDP when asked for."""
    sinks: list[Sink] = [PrintSink()]
    if config.udp is not None:
        host, _, port = config.udp.rpartition(":")
        if not (host and port.isdecimal() and int(port) < PORTS):
            raise UserError(f"--udp {config.udp}: HOST:PORT is expected")
        try:
            sinks.append(UdpSink(host, int(port)))
        except OSError as error:
            raise UserError(f"--udp {config.udp}: {error}") from error
    if config.events is not None:
        with writing(f"--events {config.events}"):
            sinks.append(JsonLinesSink(config.events))
    return sinks


def _level(label: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--trigger {label}={text}: {text!r} is no probability") from None
