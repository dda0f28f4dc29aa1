import inspect
import subprocess
import sys
from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
import torch

from common.balancing import weights
from common.losses import LOSSES, LossConfig, build_loss, config, loss_config
from common.losses._reduction import Loss
from common.statistics import ClassStatistics

COUNTS = ClassStatistics.from_counts([900, 90, 10])
LOGITS = torch.tensor([[2, 0, -1], [0.5, 1.5, -0.5], [-1, 0.25, 0.75]], dtype=torch.float64)
TARGET = torch.tensor([0, 0, 2])


def test_configurations_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, common.losses.config, common.losses\n"
        "from common.losses import build_loss, loss_config\n"
        "loss_config('focal', {'gamma': 1.0})\n"
        "assert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_has_only_the_names_it_lists() -> None:
    import common.losses

    for name in common.losses.__all__:
        assert getattr(common.losses, name) is not None
    with pytest.raises(AttributeError, match="no_such_loss"):
        common.losses.no_such_loss  # noqa: B018


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_built_from_its_name(name: str) -> None:
    loss = build_loss(loss_config(name), COUNTS)
    assert isinstance(loss, Loss)
    logits, target = LOGITS, TARGET
    if name in ("sigmoid_focal", "lovasz_hinge"):
        logits, target = LOGITS[:, 0], torch.tensor([1.0, 0, 0])
    if name == "ldam":
        logits = LOGITS / 2
    if name in ("truncated_mse", "temporal_difference"):
        logits, target = LOGITS.unsqueeze(0), TARGET.unsqueeze(0)
    assert loss(logits, target).isfinite()


@pytest.mark.parametrize("name", LOSSES)
def test_defaults_of_configuration_and_module_agree(name: str) -> None:
    module = type(build_loss(loss_config(name), COUNTS))
    parameters = inspect.signature(module).parameters
    for field in fields(LOSSES[name]):
        if field.name in parameters and name not in ("balanced_focal", "focal_tversky"):
            assert field.default == parameters[field.name].default, field.name


@pytest.mark.parametrize("name", LOSSES)
def test_every_field_changes_the_module(name: str) -> None:
    other = {
        "ignore_index": 2,
        "weights": (1.0, 2.0, 3.0),
        "max_weight_ratio": 2.0,
        "offset_prior": "natural",
        "label_smoothing": 0.2,
        "smoothing_weighting": "torch",
        "reduction": "sum",
        "pos_weight": (2.0, 3.0, 4.0),
        "gamma": 3.0,
        "alpha": 0.7,
        "beta": 0.9,
        "normalizer": "positives",
        "tau": 0.5,
        "max_margin": 0.3,
        "scale": 20.0,
        "head_output": "scaled",
        "smooth": 0.25,
        "activation": "sigmoid",
        "scope": "image",
        "classes": "all",
        "exponent": 0.5,
        "per_image": True,
    }
    base = {"weights": "balanced"} if "weights" in {f.name for f in fields(LOSSES[name])} else {}
    base = {"pos_weight": "balanced"} if name == "binary_cross_entropy" else base
    plain = build_loss(loss_config(name, base), COUNTS)
    for field in fields(LOSSES[name]):
        start = {} if field.name in ("weights", "pos_weight") else base
        changed = build_loss(loss_config(name, start | {field.name: other[field.name]}), COUNTS)
        assert _contents(changed) != _contents(plain), field.name


def _contents(loss: Loss) -> dict[str, object]:
    settings = {key: value for key, value in vars(loss).items() if not key.startswith("_")}
    return settings | {key: value.tolist() for key, value in loss.state_dict().items()}


def test_an_unknown_name_brings_suggestions() -> None:
    with pytest.raises(ValueError, match=r"loss is 'focall': did you mean focal"):
        loss_config("focall")
    with pytest.raises(ValueError, match="one of balanced_focal, binary"):
        loss_config("xyz")


def test_a_hyper_parameter_that_the_loss_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="'cross_entropy' has no hyper-parameter 'gamma'"):
        loss_config("cross_entropy", {"gamma": 2.0})
    with pytest.raises(ValueError, match=r"'smoth': did you mean smooth"):
        loss_config("dice", {"smoth": 2.0})
    with pytest.raises(ValueError, match="gamma is -2"):
        build_loss(loss_config("focal", {"gamma": -2.0}))
    with pytest.raises(TypeError, match="configuration is expected"):
        build_loss("focal")  # type: ignore[arg-type]


def test_configurations_are_frozen_and_keyword_only() -> None:
    for kind in LOSSES.values():
        assert issubclass(kind, LossConfig)
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        with pytest.raises(TypeError):
            kind(1)  # type: ignore[misc]


def test_weights_come_from_counts() -> None:
    loss = build_loss(loss_config("focal", {"weights": "balanced"}), COUNTS)
    np.testing.assert_allclose(loss.weight, [1000 / 2700, 1000 / 270, 1000 / 30])
    capped = build_loss(loss_config("dice", {"weights": "balanced", "max_weight_ratio": 5.0}), COUNTS)
    assert capped.weight.max() / capped.weight.min() == pytest.approx(5)
    assert build_loss(loss_config("focal")).weight is None
    given = build_loss(loss_config("balanced_focal", {"weights": (1.0, 2.0, 3.0)}))
    assert given.weight.tolist() == [1, 2, 3]


def test_weights_correct_only_what_the_sampler_left() -> None:
    uniform = np.full(3, 1 / 3)
    for name in ("focal", "cross_entropy", "balanced_focal"):
        loss = build_loss(loss_config(name, {"weights": "balanced"}), COUNTS, presented=uniform)
        np.testing.assert_allclose(loss.weight, 1)


def test_weights_that_cannot_be() -> None:
    validation = ClassStatistics.from_counts([9, 1], split="valid")
    for name, parameters in (
        ("focal", {"weights": "balanced"}),
        ("logit_adjusted", {}),
        ("ldam", {}),
        ("sigmoid_focal", {"alpha": "balanced"}),
        ("binary_cross_entropy", {"pos_weight": "balanced"}),
    ):
        with pytest.raises(ValueError, match="needs the statistics of the train split"):
            build_loss(loss_config(name, parameters))
        with pytest.raises(ValueError, match="not of 'valid'"):
            build_loss(loss_config(name, parameters), validation)
    with pytest.raises(ValueError, match="2 entries for 3 classes"):
        build_loss(loss_config("focal", {"weights": (1.0, 2.0)}), COUNTS)
    with pytest.raises(ValueError, match="balanced_focal needs weights"):
        build_loss(loss_config("balanced_focal", {"weights": "none"}), COUNTS)
    with pytest.raises(ValueError, match="caps the weights of a strategy"):
        build_loss(loss_config("focal", {"max_weight_ratio": 3.0}), COUNTS)
    with pytest.raises(ValueError, match="caps the balanced pos_weight"):
        build_loss(loss_config("binary_cross_entropy", {"max_weight_ratio": 3.0}), COUNTS)
    with pytest.raises(ValueError, match="strategy is 'inverse'"):
        build_loss(loss_config("focal", {"weights": "inverse"}), COUNTS)


def test_balanced_positives() -> None:
    counts = ClassStatistics.from_counts([75, 25, 0])
    loss = build_loss(loss_config("binary_cross_entropy", {"pos_weight": "balanced"}), counts)
    assert loss.pos_weight.tolist() == pytest.approx([1 / 3, 3, 1])
    capped = {"pos_weight": "balanced", "max_weight_ratio": 2.0}
    loss = build_loss(loss_config("binary_cross_entropy", capped), counts)
    assert loss.pos_weight.tolist() == pytest.approx([1 / 3, 2, 1])
    alone = ClassStatistics.from_counts([50, 0])
    loss = build_loss(loss_config("binary_cross_entropy", {"pos_weight": "balanced"}), alone)
    assert loss.pos_weight.tolist() == [1, 1]
    loss = build_loss(loss_config("sigmoid_focal", {"alpha": "balanced"}), counts)
    assert loss.alpha_values.tolist() == pytest.approx([0.25, 0.75, 1])


def test_the_offset_corrects_what_the_loss_sees() -> None:
    natural = build_loss(loss_config("logit_adjusted"), COUNTS)
    np.testing.assert_allclose(natural.log_prior, np.log([0.9, 0.09, 0.01]))
    balanced = {"weights": "balanced"}
    left = build_loss(loss_config("logit_adjusted", balanced), COUNTS).log_prior
    np.testing.assert_allclose(left - left[0], 0, atol=1e-12)
    kept = build_loss(loss_config("logit_adjusted", balanced | {"offset_prior": "natural"}), COUNTS)
    np.testing.assert_allclose(kept.log_prior, np.log([0.9, 0.09, 0.01]))
    shares = np.array([0.5, 0.3, 0.2])
    sampled = build_loss(loss_config("logit_adjusted"), COUNTS, presented=shares)
    np.testing.assert_allclose(sampled.log_prior, np.log(shares))
    with pytest.raises(ValueError, match="offset_prior is 'none'"):
        build_loss(loss_config("logit_adjusted", {"offset_prior": "none"}), COUNTS)


def test_margins_come_from_the_training_counts() -> None:
    counts = ClassStatistics.from_counts([5000, 500, 0, 50])
    loss = build_loss(loss_config("ldam"), counts)
    np.testing.assert_allclose(loss.margins, [0.158114, 0.281171, 0, 0.5], atol=5e-7)
    assert loss.weight is None
    presented = np.array([0.4, 0.3, 0.0, 0.3])
    sampled = build_loss(loss_config("ldam", {"max_margin": 0.2}), counts, presented=presented)
    np.testing.assert_allclose(sampled.margins, loss.margins * 0.4)
    with pytest.raises(ValueError, match="max_margin -1"):
        build_loss(loss_config("ldam", {"max_margin": -1.0}), counts)


def test_an_absent_class_has_no_weight_and_no_offset() -> None:
    counts = ClassStatistics.from_counts([90, 0, 10])
    loss = build_loss(loss_config("logit_adjusted", {"weights": "sqrt"}), counts)
    assert loss.weight[1] == 0
    assert loss.log_prior[1] == -float("inf")
    assert loss(LOGITS, TARGET).isfinite()
    assert loss(LOGITS, torch.tensor([1, 1, 1])) == 0


def test_strategies_are_those_of_the_weights() -> None:
    assert get_args(config.Strategy) == get_args(weights.Strategy)
