"""What the choices of training flags mean, and how flags act together."""

import pytest
import torch
from flag_rows import wandb_options
from rodent_looks import FRAMES, LOGITS, STILL, VIDEO, untouched
from rodent_pieces import seen


@pytest.mark.parametrize("words", ["--on_missing_pose skip", "--on_missing_pose error"])
def test_a_video_without_keypoints_is_skipped_or_refused(words, files, base, train):
    given = f"{base} --videos {{tmp}}/untracked {words}"
    answer = seen(given, files, train, lambda b: b.data.found.skip_counts)
    if "skip" in words:
        assert answer == {"missing keypoints": 2}
    else:
        assert "mouse_1: no keypoint file" in answer


@pytest.mark.parametrize("flag", ["aug_brightness", "aug_contrast", "aug_noise_std"])
def test_photometric_flags_act_on_cached_features(flag, files, base, train):
    given = f"{base} {VIDEO} {STILL} --cache_views 4"
    assert seen(given, files, train, lambda b: untouched(b, "visual"))
    assert not seen(f"{given} --{flag} 0.5", files, train, lambda b: untouched(b, "visual"))


def test_frame_drop_acts_on_cached_features_as_on_frames(files, base, train):
    given = f"{base} {VIDEO} {STILL} --aug_temporal_drop 0.3"
    features = seen(given, files, train, lambda b: b.samples)
    network = seen(given, files, train, lambda b: b.network)
    for cached, decoded in zip(features[:8], seen(f"{given} {FRAMES}", files, train, lambda b: b.samples)):
        made = network.features(decoded["frames"][None])[0]
        assert torch.allclose(cached["visual"], made, atol=2e-3)


def test_terms_have_their_weights(files, base, train):
    words = f"{base} --lambda_kp 0.5 --lambda_smooth 0.01 --lambda_tmse 0.3"
    terms = seen(words, files, train, lambda b: b.network.train() and b.task.training_step(b.batch))
    assert {name: term.weight for name, term in terms.items()} == {
        "action": 1.0, "smooth": 0.01, "tmse": 0.3, "kp": 0.5,
    }  # fmt: skip


def test_ldam_has_margins_and_a_cosine_head_and_no_weights(files, base, train):
    given = f"{base} --loss ldam"
    loss = seen(given, files, train, lambda b: b.plan.objective.action)
    counts = seen(given, files, train, lambda b: b.data.statistics().counts)
    margins = 0.5 * (counts.min() / counts) ** 0.25
    assert torch.allclose(loss.margins, torch.as_tensor(margins, dtype=loss.margins.dtype))
    assert loss.weight is None
    label = torch.tensor([[1]])
    expected = torch.nn.functional.cross_entropy(
        LOGITS - 30 * margins[1] * torch.eye(6)[1][None, :, None], label, label_smoothing=0.1
    )
    assert float(loss(LOGITS, label)) == pytest.approx(float(expected))
    assert float(loss.eval()(LOGITS, torch.tensor([[0]]))) == pytest.approx(0.693152563)
    assert seen(given, files, train, lambda b: b.network.behavior.config.head) == "cosine"
    said = train("--loss ldam --max_steps 1").out
    assert "ldam corrects the shares itself: class weights balanced_capped are off" in said
    assert "balance  ldam   sampler" in said


def test_logit_adjustment_takes_the_shares_that_training_presents(files, base, train):
    given = f"{base} --loss logit_adjusted"
    presented = seen(given, files, train, lambda b: b.plan.repetition.presented)
    loss = seen(given, files, train, lambda b: b.plan.objective.action)
    expected = torch.nn.functional.cross_entropy(
        LOGITS + torch.log(torch.as_tensor(presented))[None, :, None], torch.tensor([[2]]),
        label_smoothing=0.1,
    )  # fmt: skip
    assert float(loss(LOGITS, torch.tensor([[2]]))) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("words", "epochs"),
    [("--epochs 30", 10), ("--epochs 2", 1), ("--epochs 1", 0), ("--epochs 30 --warmup_epochs 3", 3),
     ("--epochs 2 --warmup_epochs 0", 0), ("--epochs 30 --warmup_epochs 20 --test_run", 0)],
)  # fmt: skip
def test_warm_up_is_at_most_half_of_the_run_unless_it_is_typed(words, epochs, files, base, train):
    assert seen(f"{base} {words}", files, train, lambda b: b.fit.schedule.warmup_epochs) == epochs


def test_the_run_is_named_after_its_settings(files, base, train):
    asked = seen(f"{base} --use_wandb --lr 1e-4", files, train, wandb_options)
    assert asked["name"] == "none_multitask_lr0.0001_bs2_drop0.3_T30"
    assert asked["tags"] == ["multitask", "invariant"]
    assert asked["config"]["optimizer"]["lr"] == 1e-4
