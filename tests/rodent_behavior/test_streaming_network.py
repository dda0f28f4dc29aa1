"""The numpy network against torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from streaming_pieces import build

from rodent_behavior.streaming_network import StreamingNetwork, Taps, gelu, softmax


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_layers": 5, "refinements": 2},
        {"refinements": 0, "head": "cosine"},
        {"head": "cosine"},
        {"visual_dim": 7},
        {"temporal_model": "tcn", "hidden_dim": 64, "num_layers": 3, "refinements": 0},
        {"temporal_model": "tcn", "hidden_dim": 136, "num_layers": 2, "refinements": 0, "visual_dim": 8},
    ],
)
def test_logits_equal_the_causal_model_at_every_frame(sizes):
    model, stream = build(**sizes)
    rng = np.random.default_rng(5)
    pose = rng.normal(size=(70, 77)).astype(np.float32)
    visual = rng.normal(size=(70, 8)).astype(np.float32)[:, : sizes.get("visual_dim", 0)]
    batch = {"pose": torch.from_numpy(pose)[None], "valid": torch.ones(1, 70, dtype=torch.bool)}
    batch |= {"visual": torch.from_numpy(visual)[None]} if visual.shape[1] else {}
    with torch.no_grad():
        expected = model(batch)["stages"][-1][0].T.numpy()
    network = StreamingNetwork(
        {name: tensor.numpy() for name, tensor in model.state_dict().items()}, stream.config.model
    )
    for _ in range(2):
        given = visual if visual.shape[1] else [None] * 70
        found = np.array([network(row, other) for row, other in zip(pose, given)])
        assert found == pytest.approx(expected, abs=2e-5)
        network.reset()


def test_a_model_that_looks_ahead_is_refused():
    with pytest.raises(ValueError, match="train with --causal"):
        build(causal=False)


def test_wrong_weights_are_named():
    model, stream = build()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    absent = {name: array for name, array in weights.items() if name != "temporal.first.input.bias"}
    with pytest.raises(ValueError, match=r"temporal.first.input.bias is absent"):
        StreamingNetwork(absent, stream.config.model)
    cut = {**weights, "pose.0.weight": weights["pose.0.weight"][:, :-1]}
    with pytest.raises(ValueError, match=r"pose.0.weight is \[128, 76\], \[128, 77\]"):
        StreamingNetwork(cut, stream.config.model)


def test_taps_are_a_convolution_over_a_past_of_zeros():
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(size=(3, 3, 2)), rng.normal(size=3), rng.normal(size=(9, 2))
    taps = Taps(weight, bias, [5, 2])
    padded = np.concatenate([np.zeros((5, 2)), x])
    expected = [
        weight[:, 0] @ padded[t] + weight[:, 1] @ padded[t + 3] + weight[:, 2] @ padded[t + 5] + bias
        for t in range(9)
    ]
    for _ in range(2):
        assert np.array([taps(row) for row in x.astype(np.float32)]) == pytest.approx(
            np.array(expected), abs=1e-5
        )
        taps.reset()


def test_gelu_and_softmax_are_those_of_torch():
    x = np.linspace(-6, 6, 41).astype(np.float32)
    assert gelu(x) == pytest.approx(F.gelu(torch.from_numpy(x)).numpy(), abs=1e-6)
    expected = (torch.from_numpy(x) / 2.5).softmax(0).numpy()
    assert softmax(x, 2.5) == pytest.approx(expected, abs=1e-6)
    assert np.isfinite(softmax(np.array([1e4, -1e4]))).all()
