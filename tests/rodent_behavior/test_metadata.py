"""Metadata pickles are read without running what is in them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from rodent_behavior.metadata import Metadata, read_metadata
from rodent_behavior.settings import IndexSettings

GOOD = {"fps": 29.97, "frame_dimensions": (480, 640), "nframes": 12}


class Command:
    """A pickle that would write a file when loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch broken_out",)


def save(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def test_facts_are_read(tmp_path: Path) -> None:
    assert read_metadata(save(tmp_path / "m", {"data": GOOD})) == Metadata(29.97, 640, 480, 12)


def test_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "m", {"data": GOOD | {"extra": Command()}})
    assert read_metadata(path) is None
    assert not (tmp_path / "broken_out").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "broken_out").exists()


@pytest.mark.parametrize(
    "content",
    [
        [], {}, {"data": 1}, {"data": GOOD | {"fps": "fast"}}, {"data": GOOD | {"fps": 0.0}},
        {"data": GOOD | {"frame_dimensions": (480,)}}, {"data": GOOD | {"nframes": None}},
        {"data": GOOD | {"where": Path("x")}},
    ],
)  # fmt: skip
def test_other_content_is_not_read(tmp_path: Path, content: object) -> None:
    assert read_metadata(save(tmp_path / "m", content)) is None


def test_damaged_files_are_not_read(tmp_path: Path) -> None:
    whole = pickle.dumps({"data": GOOD})
    for number, data in enumerate([b"", b"text\n", whole[:20], whole[:-1], b"\x80\x05\x82\x01."]):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert read_metadata(path) is None
    assert read_metadata(tmp_path / "absent") is None


def test_real_metadata(pain_assay: IndexSettings) -> None:
    (path,) = pain_assay.videos.glob("*_meta.pickle")
    assert read_metadata(path) == Metadata(30.0, 512, 512, 1080)
