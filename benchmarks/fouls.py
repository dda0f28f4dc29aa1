"""Fouls from several cameras: reading clips, computing on views, freezing, sampling, judging."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from foul_pieces import FRAMES, HEIGHT, WIDTH, Pieces, build
from timing import Entry, Row, Settings, absolute, at_least, at_most, interleave, ratio
from torch import Tensor

from common.balancing.weighted_samplers import FactorSchedule, OversampleSampler
from common.engine.precision import MixedPrecision
from common.engine.state import Progress
from common.engine.task import Headline
from common.engine.window import accumulate, window_normalizers
from common.freezing.blocks import Block
from common.freezing.decisions import decide, initial_state
from common.freezing.probe import probe_importance
from common.freezing.state import Observation
from common.freezing.strategies import FreezingConfig
from common.video import decode, probe
from mvfouls.annotations import Action, Annotations
from mvfouls.clips import ClipSource
from mvfouls.frames import FrameRule
from mvfouls.model import FoulModel, build_model
from mvfouls.official import judge_official
from mvfouls.settings import CacheSettings, HeadSpec, ModelSettings, Policies
from mvfouls.survey import View
from mvfouls.synthetic import write_dataset, write_learning_set
from mvfouls.synthetic_labels import plan_split

NETWORK = "r2plus1d_18"
CLASSES = {"severity": 4, "action_class": 8}
VIEWS, VALID = 4, 2
EPOCHS = 50


def clips(settings: Settings) -> Iterator[Row]:
    """The frames of a sample: cut from the whole clip, decoded alone, and mapped from the store."""
    frames = FrameRule()
    with tempfile.TemporaryDirectory() as folder:
        view = _clip(Path(folder), (96, 64) if settings.small else (398, 224))
        decoding = ClipSource(frames, CacheSettings(folder=None), Policies())
        stored = ClipSource(frames, CacheSettings(folder=Path(folder) / "store"), Policies())
        stored.prepare(view)
        window = decoding.read(view)
        np.testing.assert_array_equal(window, decode(view.path)[list(frames.indices())])
        np.testing.assert_array_equal(window, stored.read(view))
        actions = {
            "whole": lambda: decode(view.path),
            "window": lambda: decoding.read(view),
            "store": lambda: stored.read(view),
            "copy": lambda: stored.read(view).copy(),
        }
        seconds = interleave(actions, settings)
    size = f"{view.size[0]}x{view.size[1]}"
    what = f"decode {view.frames} frames / the window of {frames.count}, {size}"
    yield ratio(what, seconds, "whole", "window", at_least(2))
    yield ratio(f"decode the clip / map the window, {size}", seconds, "whole", "store", at_least(100))
    yield ratio(f"decode the window / map it, {size}", seconds, "window", "store", at_least(20))
    yield ratio(f"decode the window / map and copy it, {size}", seconds, "window", "copy")


def _clip(folder: Path, size: tuple[int, int]) -> View:
    """Write a generated data set of one action and return its first clip."""
    write_dataset(folder, actions=1, size=size, odd=False)
    path = next((folder / "mvfouls" / "train").rglob("clip_0.mp4"))
    info = probe(path)
    return View(path=path, index=0, frames=info.frames, fps=info.fps, size=(info.width, info.height))


def evaluator(settings: Settings) -> Iterator[Row]:
    """The official metrics of 301 actions, without intervals."""
    rng = np.random.default_rng(0)
    truth = _annotations(301, rng)
    own = {
        action.id: {
            "Action class": action.action_class,
            "Offence": action.offence,
            "Severity": action.severity,
        }
        for action in truth.actions
    }
    assert judge_official(truth, own).leaderboard == 1.0
    guessed = dict(zip(own, rng.permutation(list(own.values())).tolist()))
    seconds = interleave({"ours": lambda: judge_official(truth, guessed).to_dict()}, settings)
    yield absolute("official evaluator, 301 actions", seconds["ours"], "ms", at_most(50))


def _annotations(actions: int, rng: np.random.Generator) -> Annotations:
    """Return generated actions, every one with an official label."""
    named = [plan.fields for plan in plan_split(actions, rng, odd=False)]
    listed = tuple(
        Action(
            id=str(place),
            game="",
            clips=(),
            labelled=True,
            action_class=fields["Action class"],
            offence=fields["Offence"],
            severity=fields["Severity"],
        )
        for place, fields in enumerate(named)
    )
    return Annotations(set_name="test", actions=listed, path=Path("generated"))


def command(settings: Settings) -> Iterator[Row]:
    """From the start of a process to the end of its help."""

    def shown(*words: str) -> None:
        line = [sys.executable, "-m", "mvfouls", *words, "--help"]
        text = subprocess.run(line, check=True, capture_output=True, text=True).stdout
        assert "usage" in text

    actions = {"mvfouls": lambda: shown(), "mvfouls train": lambda: shown("train")}
    seconds = interleave(actions, settings)
    for name in actions:
        yield absolute(f"{name} --help", seconds[name], "s", at_most(1.5))


def views(settings: Settings) -> Iterator[Row]:
    """An action with 2 of 4 views: those that exist, against black clips in the place of the others."""
    model = _network()
    generator = torch.Generator().manual_seed(0)
    existing = torch.rand(VALID, 3, FRAMES, HEIGHT, WIDTH, generator=generator)
    counts = torch.tensor([VALID])
    table = torch.zeros(VIEWS, *existing.shape[1:])
    table[:VALID] = existing

    def packed() -> Tensor:
        return _learn(model, model.backbone(existing), counts)

    def padded() -> Tensor:
        return _learn(model, model.backbone(table)[:VALID], counts)

    torch.testing.assert_close(packed(), padded(), rtol=1e-4, atol=1e-6)
    seconds = interleave({"packed": packed, "padded": padded}, settings)
    what = f"{VALID} of {VIEWS} views / padded, {NETWORK} {FRAMES}x{HEIGHT}x{WIDTH}, forward + backward"
    yield ratio(what, seconds, "packed", "padded", at_most(0.65))


def _network() -> FoulModel:
    torch.manual_seed(0)
    spec = ModelSettings(
        backbone=NETWORK, heads={task: HeadSpec(dropout=0.0) for task in CLASSES}, dropout=0.0
    )
    return build_model(spec, CLASSES, (), FRAMES, (HEIGHT, WIDTH)).eval()


def _learn(model: FoulModel, features: Tensor, counts: Tensor) -> Tensor:
    """Return the gradient of the stem's first weights."""
    model.zero_grad(set_to_none=True)
    logits = model.classify(features, counts).logits
    torch.stack([each.square().sum() for each in logits.values()]).sum().backward()  # type: ignore[no-untyped-call]
    gradient = next(model.backbone.parameters()).grad
    assert gradient is not None
    return gradient


def probing(settings: Settings) -> Iterator[Row]:
    """The importance of all blocks at the end of an epoch, in steps that train everything."""
    with tempfile.TemporaryDirectory() as folder:
        size, count = (2, 1) if settings.small else (4, 4)
        words = f"--batch_size {size} --probe_batches {count} --freezing_strategy none"
        pieces = _trained(Path(folder), words, actions=max(8, size * count))
        batch = next(pieces.batches())
        precision = MixedPrecision("fp32", torch.device("cpu"))

        def measure() -> dict[str, float]:
            return probe_importance(
                pieces.task, pieces.freezer.probe, pieces.freezer.blocks, precision=precision
            )

        found, expected = measure(), _importance(pieces, precision)
        assert found.keys() == expected.keys()
        assert all(abs(found[name] / expected[name] - 1) < 1e-3 for name in found)

        def step() -> None:
            pieces.freezer.train()
            pieces.step(batch)

        seconds = interleave({"probe": measure, "step": step}, settings)
    what = f"probe of {count} batches / full step, {NETWORK} {FRAMES}x{HEIGHT}x{WIDTH}"
    yield ratio(what, seconds, "probe", "step", at_most(count + 1))


def _trained(folder: Path, words: str, *, actions: int) -> Pieces:
    """Return the pieces of a training of `NETWORK` on generated clips that are in the store."""
    write_learning_set(folder, actions=actions, size=(WIDTH, HEIGHT))
    pieces = build(folder, f"--backbone_name {NETWORK} {words}")
    for _ in pieces.batches():
        pass
    return pieces


def _importance(pieces: Pieces, precision: MixedPrecision) -> dict[str, float]:
    """Return what the probe finds, written out."""
    model, task, blocks = pieces.task.model, pieces.task, pieces.freezer.blocks
    weights = dict(model.named_parameters())
    ratios: dict[str, list[float]] = {block.name: [] for block in blocks}
    model.eval()
    for batch in pieces.freezer.probe:
        model.zero_grad(set_to_none=True)
        accumulate(task, [batch], window_normalizers(task, [batch], pieces.optimization.world), precision)
        for block in blocks:
            held = [weights[name] for name in block.parameters]
            slopes = [each.grad for each in held if each.grad is not None]
            ratios[block.name].append(_length(slopes) / _length([each.detach() for each in held]))
    model.zero_grad(set_to_none=True)
    return {name: float(np.mean(values)) for name, values in ratios.items()}


def _length(tensors: list[Tensor]) -> float:
    return float(np.sqrt(sum(float(each.double().square().sum()) for each in tensors)))


def controller(settings: Settings) -> Iterator[Row]:
    """What the end of an epoch costs beside the probe: the rules alone, and with the network's flags."""
    config = FreezingConfig(strategy="advanced")
    blocks = _network().blocks()
    assert _decisions(config, blocks) > 1
    seconds = interleave({"rules": lambda: _decisions(config, blocks)}, settings)
    what = f"freezing rules, advanced, per epoch of {EPOCHS}"
    yield absolute(what, seconds["rules"] / EPOCHS, "ms", at_most(5))
    with tempfile.TemporaryDirectory() as folder:
        words = "--freezing_strategy adaptive --adaptive_patience 1000000 --epochs 1000000 --batch_size 4"
        pieces = _trained(Path(folder), words, actions=8)
        progress, headline = replace(Progress(), epoch=1), Headline("leaderboard")

        def close() -> None:
            decisions, _ = pieces.freezer.close_epoch(pieces.optimization, progress, headline, 0.5)
            assert [each.event for each in decisions] == ["hold"]

        seconds = interleave({"close": close}, settings)
    yield absolute(f"end of an epoch that opens nothing, {NETWORK}", seconds["close"], "ms", at_most(5))


def _decisions(config: FreezingConfig, blocks: list[Block]) -> int:
    """Go through the decisions of a run whose metric rises and stalls by turns; return the openings."""
    state, opened = initial_state(config, blocks), 0
    importance = {block.name: 0.01 for block in blocks}
    for epoch in range(1, EPOCHS + 1):
        metric = 0.3 + 0.01 * (epoch - epoch % 8)
        seen = Observation(epoch=epoch, epochs=EPOCHS + 1, metric=metric, importance=importance)
        state, decisions = decide(config, blocks, state, seen)
        opened += sum(bool(each.pieces) for each in decisions)
    return opened


def sampling(settings: Settings) -> Iterator[Row]:
    """All draws of an epoch, rare classes of two tasks repeated up to four times."""
    actions = 10_000 if settings.small else 1_000_000
    rng = np.random.default_rng(0)
    shares = 50.0 ** -np.linspace(0, 1, 8)
    labels = [rng.choice(size, actions, p=shares[:size] / shares[:size].sum()) for size in CLASSES.values()]
    factor = FactorSchedule(start=1.5, end=3.0, epochs=15)
    sampler = OversampleSampler(labels, factor=factor, max_repeat=20.0, seed=0)
    drawn = np.bincount(labels[1][[key.index for key in sampler]], minlength=8) / actions
    expected = sampler.presented_counts(labels[1], 8) / actions
    np.testing.assert_allclose(drawn, expected, atol=5 / np.sqrt(actions))
    epochs = iter(range(1, 1_000_000))

    def draw() -> None:
        sampler.set_epoch(next(epochs))
        deque(sampler, 0)

    seconds = interleave({"epoch": draw}, settings)
    yield absolute(f"sampler epoch, {actions:,} actions", seconds["epoch"], "s", at_most(0.5))


def features(settings: Settings) -> Iterator[Row]:
    """An epoch of the heads on features computed once, against the backbone in every step."""
    actions = 8 if settings.small else 16
    words = "--batch_size 4 --freezing_strategy fixed --unfreeze_blocks 0 --lr 1e-3"
    with tempfile.TemporaryDirectory() as folder:
        held = _trained(Path(folder), words, actions=actions)
        # mirrored evaluation clips have features of their own, so nothing is computed in advance
        computed = build(Path(folder), f"--backbone_name {NETWORK} {words} --tta")
        assert "features" in next(held.batches())
        assert "clips" in next(computed.batches())
        losses = {}
        for name, pieces in (("held", held), ("computed", computed)):
            torch.manual_seed(0)
            losses[name] = pieces.epoch()
        np.testing.assert_allclose(losses["held"], losses["computed"], rtol=1e-5)
        seconds = interleave({"computed": computed.epoch, "held": held.epoch}, settings)
    what = f"epoch with the closed backbone / on its features, {NETWORK}, {actions} clips"
    yield ratio(what, seconds, "computed", "held", at_least(20))


ENTRIES: dict[str, Entry] = {
    "clips": clips,
    "evaluator": evaluator,
    "command": command,
    "views": views,
    "probe": probing,
    "controller": controller,
    "sampler": sampling,
    "features": features,
}
