"""The device does to a batch what the loader would have done to each clip."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mv_samples import STRONG, MadeClips, made_split
from scipy.stats import ks_2samp

from common.engine.randomness import SampleKey
from mvfouls.augment import SampleDraw, change_frames, draw_sample
from mvfouls.augment_device import InModelAugment, scale_clips, scaled
from mvfouls.settings import AugmentSettings

LOADED = replace(STRONG, flip=0.0, noise=0.0)
ON_DEVICE = replace(LOADED, on_device=True)
FRAMES = MadeClips(size=(36, 48)).read(made_split((1, "1.0")).actions[0].views[0])


def draws(settings: AugmentSettings, count: int, *, views: int = 1, first: int = 0) -> list[SampleDraw]:
    return [
        draw_sample(settings, seed=1, key=SampleKey(0, 0, first + k), views=views, frames=4, severity="3.0")
        for k in range(count)
    ]


def as_tensor(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(3, 0, 1, 2))).float() / 255


def clips(count: int) -> torch.Tensor:
    return as_tensor(FRAMES)[None].repeat(count, 1, 1, 1, 1)


def test_loader_and_device_give_the_same_picture() -> None:
    given = draws(ON_DEVICE, 12)
    on_device = InModelAugment(ON_DEVICE)(clips(12), given)
    loaded = torch.stack([as_tensor(change_frames(FRAMES, draw.clips[0])) for draw in given])
    difference = (on_device - loaded).abs()
    assert difference.mean() < 1 / 255
    # edges of boxes apart, which may fall on another pixel, nothing differs by more than rounding
    assert difference.flatten(1).quantile(0.999, dim=1).max() < 6 / 255
    assert (loaded - clips(12)).abs().mean() > 10 / 255


def test_both_stages_have_the_same_distributions() -> None:
    number = 200
    loaded = torch.stack(
        [as_tensor(change_frames(FRAMES, draw.clips[0])) for draw in draws(ON_DEVICE, number)]
    )
    on_device = InModelAugment(ON_DEVICE)(clips(number), draws(ON_DEVICE, number, first=10_000))
    for statistic in (
        lambda x: x.mean(dim=(1, 2, 3, 4)),
        lambda x: x.std(dim=(1, 2, 3, 4)),
        lambda x: (x[:, 0] - x[:, 2]).mean(dim=(1, 2, 3)),
        lambda x: x.diff(dim=2).abs().mean(dim=(1, 2, 3, 4)),
        lambda x: x.diff(dim=4).abs().mean(dim=(1, 2, 3, 4)),
    ):
        assert ks_2samp(statistic(loaded), statistic(on_device)).pvalue > 0.01


def test_views_of_an_action_are_flipped_together_and_noise_is_their_own() -> None:
    settings = AugmentSettings(flip=0.5)
    given = draws(settings, 6, views=2)
    changed = InModelAugment(settings)(clips(12), given)
    flipped = [draw.clips[0].flip for draw in given]
    assert len(set(flipped)) == 2
    for number, is_flipped in enumerate(flipped):
        expected = clips(1).flip(-1) if is_flipped else clips(1)
        assert torch.equal(changed[2 * number : 2 * number + 2], expected.repeat(2, 1, 1, 1, 1))
    noisy = InModelAugment(AugmentSettings(noise=0.1))(
        clips(2), draws(AugmentSettings(noise=0.1), 1, views=2)
    )
    assert not torch.equal(noisy[0], noisy[1])


def test_strength_zero_and_switched_off_leave_every_bit() -> None:
    given = clips(3)
    for settings in (AugmentSettings(), AugmentSettings(on_device=True, severity_aware=True)):
        assert InModelAugment(settings)(given, draws(settings, 3)) is given
    off = replace(STRONG, in_model=False)
    assert InModelAugment(off)(given, draws(off, 3)) is given


def test_a_batch_in_parts_is_the_batch() -> None:
    settings = replace(STRONG, on_device=True, severity_aware=True)
    given, augment = draws(settings, 4, views=2), InModelAugment(settings)
    whole = augment(clips(8), given)
    parts = torch.cat([augment(clips(2), [draw]) for draw in given])
    torch.testing.assert_close(whole, parts, atol=1e-6, rtol=0)
    assert whole.amin() >= 0
    assert whole.amax() <= 1


def test_scales_are_multiples_of_eight_up_to_the_size_of_evaluation() -> None:
    settings = AugmentSettings(multi_scale=True)
    found = {draw.scale for draw in draws(settings, 60)}
    assert found == {0.75, 0.875, 1.0}
    assert [scaled(224, s) for s in (0.75, 0.875, 1.0)] == [168, 200, 224]
    assert [scaled(398, s) for s in (0.75, 0.875, 1.0)] == [296, 352, 398]
    small = InModelAugment(settings)(clips(1), [SampleDraw(scale=0.75, clips=draws(settings, 1)[0].clips)])
    assert small.shape == (1, 3, 4, 24, 40)
    assert scale_clips(small, 1.0) is small
    # frames are not mixed
    torch.testing.assert_close(scale_clips(clips(1)[:, :, :1], 0.75), small[:, :, :1])


def test_draws_of_another_number_of_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="3 clips, but draws for 2"):
        InModelAugment(STRONG)(clips(3), draws(STRONG, 2))
