"""The store of decoded windows: one window of every clip, wide enough for all that training asks for."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from common.video import FrameCache, Pixels, VideoError
from mvfouls.frames import FrameRule, frame_at, is_clip_fps
from mvfouls.settings import CacheSettings
from mvfouls.survey import View

WINDOW = (59, 90)
"""Frames of a clip of 25 fps that are stored at least, both inclusive."""
JITTER = 4
"""Frames that the window can be shifted by at least."""
JPEG_QUALITY = 90
RESERVE = 2 * 10**9
"""Bytes of the disk that the store leaves free."""
WINDOWS = "windows.json"
"""File of the windows that the folder holds."""

Window = tuple[int, int]

_log = logging.getLogger(__name__)


class WindowCache:
    """Windows of clips on disk, known by the content of the clip.

    A window is `window`, or what `frames` shifted by `jitter` frames either way asks for if that is more.
    Wider ones that the folder holds serve too. What cannot be written, once, is not tried again: `say` gets
    one line, and clips are decoded. `settings.folder` must be given.
    """

    def __init__(
        self,
        settings: CacheSettings,
        frames: FrameRule,
        *,
        jitter: int = JITTER,
        window: Window = WINDOW,
        say: Callable[[str], None] = _log.warning,
    ) -> None:
        assert settings.folder is not None
        self.folder = settings.folder
        self.say = say
        indices = frames.indices()
        reach = max(jitter, JITTER)
        self.window = (
            max(min(window[0], indices[0] - reach), 0),
            max(window[1], indices[-1] + reach),
        )
        self._store = FrameCache(
            settings.folder,
            max_gb=math.inf if settings.max_gb is None else settings.max_gb,
            quality=JPEG_QUALITY if settings.format == "jpeg" else None,
            say=say,
        )
        self.fills = True
        """Whether what is missing is stored."""
        self._try_to_write()
        wider = [known for known in _registered(self.folder) if _covers(known, self.window)]
        self._windows = [self.window, *(known for known in wider if known != self.window)]

    def take(self, view: View, numbers: Sequence[int]) -> Pixels | None:
        """Return frames of a clip by number, stored now if they are not; None when they cannot be served.

        Raises VideoError when the clip ends before it says.
        """
        for window in self._windows:
            start, stop = _bounds(window, view)
            if start <= min(numbers) and max(numbers) < stop:
                found = self._store.take(view.path, numbers, start, stop, fill=False)
                if found is not None:
                    return found
        start, stop = _bounds(self.window, view)
        if not self.fills or min(numbers) < start or max(numbers) >= stop:
            return None
        return self._fill(view, numbers, (start, stop))

    def has(self, view: View) -> bool:
        """Return whether all that training may ask of a clip is stored."""
        return any(self._store.has(view.path, *_bounds(window, view)) for window in self._windows)

    def fill(self, view: View) -> bool:
        """Store the window of a clip; return whether that was possible. Raises VideoError as `take`."""
        start, _ = _bounds(self.window, view)
        return self.fills and self._fill(view, [start], _bounds(self.window, view)) is not None

    def _fill(self, view: View, numbers: Sequence[int], bounds: Window) -> Pixels | None:
        try:
            if shutil.disk_usage(self.folder).free < RESERVE:
                self._stop(f"less than {RESERVE / 1e9:g} GB of the disk are free")
                return None
            found = self._store.take(view.path, numbers, *bounds)
        except VideoError:
            raise
        except OSError as error:
            self._stop(str(error))
            return None
        if found is None:
            self._stop("it is full")
        return found

    def _stop(self, reason: str) -> None:
        self.fills = False
        self.say(f"cache {self.folder}: {reason}; clips that are not in it are decoded each time")

    def _try_to_write(self) -> None:
        """Write the window of this object down for those that ask for less."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                known = _registered(self.folder)
                if self.window not in known:
                    temporary = self.folder / f"{WINDOWS}.tmp-{os.getpid()}"
                    temporary.write_text(json.dumps(sorted([*known, self.window])))
                    os.replace(temporary, self.folder / WINDOWS)
        except OSError as error:
            self._stop(f"cannot be written: {error.strerror}")


def _bounds(window: Window, view: View) -> Window:
    """Return the first frame of a clip that is stored and the one behind the last.

    At another rate than 25 fps one more at either end, since frames are rounded twice there.
    """
    more = 0 if is_clip_fps(view.fps) else 1
    start = max(frame_at(window[0], view.fps) - more, 0)
    return start, min(frame_at(window[1], view.fps) + more + 1, view.frames)


def _covers(window: Window, other: Window) -> bool:
    return window[0] <= other[0] and other[1] <= window[1]


def _registered(folder: Path) -> list[Window]:
    """Return the windows that were ever stored in a folder."""
    try:
        return [(int(low), int(high)) for low, high in json.loads((folder / WINDOWS).read_text())]
    except (OSError, ValueError, TypeError):
        return []
