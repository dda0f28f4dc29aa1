"""Where live events go: a function, the console, a JSON lines file, UDP."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from rodent_behavior.live.faults import Faults
from rodent_behavior.live.trigger import Reason

State = Literal["on", "off", "restart"]


@dataclass(frozen=True)
class Event:
    """An edge of a trigger, or a restart of the stream (`label` and `p` None, `reason` gap or backwards).

    `index` is the frame on the stream's grid, `frame_time` its time as given, `wall` seconds since 1970.
    """

    index: int
    frame_time: float | None
    wall: float
    label: str | None
    p: float | None
    state: State
    reason: Reason | Literal["gap", "backwards", "reset"]

    def to_json(self) -> str:
        """Return the event as one line of JSON."""
        return json.dumps(asdict(self))


class Sink(Protocol):
    """Takes events; `close` gives back what it holds."""

    def send(self, event: Event) -> None: ...

    def close(self) -> None: ...


class CallbackSink:
    """Calls a function with each event."""

    def __init__(self, function: Callable[[Event], None]) -> None:
        self._function = function

    def send(self, event: Event) -> None:
        """Call the function."""
        self._function(event)

    def close(self) -> None:
        """Nothing to give back."""


class PrintSink:
    """Writes one readable line per event to stdout."""

    def send(self, event: Event) -> None:
        """Write the line."""
        what = "stream" if event.label is None else event.label
        level = "" if event.p is None else f" p={event.p:.3f}"
        sys.stdout.write(f"frame {event.index}: {what} {event.state} ({event.reason}){level}\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing to give back."""


class JsonLinesSink:
    """Appends each event to a file, flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def send(self, event: Event) -> None:
        """Write the line."""
        self._file.write(event.to_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class UdpSink:
    """Sends each event as one datagram of JSON without waiting for anybody to receive it."""

    def __init__(self, host: str, port: int) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(*found[:3])
        self._address = found[4]
        self._socket.setblocking(False)

    def send(self, event: Event) -> None:
        """Send the datagram."""
        self._socket.sendto(event.to_json().encode(), self._address)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Sinks:
    """Sends events to every sink; one that fails is counted in `faults` and does not stop the others."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = [(sink, Faults(f"sink {type(sink).__name__}")) for sink in sinks]

    @property
    def faults(self) -> int:
        """Events that could not be delivered."""
        return sum(faults.count for _, faults in self._sinks)

    def send(self, event: Event) -> None:
        """Give the event to every sink."""
        for sink, faults in self._sinks:
            with faults:
                sink.send(event)

    def close(self) -> None:
        """Close every sink."""
        for sink, faults in self._sinks:
            with faults:
                sink.close()
