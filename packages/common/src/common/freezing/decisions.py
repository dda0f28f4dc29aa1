"""When blocks open: pure decisions from what was seen at the end of an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from common.freezing.blocks import Block, closed_pieces, shortest_names
from common.freezing.state import Decision, Event, FreezingState, Observation, Trial
from common.freezing.strategies import GUIDED, OPENING, FreezingConfig, timetable

MAX_ROLLBACKS = 3
_PLATEAU_MARGIN = 0.001
"""Gain that makes a new best for gradient_guided."""


def initial_state(config: FreezingConfig, blocks: Sequence[Block]) -> FreezingState:
    """Return the state before the first epoch."""
    count = {"none": len(blocks), "closed": config.open_blocks}.get(config.strategy, 0)
    return FreezingState(opened={piece.name: None for block in blocks[:count] for piece in block.smallest})


def decide(
    config: FreezingConfig, blocks: Sequence[Block], state: FreezingState, observation: Observation
) -> tuple[FreezingState, tuple[Decision, ...]]:
    """Return the state after the end of an epoch, and what was decided there.

    Nothing is decided after the last epoch. `blocks` are in order from the heads to the input.
    """
    turn = _Turn(config, tuple(blocks), _observed(config, state, observation), observation)
    if config.strategy not in OPENING or observation.epoch >= observation.epochs:
        return turn.state, ()
    turn, decision = _judged(turn)
    if decision is None:
        turn, decision = _RULES[config.strategy](turn)
    turn, emergency = _emergency(turn)
    if emergency is not None and decision is not None and not decision.pieces:
        decision = None
    return turn.state, tuple(each for each in (decision, emergency) if each is not None)


@dataclass(frozen=True)
class _Turn:
    """One end of an epoch: what is known and what has been decided so far."""

    config: FreezingConfig
    blocks: tuple[Block, ...]
    state: FreezingState
    seen: Observation

    @property
    def closed(self) -> list[Block]:
        """Blocks of which something is frozen, from the heads on."""
        return [block for block in self.blocks if closed_pieces(block, self.state.opened)]

    @property
    def importance(self) -> dict[str, float]:
        """Each block's mean importance, corrected for the zero it began at."""
        weight = 1.0 - self.config.gradient_momentum**self.state.probes
        return {name: value / weight for name, value in self.state.importance.items()}

    @property
    def plateau(self) -> bool:
        return self.state.stale >= self.config.validation_plateau_patience

    @property
    def since(self) -> float:
        """Epochs since the last opening or rollback."""
        changed = self.state.changed
        return math.inf if changed is None else self.seen.epoch - changed

    def half_open(self, block: Block) -> bool:
        return 0 < len(closed_pieces(block, self.state.opened)) < len(block.smallest)

    def barred(self, block: Block) -> bool:
        return self.seen.epoch < self.state.barred.get(block.name, 0)

    def told(
        self,
        event: Event,
        reason: str,
        *,
        pieces: tuple[str, ...] = (),
        gain: float | None = None,
        threshold: float | None = None,
    ) -> Decision:
        return Decision(
            event=event,
            epoch=self.seen.epoch,
            strategy=self.config.strategy,
            pieces=pieces,
            blocks=shortest_names(self.blocks, pieces),
            open=shortest_names(self.blocks, self.state.opened),
            metric=self.seen.metric,
            gain=gain,
            importance=self.importance,
            threshold=threshold,
            reason=reason,
        )

    def changed(self, **fields: Any) -> _Turn:
        return replace(self, state=replace(self.state, **fields))

    def opening(self, pieces: Iterable[str]) -> _Turn:
        added = dict.fromkeys(pieces, self.seen.epoch)
        return self.changed(opened={**self.state.opened, **added}, changed=self.seen.epoch)


_Outcome = tuple[_Turn, Decision | None]


def _observed(config: FreezingConfig, state: FreezingState, seen: Observation) -> FreezingState:
    """Return the state with the metric and the importance of this epoch taken in."""
    if seen.importance is not None:
        share = 1.0 - config.gradient_momentum
        sums = {
            name: config.gradient_momentum * state.importance.get(name, 0.0) + share * value
            for name, value in seen.importance.items()
        }
        state = replace(state, importance=sums, probes=state.probes + 1)
    value, trial = seen.value, state.trial
    if value is None:
        return state
    margin = config.performance_threshold if config.strategy == "advanced" else _PLATEAU_MARGIN
    better = value > state.best + margin
    return replace(
        state,
        metrics=(*state.metrics, value)[-config.analysis_window :],
        best=value if better else state.best,
        stale=0 if better else state.stale + 1,
        trial=None if trial is None else replace(trial, best=max(trial.best, value)),
    )


def _timed(turn: _Turn) -> _Outcome:
    plan = timetable(turn.config, turn.blocks, turn.seen.epochs)
    due = {name for epoch, name in plan if epoch <= turn.seen.epoch}
    pieces = [
        piece
        for block in turn.closed
        if block.name in due
        for piece in closed_pieces(block, turn.state.opened)
    ]
    if not pieces:
        return turn, None
    turn = turn.opening(pieces)
    return turn, turn.told("unfreeze", f"due after {turn.seen.epoch} epochs", pieces=tuple(pieces))


def _adaptive(turn: _Turn) -> _Outcome:
    config, state, value = turn.config, turn.state, turn.seen.value
    if value is None or not turn.closed:
        return turn, None
    if state.reference is None or value > state.reference + config.adaptive_min_improvement:
        return turn.changed(reference=value, waited=0), turn.told("hold", "the metric improves")
    waited = state.waited + 1
    reason = f"no improvement for {waited} of {config.adaptive_patience} epochs"
    if waited < config.adaptive_patience:
        return turn.changed(waited=waited), turn.told("hold", reason)
    pieces = closed_pieces(turn.closed[0], state.opened)
    turn = turn.changed(reference=value, waited=0).opening(pieces)
    return turn, turn.told("unfreeze", reason, pieces=pieces)


def _gradient_guided(turn: _Turn) -> _Outcome:
    config, epoch = turn.config, turn.seen.epoch
    if not turn.closed:
        return turn, None
    if epoch < config.sampling_epochs:
        return turn, turn.told("analysing", f"importance is sampled for {config.sampling_epochs} epochs")
    patience = config.unfreeze_patience or 2
    if turn.since < patience and not turn.plateau:
        return turn, turn.told("analysing", f"{turn.since:.0f} of {patience} epochs since the last opening")
    threshold = config.importance_threshold * (0.5 if turn.plateau else 1.0)
    return _open_important(turn, threshold, in_order=False)


def _advanced(turn: _Turn) -> _Outcome:
    config, state, seen = turn.config, turn.state, turn.seen
    if seen.value is None or not turn.closed:
        return turn, None
    window, quiet = config.analysis_window, max(config.analysis_window, config.unfreeze_patience or 2)
    if len(state.metrics) < window or seen.epoch < window:
        return turn, turn.told("analysing", f"a trend takes {window} epochs")
    if turn.since < quiet:
        return turn, turn.told("analysing", f"{turn.since:.0f} of {quiet} epochs since the last event")
    if state.trial is not None:
        return turn, turn.told("analysing", f"the opening after epoch {state.trial.epoch} is not judged yet")
    gain = state.metrics[-1] - state.metrics[0]
    if gain >= config.performance_threshold and not turn.plateau:
        return turn, turn.told("hold", f"gain {gain:.4f} in {window} epochs", gain=gain)
    falling = max(0.5, 1.0 - seen.epoch / seen.epochs)
    threshold = config.base_importance_threshold * falling * (0.5 if turn.plateau else 1.0)
    return _open_important(turn, threshold, in_order=config.enable_dependency_analysis, gain=gain)


def _open_important(turn: _Turn, threshold: float, *, in_order: bool, gain: float | None = None) -> _Outcome:
    chosen = _important(turn, threshold, in_order)
    if not chosen:
        reason = f"no block may open with an importance of {threshold:.2g} or more"
        return turn, turn.told("hold", reason, gain=gain, threshold=threshold)
    before = turn.state
    pieces = tuple(piece for block in chosen for piece in closed_pieces(block, before.opened))
    turn = turn.opening(pieces)
    config, value = turn.config, turn.seen.value
    if config.strategy == "advanced" and config.enable_rollback and before.rollbacks < MAX_ROLLBACKS:
        assert value is not None
        names = tuple(block.name for block in chosen)
        turn = turn.changed(trial=Trial(epoch=turn.seen.epoch, metric=value, pieces=pieces, blocks=names))
    reason = f"importance {' '.join(f'{turn.importance[block.name]:.2g}' for block in chosen)}"
    return turn, turn.told("unfreeze", reason, pieces=pieces, gain=gain, threshold=threshold)


def _important(turn: _Turn, threshold: float, in_order: bool) -> list[Block]:
    """Return the blocks to open: in order while they are important, or the most important ones.

    What is left of a half-open block comes first.
    """
    importance, count = turn.importance, turn.config.max_layers_per_step

    def fit(block: Block) -> bool:
        return importance.get(block.name, 0.0) >= threshold and not turn.barred(block)

    if in_order:
        return list(takewhile(fit, turn.closed))[:count]
    ranked = sorted(
        turn.closed, key=lambda block: (not turn.half_open(block), -importance.get(block.name, 0.0))
    )
    return list(filter(fit, ranked))[:count]


def _judged(turn: _Turn) -> _Outcome:
    """Judge the last opening when its time has come: close it again, or keep it for good."""
    config, state, epoch = turn.config, turn.state, turn.seen.epoch
    trial = state.trial
    if trial is None or turn.seen.value is None or epoch < trial.epoch + config.rollback_patience:
        return turn, None
    if not trial.best < trial.metric - config.performance_threshold:
        return turn.changed(trial=None), None
    bars = dict.fromkeys(trial.blocks, epoch + 2 * config.rollback_patience)
    turn = turn.changed(
        opened={name: since for name, since in state.opened.items() if name not in trial.pieces},
        changed=epoch,
        rollbacks=state.rollbacks + 1,
        barred={**state.barred, **bars},
        trial=None,
    )
    reason = f"best {trial.best:.4f} since epoch {trial.epoch}, {trial.metric:.4f} before"
    return turn, turn.told("rollback", reason, pieces=trial.pieces, gain=trial.best - trial.metric)


def _emergency(turn: _Turn) -> _Outcome:
    """Open what is missing, once, when its moment has come."""
    config, state = turn.config, turn.state
    late = turn.seen.epoch >= config.emergency_unfreeze_epoch
    if config.strategy not in GUIDED or state.emergency or not late:
        return turn, None
    turn = turn.changed(emergency=True)
    some = [block for block in turn.blocks if len(closed_pieces(block, state.opened)) < len(block.smallest)]
    missing = config.min_unfreeze_layers - len(some)
    pieces = [piece for unit in _units(turn)[: max(0, missing)] for piece in unit]
    if not pieces:
        return turn, None
    turn = turn.opening(pieces)
    reason = f"{len(some)} of {config.min_unfreeze_layers} blocks open after {turn.seen.epoch} epochs"
    return turn, turn.told("emergency", reason, pieces=tuple(pieces))


def _units(turn: _Turn) -> list[tuple[str, ...]]:
    """Return what an emergency may open, in order from the heads."""
    blocks = turn.closed
    if turn.config.enable_dependency_analysis:
        blocks = list(takewhile(lambda block: not turn.barred(block), blocks))
    units = [closed_pieces(block, turn.state.opened) for block in blocks if not turn.barred(block)]
    if turn.config.emergency_unfreeze_gradual:
        return [(piece,) for unit in units for piece in unit]
    return units


_RULES: dict[str, Callable[[_Turn], _Outcome]] = {
    "fixed": _timed,
    "progressive": _timed,
    "schedule": _timed,
    "adaptive": _adaptive,
    "gradient_guided": _gradient_guided,
    "advanced": _advanced,
}
