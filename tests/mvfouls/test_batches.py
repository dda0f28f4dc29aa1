"""What reaches the network: views that exist, the frames of the window, and no annotation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from coded_video import read_codes
from mv_files import SIZE, entry, write_split
from mv_pieces import Built

from mvfouls.dataset import collate
from mvfouls.labels import FIELDS
from mvfouls.packing import pack
from mvfouls.predictor import predict_all
from mvfouls.scores import score_of
from mvfouls.split import open_split


@pytest.fixture
def built(football, train) -> Built:
    """A training on all views, whose network has seen one batch."""
    b = Built(
        "--max_views 4 --disable_augmentation --dropout_rate 0 --freezing_strategy none", football, train
    )
    b.seen(b.batch)
    b.model.eval()
    return b


def outputs(b: Built, samples) -> dict[str, torch.Tensor]:
    """Return logits, features and shares of the views for a batch of samples."""
    clips, counts = pack([sample["clips"] for sample in samples])
    with torch.no_grad():
        output = b.model(b.model.normalise(clips), counts)
    return {**output.logits, "features": output.features, "attention": output.attention}


def test_a_ragged_batch_is_its_actions_one_by_one(built):
    samples = [built.training[k] for k in range(16)]
    counts = [len(sample["clips"]) for sample in samples]
    assert set(counts) == {2, 3}
    ragged = outputs(built, samples)
    for row, sample in enumerate(samples):
        for name, value in outputs(built, [sample]).items():
            assert torch.allclose(ragged[name][row, : value.shape[1]], value[0], atol=1e-5), name
        assert (ragged["attention"][row, counts[row] :] == 0).all()
        assert ragged["attention"][row].sum() == pytest.approx(1, abs=1e-5)


def test_the_order_of_views_changes_no_logit(built):
    samples = [built.training[k] for k in range(4)]
    turned = [{**sample, "clips": sample["clips"].flip(0)} for sample in samples]
    one, other = outputs(built, samples), outputs(built, turned)
    for name in (*built.model.heads, "features"):
        assert torch.allclose(one[name], other[name], atol=1e-5)


def test_a_single_view_is_pooled_to_its_own_feature(built):
    sample = built.training[0]
    single = {**sample, "clips": sample["clips"][:1]}
    with torch.no_grad():
        feature = built.model.backbone(built.model.normalise(pack([single["clips"]])[0]))
    assert torch.equal(outputs(built, [single])["features"], feature)


def test_absent_views_touch_no_statistic(built):
    """The network is given as many clips as there are views, in training too."""
    batch = collate([built.training[k] for k in range(6)])
    views = sum(len(clips) for clips in batch["clips"])
    assert len(built.seen(batch)) == views < 6 * 3
    alone = collate([built.training[0]])
    alone["clips"] = [alone["clips"][0][:1]]
    alone["draws"] = [replace(alone["draws"][0], clips=alone["draws"][0].clips[:1])]
    assert len(built.seen(alone)) == 1
    statistics = [value for name, value in built.model.state_dict().items() if "running" in name]
    assert all(bool(torch.isfinite(value).all()) for value in statistics)


def test_annotations_are_no_inputs(built, football, tmp_path):
    """Every attribute exchanged with that of another action: not a bit of the answers changes."""
    source = built.data.valid.source
    content = json.loads(source.annotations.read_text())
    order = np.random.default_rng(0).permutation(len(content["Actions"]))
    entries = list(content["Actions"].values())
    for field in FIELDS.values():
        values = [one[field.key] for one in entries]
        for place, one in enumerate(entries):
            one[field.key] = values[order[place]]
    changed = tmp_path / "annotations.json"
    changed.write_text(json.dumps(content))
    settings, data = built.settings, built.data
    moved = open_split(
        replace(source, annotations=changed),
        settings.data.policies, settings.data.views, settings.data.pixels.frames, labelled=True,
    )  # fmt: skip
    assert [a.labels.severity for a in moved.actions] != [a.labels.severity for a in data.valid.actions]
    scores = {task: score_of(loss) for task, loss in settings.losses.items()}
    answers = [
        predict_all(built.model, scores, each.validation(settings), device=torch.device("cpu"), batch_size=3)
        for each in (data, replace(data, valid=moved))
    ]
    assert answers[0].actions == answers[1].actions
    for task in scores:
        np.testing.assert_array_equal(answers[0].logits[task], answers[1].logits[task])
    assert answers[0].attention == answers[1].attention


@pytest.fixture
def coded(tmp_path):
    """A data set whose frames carry their number, of the size of the network's input."""
    for split in ("train", "valid"):
        write_split(tmp_path / "coded" / "mvfouls", [entry(), entry(action="1")], name=split)
    return tmp_path / "coded"


def numbers_on(clip: torch.Tensor) -> list[int]:
    """Return the numbers on the frames of a clip [3, T, H, W]."""
    return read_codes(clip.permute(1, 2, 3, 0).numpy(), width=SIZE[0])


@pytest.mark.parametrize("jitter", [0, 2])
def test_the_frames_that_are_seen_are_those_of_the_window(jitter, coded, train):
    """Without jitter 67 to 82, that of the foul among them; with it all views of an action move alike."""
    size = f"--frames_per_clip 16 --batch_size 2 --img_height {SIZE[1]} --img_width {SIZE[0]}"
    b = Built(f"--augmentation_strength none --temporal_jitter_strength {jitter} {size}", coded, train)
    batches = [b.batches(epoch)[0] for epoch in range(3 if jitter else 1)]
    shifts = [draw.shift for batch in batches for draw in batch["draws"]]
    assert any(shifts) == bool(jitter)
    read = [[numbers_on(view) for view in clips] for batch in batches for clips in batch["clips"]]
    assert read == [[list(range(67 + shift, 83 + shift))] * 2 for shift in shifts]
    assert [numbers_on(view) for view in b.judged["clips"][0]] == [list(range(67, 83))] * 2
    if not jitter:
        seen = b.seen(batches[0]) * b.model.std + b.model.mean
        assert [numbers_on(clip) for clip in seen] == [list(range(67, 83))] * 4
        assert 75 in numbers_on(seen[0])
