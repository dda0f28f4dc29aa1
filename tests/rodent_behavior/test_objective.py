"""The terms of several stages."""

import pytest
import torch

from common.losses import FocalLoss
from rodent_behavior.objective import IGNORE, Objective

B, C, T = 2, 4, 30


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_terms_are_means_over_the_stages_and_count_what_normalizers_count(stages):
    generator = torch.Generator().manual_seed(stages)
    logits = [torch.randn(B, C, T, generator=generator) for _ in range(stages)]
    target = torch.randint(C, (B, T), generator=generator)
    target[0, :5] = IGNORE
    batch = {"target": target, "smooth": torch.rand(B, T, generator=generator) < 0.8}
    action = FocalLoss(weight=[1.0, 2.0, 3.0, 4.0], reduction="valid_mean", ignore_index=IGNORE)
    objective = Objective(
        action=action, smooth_weight=0.3, tmse_weight=0.2, keypoint_weight=0.0, keypoint_beta=1.0
    )
    found, counts = objective.action_terms(logits, batch), objective.normalizers(batch)
    alone = [objective.action_terms([one], batch) for one in logits]
    assert found.keys() == counts.keys() == {"action", "smooth", "tmse"}
    assert {name: term.weight for name, term in found.items()} == {"action": 1, "smooth": 0.3, "tmse": 0.2}
    for name, term in found.items():
        mean = torch.stack([terms[name].total for terms in alone]).mean()
        torch.testing.assert_close(term.total, mean)
        assert term.count == counts[name] > 0
    direct = torch.stack([action(one, target) for one in logits]).mean()
    torch.testing.assert_close(found["action"].total / found["action"].count, direct)
