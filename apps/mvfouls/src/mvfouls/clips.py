"""The frames of a clip that a sample is made of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from common.config import UserError
from common.video import Pixels, VideoError, decode_numbers
from mvfouls.cache import JITTER, WINDOW, Window, WindowCache
from mvfouls.frames import FrameRule
from mvfouls.settings import CacheSettings, Policies
from mvfouls.survey import View

WARM_SAMPLE = 200
"""Clips that are looked up to tell how warm the store is."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class ClipSource:
    """Frames of clips, from the store of windows where it has them, else decoded; bitwise the same for uint8.

    `jitter` is the largest shift that will be asked for, `window` what is stored at least; both in frames of
    25 fps. `say` receives what a person may want to know about the store. Can be sent to worker processes.
    """

    def __init__(
        self,
        frames: FrameRule,
        cache: CacheSettings,
        policies: Policies,
        *,
        jitter: int = JITTER,
        window: Window = WINDOW,
        say: Callable[[str], None] = _log.warning,
    ) -> None:
        self.frames = frames
        self.policies = policies
        self.cache = (
            None
            if cache.folder is None
            else WindowCache(cache, frames, jitter=jitter, window=window, say=say)
        )
        self._lengths: dict[Path, int] = {}

    def read(self, view: View, shift: int = 0) -> Pixels:
        """Return the window of a clip, `shift` frames of 25 fps later, as uint8 RGB [T, H, W, 3], writable.

        Frames before the first are the first, frames behind the end are the last. UserError names a clip that
        cannot be decoded, or that ends inside the window although its header says otherwise and the policy is
        not to pad.
        """
        return self._checked(view, lambda known: self._read(known, shift))

    def prepare(self, view: View) -> bool:
        """Store the window of a clip; return whether the store took it. UserError as `read`."""
        if self.cache is None:
            return False
        return self._checked(view, self.cache.fill)

    def has(self, view: View) -> bool:
        """Return whether the store has the window of a clip."""
        return self.cache is not None and self.cache.has(self._known(view))

    def warm(self, views: Sequence[View]) -> float:
        """Return the percentage of clips in the store, among at most 400 evenly chosen ones."""
        step = max(1, len(views) // WARM_SAMPLE)
        looked_up = [self.has(view) for view in views[::step]]
        return 100 * sum(looked_up) / max(len(looked_up), 1)

    def _checked(self, view: View, use: Callable[[View], Result]) -> Result:
        """Use a clip; once more when fewer frames decode than its header says."""
        try:
            return use(self._known(view))
        except VideoError as error:
            shorter = self._shorter(view, error)
        try:
            return use(shorter)
        except VideoError as error:
            raise _unreadable(view, error) from error

    def _read(self, view: View, shift: int) -> Pixels:
        wanted = self.frames.indices_at(view.fps, shift)
        numbers = [min(max(number, 0), view.frames - 1) for number in wanted]
        found = None if self.cache is None else self.cache.take(view, numbers)
        return decode_numbers(view.path, numbers) if found is None else found

    def _known(self, view: View) -> View:
        """Return a clip with the number of frames that were found when it was decoded."""
        frames = self._lengths.get(view.path)
        return view if frames is None else replace(view, frames=frames)

    def _shorter(self, view: View, error: VideoError) -> View:
        """Return the clip with the frames that decode; UserError when it cannot be used with these."""
        wanted = self.frames.indices_at(view.fps)
        if error.frame is None or not wanted[0] < error.frame < view.frames:
            raise _unreadable(view, error) from error
        if self.policies.short_clip != "pad" and error.frame <= wanted[-1]:
            raise UserError(
                f"{view.path}: {error.frame} of {view.frames} frames decode and the clip ends inside the "
                f"window (--short_clip {self.policies.short_clip}); remove the file to leave the clip out"
            ) from error
        self._lengths[view.path] = error.frame
        return replace(view, frames=error.frame)


def _unreadable(view: View, error: VideoError) -> UserError:
    reason = str(error).removeprefix(f"{view.path}: ")
    return UserError(f"{view.path}: cannot be decoded: {reason}; remove the file to leave the clip out")
