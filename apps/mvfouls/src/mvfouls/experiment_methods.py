"""The methods against imbalance that `experiment` compares, each with the settings of its paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mvfouls.config_verbs import MethodName
from mvfouls.settings import BalanceSettings, LossSettings

REFERENCE: MethodName = "ce"
"""The method that all others are compared with."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to train: the loss of every task, the sampler and the class weights."""

    text: str
    loss: LossSettings
    balancing: BalanceSettings = field(default_factory=BalanceSettings)

    def losses(self, tasks: Mapping[str, object]) -> dict[str, LossSettings]:
        """Return the same loss for every task."""
        return dict.fromkeys(tasks, self.loss)

    def balance(self, tasks: Mapping[str, object]) -> BalanceSettings:
        """Return sampler and weights; the mixture is over all tasks, else over those of the settings.

        Nothing is refused: what a method overdoes is a result.
        """
        usual = self.balancing.sampler_tasks
        chosen = tasks if self.balancing.sampler == "mixture" else [task for task in usual if task in tasks]
        return replace(self.balancing, sampler_tasks=tuple(chosen), allow_overcorrection=True)


METHODS: dict[MethodName, Method] = {
    "ce": Method(text="cross-entropy, samples as they come", loss=LossSettings()),
    "focal": Method(text="focal loss, gamma 2, no class weights (Lin 2017)", loss=LossSettings(kind="focal")),
    "ldam": Method(
        text="margins by class, largest .5, cosine heads of scale 30 (Cao 2019)",
        loss=LossSettings(kind="ldam"),
    ),
    "ldam_drw": Method(
        text="as ldam, with classes re-weighted in the second half of the epochs (Cao 2019)",
        loss=LossSettings(kind="ldam", drw_start=0.5),
    ),
    "logit_adjusted": Method(
        text="cross-entropy of logits plus the log prior, tau 1 (Menon 2021)",
        loss=LossSettings(adjustment=1.0),
    ),
    "balanced_sampling": Method(
        text="cross-entropy, a task, a class of it and then a sample drawn at random (Kang 2020, cRT)",
        loss=LossSettings(),
        balancing=BalanceSettings(sampler="mixture"),
    ),
    "recommended": Method(
        text="the balancing of the recommended command: focal loss with capped class weights, rare classes "
        "drawn up to 1.5 times as often at first and 3 times after 15 epochs",
        loss=LossSettings(kind="focal", weighted=True),
        balancing=BalanceSettings(
            sampler="factor", factor_start=1.5, factor_end=3.0, factor_epochs=15, strategy="balanced_capped"
        ),
    ),
}
