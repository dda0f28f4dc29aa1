"""Cached features are those of the frames, made in one pass and only when something changed."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from coded_video import write_coded

from common.augmentation import Photometric, apply_photometric
from common.engine.randomness import generator_for
from common.video import VideoError, content_sha256, decode, probe
from rodent_behavior import feature_cache
from rodent_behavior.augment import Views
from rodent_behavior.backbones import Backbone, build_backbone
from rodent_behavior.feature_cache import FeatureCache
from rodent_behavior.frames import Resize, to_input

REPOSITORY = Path(__file__).parents[2]
SIZE, FRAMES = 32, 150
SEGMENTS = ((0, 60), (75, 135))
VIEWS = Views(copies=2, flip=True, brightness=0.2, contrast=0.2, noise_std=0.02, seed=7)


@pytest.fixture(scope="module")
def real_clips() -> Path:
    named = os.environ.get("RODENT_BEHAVIOR_REAL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "rodent_behavior"
    if not (folder / "bottom_view_clips").is_dir():
        pytest.skip(f"no clips at {folder}")
    return folder / "bottom_view_clips"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    built = build_backbone("tiny_cnn")
    assert built is not None
    return built


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coded(tmp_path_factory.mktemp("video") / "mouse_1.mp4", FRAMES)


@pytest.fixture
def lines() -> list[str]:
    return []


def direct(
    backbone: Backbone, video: Path, start: int, stop: int, drawn: Photometric, *, flip: bool = False
) -> np.ndarray:
    clip = apply_photometric(decode(video, start, stop, transform=Resize(SIZE)), drawn)
    with torch.inference_mode():
        return np.asarray(backbone(to_input(clip[:, :, ::-1] if flip else clip)))


def test_views_are_what_the_frames_give(
    tmp_path: Path, backbone: Backbone, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path, backbone, Resize(SIZE), VIEWS)
    features = cache.get(video, FRAMES, SEGMENTS)
    assert features is not None
    assert (features.shape, features.dtype) == ((6, FRAMES, 128), np.float16)
    np.testing.assert_allclose(features[0], direct(backbone, video, 0, FRAMES, Photometric()), atol=2e-3)
    mirrored = direct(backbone, video, 0, FRAMES, Photometric(), flip=True)
    np.testing.assert_allclose(features[3], mirrored, atol=2e-3)
    for start, stop in (*SEGMENTS, (60, 75), (135, 150)):
        for copy in (1, 2):
            rng = generator_for(7, "view", content_sha256(video), start, copy)
            drawn = VIEWS.photometric(rng)
            np.testing.assert_allclose(
                features[copy, start:stop], direct(backbone, video, start, stop, drawn), atol=2e-3
            )
            np.testing.assert_allclose(
                features[3 + copy, start:stop],
                direct(backbone, video, start, stop, drawn, flip=True),
                atol=2e-3,
            )
    assert not np.allclose(features[1], features[2], atol=2e-3)
    assert features[0].std(axis=0).max() > 0.01


def test_pieces_share_one_draw_and_one_noise(
    tmp_path: Path, backbone: Backbone, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = Views(copies=4, brightness=0.3, noise_std=0.1, seed=1)
    whole = FeatureCache(tmp_path / "a", backbone, Resize(SIZE), views).get(video, FRAMES)
    monkeypatch.setattr(feature_cache, "LONGEST_PIECE", 41)
    parts = FeatureCache(tmp_path / "b", backbone, Resize(SIZE), views).get(video, FRAMES)
    assert whole is not None
    np.testing.assert_allclose(parts, whole, atol=1e-3)


def test_one_sequential_decode_fills_all_views(
    tmp_path: Path, backbone: Backbone, video: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    original = feature_cache.read_frames
    monkeypatch.setattr(
        feature_cache, "read_frames", lambda *a, **k: reads.append(a[1:]) or original(*a, **k)
    )
    cache = FeatureCache(tmp_path, backbone, Resize(SIZE), VIEWS, say=lines.append)
    cache.get(video, FRAMES, SEGMENTS)
    cache.get(video, FRAMES, SEGMENTS)
    FeatureCache(tmp_path, backbone, Resize(SIZE), VIEWS).get(video, FRAMES, SEGMENTS)
    assert reads == [(0, FRAMES)]
    assert lines == [f"features of mouse_1.mp4: {FRAMES} frames, 6 views, 0.2 MB"]


def test_everything_the_features_depend_on_is_in_the_key(
    tmp_path: Path, backbone: Backbone, video: Path
) -> None:
    torch.manual_seed(1)
    other = build_backbone("tiny_cnn")
    assert other is not None
    few = ((0, 30),)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    kinds = [
        (backbone, Resize(SIZE), VIEWS, video, 60, few),
        (backbone, Resize(SIZE), VIEWS, copy, 60, few),
        (other, Resize(SIZE), VIEWS, video, 60, few),
        (backbone, Resize(SIZE, "stretch"), VIEWS, video, 60, few),
        (backbone, Resize(SIZE + 2), VIEWS, video, 60, few),
        (backbone, Resize(SIZE), replace(VIEWS, noise_std=0.03), video, 60, few),
        (backbone, Resize(SIZE), replace(VIEWS, seed=8), video, 60, few),
        (backbone, Resize(SIZE), replace(VIEWS, flip=False), video, 60, few),
        (backbone, Resize(SIZE), VIEWS, video, 60, ((0, 20),)),
        (backbone, Resize(SIZE), VIEWS, video, 59, few),
    ]
    for network, resize, views, path, frames, segments in kinds:
        FeatureCache(tmp_path / "cache", network, resize, views).get(path, frames, segments)
    entries = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert entries == [".json"] * (len(kinds) - 1) + [".npy"] * (len(kinds) - 1)


def test_a_truncated_entry_is_rebuilt_with_a_line(
    tmp_path: Path, backbone: Backbone, video: Path, lines: list[str]
) -> None:
    cache = FeatureCache(tmp_path, backbone, Resize(SIZE), say=lines.append)
    first = np.array(cache.get(video, 20))
    (stored,) = tmp_path.glob("*.npy")
    stored.write_bytes(stored.read_bytes()[:-100])
    np.testing.assert_array_equal(cache.get(video, 20), first)
    assert "bytes instead of" in lines[1]
    assert stored.name in lines[1]
    assert lines[2] == lines[0]


def test_features_that_do_not_fit_are_not_stored(
    tmp_path: Path, backbone: Backbone, video: Path, lines: list[str]
) -> None:
    cache = FeatureCache(tmp_path / "cache", backbone, Resize(SIZE), max_gb=1e-6, say=lines.append)
    assert cache.get(video, 20) is None
    assert "do not fit" in lines[0]
    assert not (tmp_path / "cache").exists()


def test_files_and_segments_that_do_not_reach(tmp_path: Path, backbone: Backbone, video: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", backbone, Resize(SIZE), VIEWS)
    with pytest.raises(VideoError, match="frame 150 is missing: 150 frames decode"):
        cache.get(video, FRAMES + 1)
    with pytest.raises(VideoError, match="no such file"):
        cache.get(tmp_path / "absent.mp4", 5)
    with pytest.raises(ValueError, match="segment 100 to 160 is not within the 150 frames"):
        cache.get(video, FRAMES, ((100, 160),))
    with pytest.raises(ValueError, match="frames is 0"):
        cache.get(video, 0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_backbone_is_left_as_it_was(tmp_path: Path, video: Path) -> None:
    network = build_backbone("tiny_cnn")
    assert network is not None
    network.unfreeze(2)
    network.train()
    FeatureCache(tmp_path, network, Resize(SIZE)).get(video, 3)
    assert network.training
    assert network(torch.rand(1, 3, 16, 16)).requires_grad


def test_real_clips_have_their_documented_length(
    tmp_path: Path, backbone: Backbone, real_clips: Path
) -> None:
    counts = {path.stem: probe(path).frames for path in sorted(real_clips.glob("*.mp4"))}
    assert counts == {
        "body groom L": 84, "body groom R": 150, "genitalia groom": 60, "genitalia groom L": 234,
        "genitalia groom R": 402, "grooming": 204, "licking hindpaw L": 73, "licking hindpaw R": 102,
        "rearing": 84, "still": 126, "walking": 144,
    }  # fmt: skip
    features = FeatureCache(tmp_path, backbone, Resize(64)).get(real_clips / "genitalia groom.mp4", 60)
    assert features is not None
    assert np.isfinite(features).all()
    assert features[0].astype(np.float32).std(axis=0).max() > 1e-3
