"""An optional copy of the metrics to Weights & Biases that can neither stop nor hold up a run."""

from __future__ import annotations

import importlib
import netrc
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Self
from urllib.parse import urlparse

from common.engine.logging import Console
from common.engine.manifest import replace_text

Mode = Literal["auto", "online", "offline", "disabled"]

INIT_SECONDS = 30.0
CALL_SECONDS = 30.0
FINISH_SECONDS = 30.0
RUN_ID_FILE = "wandb_run_id"


class WandbSink:
    """A metrics sink whose every call runs in its own thread and may fail or hang without consequence.

    `auto` and `online` go offline when no key is found; a missing package disables the sink. `folder` is
    where offline data and the run's identity are kept, so that a resumed run continues the same curves.
    Values are handed over every `buffer_steps` calls of `log`. Nothing happens before `start`.
    """

    def __init__(
        self,
        project: str,
        *,
        mode: Mode = "auto",
        entity: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        folder: Path | None = None,
        buffer_steps: int = 50,
    ) -> None:
        if buffer_steps < 1:
            raise ValueError(f"buffer_steps must be at least 1, got {buffer_steps}")
        self.status = "disabled"
        self._mode, self._folder, self._buffer_steps = mode, folder, buffer_steps
        self._options: dict[str, Any] = {"project": project, "entity": entity, "name": name}
        self._options |= {"tags": list(tags), "config": dict(config or {})}
        self._console: Console | None = None
        self._active = False
        self._stuck = False
        self._rows: list[tuple[int, dict[str, float]]] = []
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ready = threading.Event()
        self._busy_since: float | None = None
        self._thread: threading.Thread | None = None
        self._run: Any = None

    def start(self, console: Console) -> Self:
        """Connect and print one line that says what became of it; takes `INIT_SECONDS` at most."""
        self._console = console
        if self._mode == "disabled":
            return self
        self._active = True
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()
        if not self._ready.wait(INIT_SECONDS):
            self._stop(f"disabled, no connection within {INIT_SECONDS:g} s", stuck=True)
        console.line("wandb", self.status)
        return self

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Keep the values of a step and hand them over when enough have come together."""
        if not self._active:
            return
        self._rows.append((step, dict(values)))
        if len(self._rows) >= self._buffer_steps:
            self._hand_over()

    def alert(self, text: str) -> None:
        """Send an alert."""
        if self._active:
            self._queue.put(
                lambda: self._run.alert(title=text.splitlines()[0][:80] if text else "", text=text)
            )

    def finish(self, exit_code: int = 0) -> None:
        """Send what is left and end the run; takes `FINISH_SECONDS` at most."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._active:
            self._hand_over()
        self._queue.put(lambda: self._run.finish(exit_code=exit_code))
        self._queue.put(None)
        if self._stuck:
            return
        thread.join(FINISH_SECONDS)
        if thread.is_alive():
            self._report(f"did not finish within {FINISH_SECONDS:g} s, left behind")

    def _hand_over(self) -> None:
        rows, self._rows = self._rows, []
        busy = self._busy_since
        if busy is not None and time.monotonic() - busy > CALL_SECONDS:
            self._report(f"stopped, no answer within {CALL_SECONDS:g} s", stuck=True)
            return
        self._queue.put(lambda: self._send(rows))

    def _send(self, rows: list[tuple[int, dict[str, float]]]) -> None:
        for step, values in rows if self._active else ():
            self._run.log(values, step=step)

    def _work(self) -> None:
        """Make every call, one after another, until there is no more."""
        try:
            self._guarded(self._connect)
        finally:
            self._active = self._active and self._run is not None
            self._ready.set()
        while (call := self._queue.get()) is not None:
            if self._run is not None:
                self._busy_since = time.monotonic()
                self._guarded(call)
                self._busy_since = None

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever wandb raises, training goes on
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            if self._ready.is_set():
                self._report(f"stopped, {reason}")
            else:
                self._stop(f"disabled, {reason}")

    def _report(self, status: str, *, stuck: bool = False) -> None:
        """Stop and say so, once."""
        if self._active and self._console is not None:
            self._console.line("wandb", status)
        self._stop(status, stuck=stuck)

    def _stop(self, status: str, *, stuck: bool = False) -> None:
        self._active = False
        self._stuck = self._stuck or stuck
        self.status = status

    def _connect(self) -> None:
        try:
            module = importlib.import_module("wandb")
        except ImportError:
            self._stop("disabled, the package wandb is not installed")
            return
        mode, why = self._reachable_mode()
        options = {**self._options, "mode": mode, "dir": None if self._folder is None else str(self._folder)}
        saved = self._saved_id()
        if saved:
            options |= {"id": saved, "resume": "allow"}
        run = module.init(**options)
        if self._folder is not None:
            replace_text(self._folder / RUN_ID_FILE, f"{run.id}\n")
        self._run = run
        if not self._stuck:
            self.status = f"{mode}{why}, run {run.id}"

    def _reachable_mode(self) -> tuple[str, str]:
        wanted = os.environ.get("WANDB_MODE", "online") if self._mode == "auto" else self._mode
        if wanted == "online" and not _has_key():
            return "offline", ", no key found"
        return wanted, ""

    def _saved_id(self) -> str:
        path = None if self._folder is None else self._folder / RUN_ID_FILE
        return path.read_text().strip() if path is not None and path.is_file() else ""


def _has_key() -> bool:
    """Return whether a key is in the environment or in the netrc file, without asking or connecting."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
