"""What is drawn for a sample, and what the loader does with it."""

from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pytest
from mv_samples import STRONG, MadeClips, made_split
from sklearn.metrics import roc_auc_score

from common.engine.randomness import SampleKey, generator_for
from mvfouls.augment import (
    LEANINGS,
    SampleDraw,
    at_strength,
    change_frames,
    draw_sample,
    draw_strength,
)
from mvfouls.augment_presets import PRESETS
from mvfouls.settings import AugmentSettings

KEY = SampleKey(3, 1, 40)
CLIP = MadeClips(size=(48, 64)).read(made_split((1, "1.0")).actions[0].views[0])


def drawn(
    settings: AugmentSettings, *, key: SampleKey = KEY, views: int = 3, severity: str = "1.0"
) -> SampleDraw:
    return draw_sample(settings, seed=9, key=key, views=views, frames=16, severity=severity)


def test_presets_are_those_documented_and_fit_the_settings() -> None:
    rows = {name: tuple(asdict(values).values()) for name, values in PRESETS.items()}
    assert rows == {
        "none": (0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0),
        "mild": (1, 0.9, 0.1, 0.01, 0.05, 0.5, 0.0, 0),
        "moderate": (2, 0.8, 0.2, 0.03, 0.1, 0.5, 0.0, 0),
        "aggressive": (3, 0.7, 0.3, 0.06, 0.2, 0.5, 0.0, 0),
        "extreme": (4, 0.6, 0.4, 0.08, 0.3, 0.5, 8.0, 2),
    }
    assert AugmentSettings(**asdict(PRESETS["extreme"])) == STRONG
    assert AugmentSettings(**asdict(PRESETS["none"])) == AugmentSettings()


def test_nothing_is_drawn_at_strength_zero_and_nothing_is_changed() -> None:
    for severity_aware in (False, True):
        settings = AugmentSettings(severity_aware=severity_aware)
        draw = drawn(settings)
        assert (draw.shift, draw.scale) == (0, 1.0)
        for clip in draw.clips:
            assert clip.crop.is_neutral
            assert clip.colour.is_neutral
            assert clip.hold.is_identity
            assert (clip.flip, clip.noise, len(clip.boxes)) == (False, 0.0, 0)
            assert change_frames(CLIP, clip) is CLIP


def test_draws_follow_the_key_alone() -> None:
    def numbers(draw: SampleDraw) -> list[object]:
        clips = [
            (c.crop, c.colour, c.boxes.tolist(), c.hold.index.tolist(), c.flip, c.noise, c.noise_seed)
            for c in draw.clips
        ]
        return [draw.shift, draw.strength, draw.scale, *clips]

    settings = replace(STRONG, severity_aware=True, multi_scale=True)
    first = numbers(drawn(settings))
    assert numbers(drawn(settings)) == first
    assert numbers(drawn(settings, key=KEY._replace(draw=41)))[3:] != first[3:]
    assert first[3] != first[4]
    # fewer views, and other changes switched off, leave the rest as it was
    assert numbers(drawn(settings, views=2))[:5] == first[:5]
    crops = [clip.crop for clip in drawn(STRONG).clips]
    assert [clip.crop for clip in drawn(replace(STRONG, colour=0, cutout=0, jitter=0)).clips] == crops


def test_one_flip_and_one_shift_for_all_views_of_an_action() -> None:
    draws = [drawn(STRONG, key=SampleKey(0, 0, k), views=2) for k in range(800)]
    assert all(len({clip.flip for clip in draw.clips}) == 1 for draw in draws)
    assert np.mean([draw.clips[0].flip for draw in draws]) == pytest.approx(0.5, abs=0.06)
    shifts = np.bincount([draw.shift + 4 for draw in draws], minlength=9) / 800
    np.testing.assert_allclose(shifts, 1 / 9, atol=0.04)
    noise = np.array([clip.noise for draw in draws for clip in draw.clips])
    assert noise.min() >= 0
    assert noise.max() == pytest.approx(0.08, abs=0.001)
    assert noise.mean() == pytest.approx(0.04, abs=0.003)


def test_the_strength_hardly_tells_the_severity() -> None:
    drawn_by = {
        name: np.array([draw_strength(rng, name) for _ in range(20_000)])
        for name, rng in ((name, generator_for(1, "strength", name)) for name in ("", *LEANINGS))
    }
    for values in drawn_by.values():
        assert 0.5 <= values.min() < 0.55
        assert 1.45 < values.max() <= 1.5
    counts = {name: np.histogram(values, bins=25, range=(0.5, 1.5))[0] for name, values in drawn_by.items()}
    for first, second in combinations(counts.values(), 2):
        assert np.minimum(first, second).sum() / 20_000 >= 0.80
    low, high = drawn_by["1.0"], drawn_by["5.0"]
    assert 0.60 <= roc_auc_score(np.repeat([0, 1], 20_000), np.concatenate([low, high])) <= 0.65
    assert np.mean(drawn_by[""]) == pytest.approx(1, abs=0.01)


def test_magnitudes_that_come_out_tell_it_even_less() -> None:
    settings = replace(STRONG, severity_aware=True)
    names = ("noise", "colour", "crop", "dropout")
    found: dict[str, dict[str, list[float]]] = {name: {"1.0": [], "5.0": []} for name in names}
    for severity in ("1.0", "5.0"):
        for k in range(600):
            draw = drawn(settings, key=SampleKey(int(float(severity)), 0, k), views=1, severity=severity)
            clip = draw.clips[0]
            values = (
                clip.noise,
                abs(clip.colour.brightness - 1),
                1 - clip.crop.scale,
                float((np.diff(clip.hold.index) == 0).mean()),
            )
            for name, value in zip(names, values, strict=True):
                found[name][severity].append(value)
    for by_severity in found.values():
        low, high = by_severity["1.0"], by_severity["5.0"]
        assert 0.47 <= roc_auc_score(np.repeat([0, 1], 600), [*low, *high]) <= 0.67


def test_the_strength_scales_what_it_should_within_bounds() -> None:
    strong = at_strength(STRONG, 1.5)
    assert (strong.colour, strong.noise, strong.frame_dropout) == pytest.approx((0.6, 0.12, 0.45))
    assert strong.crop == pytest.approx(0.4)
    assert (strong.jitter, strong.flip, strong.rotation, strong.cutout) == (4, 0.5, 8.0, 2)
    limits = at_strength(AugmentSettings(colour=0.9, frame_dropout=0.5, crop=0.2), 1.5)
    assert (limits.colour, limits.frame_dropout, limits.crop) == (1.0, 0.5, 0.1)
    assert at_strength(STRONG, 1.0) is STRONG


def test_a_clip_changes_alike_in_all_its_frames() -> None:
    still = np.repeat(CLIP[:1], 16, axis=0)
    changed = change_frames(still, drawn(STRONG).clips[0])
    assert (changed == changed[:1]).all()
    assert not np.array_equal(changed, still)


def test_time_is_held_and_never_mixed() -> None:
    grey = np.repeat(np.arange(0, 160, 10, dtype=np.uint8), 8 * 8 * 3).reshape(16, 8, 8, 3)
    clip = drawn(replace(AugmentSettings(), crop=0.5, frame_dropout=0.4)).clips[1]
    shown = change_frames(grey, clip)[:, 4, 4, 0]
    assert shown.tolist() == (10 * clip.hold.index).tolist()
    assert shown[0] == 0
    assert (np.diff(shown) == 0).any()
