"""Sample predictions: images of the run folder, embedded, enlarged by a click without any script."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from common.reporting.html import Html, node, section
from common.reporting.overview import origin
from common.reporting.run_data import RunData

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def samples_section(run: RunData) -> Html | None:
    """Return the galleries of the run, or nothing when no sample was drawn."""
    events = [event for event in run.chosen("samples", "split", "title") if event["items"]]
    if not events:
        return None
    galleries = []
    for event in events:
        items = [_item(run.folder, item) for item in event["items"]]
        galleries += [node("h3", str(event["title"])), node("div", *items, css="gallery"), origin(event)]
    return section("samples", "Sample predictions", *galleries, lead="Click an image to enlarge it.")


def _item(folder: Path, item: dict[str, Any]) -> Html:
    caption = node("figcaption", str(item["caption"]))
    name = str(item["image"])
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return node("figure", node("p", f"Image not found: {name}", css="missing"), caption)
    image = node("img", attributes={"src": data_uri(path), "alt": str(item["caption"]), "loading": "lazy"})
    switch = node("input", attributes={"type": "checkbox", "aria-label": f"Enlarge: {item['caption']}"})
    return node("figure", node("label", switch, image), caption)


def data_uri(path: Path) -> str:
    """Return an image file as a data URI; raises ValueError for anything but PNG and JPEG."""
    media_type = MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        raise ValueError(f"{path}: sample images are {', '.join(MEDIA_TYPES)}")
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
