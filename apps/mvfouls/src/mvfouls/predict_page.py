"""A page that plays the clips of each action beside what is predicted for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.engine.manifest import replace_text
from common.reporting.html import Html, join, meter, node, page, percent
from mvfouls.clip_media import browser_plays, reference, shown_frames, write_moving_picture
from mvfouls.frames import CLIP_FPS
from mvfouls.official import ACTION, SEVERITY
from mvfouls.split import Split, View

LEAD_SECONDS = 0.8
"""Time before the window at which a clip starts to play."""
SEVERITIES = {
    "1.0": "no card",
    "2.0": "no card or yellow",
    "3.0": "yellow card",
    "4.0": "yellow or red",
    "5.0": "red card",
}
VERDICTS = {"": "No offence", "1.0": "No card", "3.0": "Yellow card", "5.0": "Red card"}
"""Offence and severity by the official severity."""
LEAD = (
    "Attention is the share of a view in the answer. What a view says by itself is in colour where it is not "
    "what all views together say. The official line is the projection to the classes of the challenge."
)
STYLE = """
.foul { display: grid; grid-template-columns: minmax(0, 3fr) minmax(300px, 2fr); gap: 12px 36px; }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(260px, 100%), 1fr)); gap: 20px;
  align-content: start; }
.clips video, .clips img { display: block; width: 100%; border-radius: 8px; border: 1px solid var(--line);
  background: #000; }
.clips figcaption { font-size: 13px; margin-top: 6px; }
.clips p { margin: 0; color: var(--muted); font-size: 12.5px; }
.clips .other { color: var(--warn); font-weight: 600; }
.choice { display: grid; grid-template-columns: minmax(150px, 3fr) minmax(60px, 2fr) 62px; gap: 12px;
  align-items: center; padding: 3px 0; font-variant-numeric: tabular-nums; color: var(--muted); }
.choice.first { color: var(--ink); font-weight: 600; }
.choice b { font-weight: inherit; text-align: right; white-space: nowrap; }
.choice .meter { min-width: 0; }
.clips .choice { grid-template-columns: auto minmax(40px, 1fr) auto; }
.lead { margin: 18px 2px 0; }
.foul h3 { margin: 14px 0 2px; }
.foul > div > h3:first-child { margin-top: 0; }
.verdict { display: flex; flex-wrap: wrap; gap: 2px 32px; align-items: baseline; max-width: none;
  font-size: 17px; margin-bottom: 16px; }
@media (max-width: 860px) { .foul { grid-template-columns: 1fr; } }
"""

Content = Mapping[str, Any]


def write_page(path: Path, content: Content, split: Split, *, limit: int) -> int:
    """Write the page of the first `limit` actions of a file of predictions, and what it needs beside it.

    A clip that browsers play is referred to where it lies, relative to the page; of any other there is a
    moving picture in the folder `<page>_clips`. Returns how many there are. OSError when the disk refuses.
    """
    views = {str(view.path): view for view in split.views}
    media = _Media(path, views, content["frames"])
    actions = dict(list(content["actions"].items())[:limit])
    sections = [_action(place, name, action, media) for place, (name, action) in enumerate(actions.items())]
    body = join([_head(content, len(actions)), _navigation(actions), *sections], "\n")
    replace_text(path, page(f"Predictions for {content['source']}", body, style=STYLE))
    return media.made


class _Media:
    """Clips as elements of the page at `path`."""

    def __init__(self, path: Path, views: Mapping[str, View], frames: list[int]) -> None:
        self.path, self.views, self.frames = path, views, frames
        self.folder = path.with_name(f"{path.stem}_clips")
        self.made = 0

    def element(self, action: str, view: Content) -> Html:
        """Return a video, or a moving picture with a note."""
        clip = self.views[view["path"]]
        if browser_plays(clip.path):
            return self._video(clip)
        picture = self.folder / f"{action}_{clip.index}.webp"
        write_moving_picture(picture, clip, self.frames)
        self.made += 1
        start, end = shown_frames(self.frames)
        image = {"src": reference(picture, self.path), "alt": f"{view['clip']} of action {action}"}
        note = f"Frames {start} to {end}; no browser plays the file."
        return join([node("img", attributes=image), node("p", note)], "\n")

    def _video(self, clip: View) -> Html:
        start = max(self.frames[0] / CLIP_FPS - LEAD_SECONDS, 0.0)
        source = f"{reference(clip.path, self.path)}#t={start:.2f}"
        flags = dict.fromkeys(("controls", "muted", "loop", "playsinline"), "")
        return node("video", attributes={"src": source, "preload": "metadata", **flags})


def _head(content: Content, shown: int) -> Html:
    frames, total = content["frames"], len(content["actions"])
    start, end = (frames[0] / CLIP_FPS, (frames[-1] + 1) / CLIP_FPS)
    facts = {
        "actions": str(total) if shown == total else f"{shown} of {total}",
        "network": content["backbone"],
        "checkpoint": f"epoch {content['epoch']}, step {content['step']}",
        "seen of each clip": f"frames {frames[0]} to {frames[-1]}, {start:.2f} s to {end:.2f} s",
        "mirror images": "averaged" if content["tta"] else "",
        "calibration": content["calibration"] or "",
        "clips left out": str(len(content["left_out"]) or ""),
    }
    listed = [node("div", node("dt", term), node("dd", fact)) for term, fact in facts.items() if fact]
    return join(
        [
            node("p", "Predictions", css="eyebrow"),
            node("h1", content["source"]),
            node("dl", *listed, css="facts"),
            node("p", LEAD, css="lead"),
        ]
    )


def _navigation(actions: Iterable[str]) -> Html:
    names = list(actions)
    if len(names) < 2:
        return Html("")
    links = (node("a", name, attributes={"href": f"#{_anchor(place)}"}) for place, name in enumerate(names))
    return node("nav", node("span", "Action"), *links)


def _action(place: int, name: str, action: Content, media: _Media) -> Html:
    clips = [_clip(name, action, view, media) for view in action["views"]]
    used = sum(view["used"] for view in action["views"])
    tasks = [part for task, found in action["tasks"].items() for part in _task(task, found, used)]
    return node(
        "section",
        node("h2", f"Action {name}"),
        _verdict(action["official"], used),
        node("div", node("div", *clips, css="clips"), node("div", *tasks), css="foul"),
        attributes={"id": _anchor(place)},
    )


def _verdict(official: Content | None, used: int) -> Html:
    """Return the official prediction, or nothing without the heads for it."""
    if official is None:
        return Html("")
    kind, card = official[ACTION], VERDICTS[official[SEVERITY]]
    shares = (official["action"][kind], list(official["os"].values())[list(VERDICTS.values()).index(card)])
    parts = []
    for label, value, part in zip((kind, card), shares, ("action", "os")):
        told = node("small", f"{percent(value)}{_agreement(official['agreement'][part], used)}")
        parts.append(node("span", node("b", label), " ", told))
    return node("p", node("small", "Official"), *parts, css="verdict")


def _task(task: str, found: Content, used: int) -> Iterator[Html]:
    agreement = _agreement(found["agreement"], used).removeprefix(", ")
    yield node("h3", _title(task), node("span", agreement, css="when"))
    for place, choice in enumerate(found["top"]):
        yield _bar(_label(task, choice["class"]), choice["probability"], first=place == 0)


def _clip(name: str, action: Content, view: Content, media: _Media) -> Html:
    element = media.element(name, view)
    if not view["used"]:
        return node("figure", element, node("figcaption", view["clip"], node("p", "Not looked at.")))
    said = []
    for task, choices in view["tasks"].items():
        same = choices[0]["class"] == action["tasks"][task]["top"][0]["class"]
        text = f"{_label(task, choices[0]['class'])} {percent(choices[0]['probability'])}"
        said.append(node("span", text, css="" if same else "other"))
    caption = [
        _bar(f"{view['clip']}, attention", view["attention"], first=True),
        node("p", "By itself: ", join(said, ", ")),
    ]
    return node("figure", element, node("figcaption", *caption))


def _bar(label: str, value: float, *, first: bool) -> Html:
    bar = meter(value, None, None, (0.0, 1.0))
    shown = node("b", percent(value))
    return node("div", node("span", label), bar, shown, css="choice first" if first else "choice")


def _agreement(value: float, used: int) -> str:
    """Return how many of the views say the same by themselves; nothing for a single view."""
    return f", {round(value * used)} of {used} views agree" if used > 1 else ""


def _label(task: str, name: str) -> str:
    return f"{name} {SEVERITIES[name]}" if task == "severity" and name in SEVERITIES else name


def _title(task: str) -> str:
    return task.replace("_", " ").capitalize()


def _anchor(place: int) -> str:
    return f"action-{place}"
