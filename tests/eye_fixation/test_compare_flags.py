"""Every flag of `train` and `compare` does something that can be seen, and has its documented default.

A row of EFFECTS says: with these words, looked at like this, the answer is that; without them it is another.
"""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from eye_files import gaze_splits
from eye_runs import SMALL, TRAIN, Bench, Ran, checked, swapped, worded
from torch import nn

from common.config import flags
from common.engine.checkpoint import find_checkpoint, load_checkpoint
from eye_fixation.checks import LOSS_FIELDS
from eye_fixation.config import CompareConfig, TrainConfig
from eye_fixation.data.pt import write_folder
from eye_fixation.fitting import state_hash


class Row(NamedTuple):
    """With `words` the answer of `look` is `value`, without them it is another.

    A function as value says what is expected, from the training that nothing is asked of. `given` is typed
    both times, behind the small settings.
    """

    words: str
    look: Callable[[Ran], Any]
    value: Any
    given: str = ""
    verb: str = TRAIN


class Changes:
    """The value of a row that only asks for another answer."""


def losses_seen(r: Ran) -> list[float]:
    """The training losses: what the weights were trained with."""
    found: list[float] = r.entry["train_losses"]
    return found


def setting(*names: str) -> Callable[[Ran], Any]:
    """Return a look at a hyper-parameter of the loss that was built."""

    def look(r: Ran) -> Any:
        value = r.loss["hyperparameters"]
        for name in names:
            value = value[name]
        return value

    return look


def count(split: str) -> Callable[[Ran], int]:
    return lambda r: r.content["data"]["sequences"][split]


def noisy(r: Ran) -> bool:
    """Whether two passes of the network in training differ."""
    x = torch.rand(3, *r.network.config.in_shape)
    torch.manual_seed(0)
    network = r.network.train()
    return not torch.equal(network(x), network(x))


def sizes(r: Ran) -> list[int]:
    config: Any = r.parsed.config
    network, part = config.network, config.optimization
    return [network.hid_S, network.hid_T, network.N_S, network.N_T, part.batch_size, part.epochs]


def interval(r: Ran) -> float:
    low, high = r.loss["summary"]["bits"]["ci"]
    return float(high - low)


def block(r: Ran) -> nn.Module:
    found: nn.Module = r.network.hid.enc[0].block
    return found


STALE = [(10 * epoch, 0.5) for epoch in range(1, 4)]
COMPOSITE = "--loss composite"
EIGHTS = "--in-len 4 --out-len 4 --hid-T 8"
STILL = f"--clip-norm 1e-36 --weight-decay 0 --epochs 3 --norm group {EIGHTS}"
"""Nothing moves, and nothing is normalised by running statistics: no epoch is better than the first."""

EFFECTS: dict[str, Row] = {
    # what is compared
    "loss": Row("--loss dice", lambda r: list(r.losses), ["dice"]),
    "losses": Row("--losses bce mse", lambda r: list(r.losses), ["bce", "mse"], "", "compare"),
    "seed": Row("--seed 7", lambda r: list(r.loss["initial_state_sha256"].items()), Changes),
    "seeds": Row(
        "--seeds 1 2", lambda r: [run["seed"] for run in r.loss["runs"]], [1, 2], "--losses mse", "compare"
    ),
    "demo": Row(
        "--demo", lambda r: (r.content["data"]["source_name"], Path(r.content["data"]["dir"]).parts[-2]),
        ("sim field", "run-0001"), "--losses mse", "compare",
    ),
    # data
    "data_dir": Row("--data-dir {tmp}/other", lambda r: r.content["data"]["source_name"], "other"),
    "coord_order": Row(
        "--coord-order yx", losses_seen, lambda base: losses_seen(base),
        "--data-dir {tmp}/unnamed",
    ),
    "in_len": Row("--in-len 4", lambda r: r.network.config.in_shape[0], 4, "--skip last"),
    "out_len": Row(
        "--out-len 6", lambda r: len(r.loss["summary"]["bits"]["per_horizon"]), 6, "--skip last"
    ),
    "max_train": Row("--max-train 5", lambda r: (count("train")(r), "the first 5" in r.out), (5, True)),
    "max_val": Row("--max-val 5", lambda r: (count("val")(r), "the first 5" in r.out), (5, True)),
    "max_test": Row("--max-test 5", lambda r: (count("test")(r), "the first 5" in r.out), (5, True)),
    "input_sigma": Row("--input-sigma 1.5", losses_seen, Changes),
    # network
    "preset": Row("--preset small", sizes, [16, 64, 4, 4, 32, 25], verb="bare"),
    "hid_S": Row("--hid-S 4", lambda r: r.network.enc.enc[0].conv.conv.out_channels, 4),
    "hid_T": Row("--hid-T 8", lambda r: r.network.config.widths[1], 8),
    "N_S": Row("--N-S 4", lambda r: len(r.network.enc.enc), 4),
    "N_T": Row("--N-T 3", lambda r: len(r.network.hid.enc), 3),
    "model_type": Row("--model-type convMIXER", lambda r: hasattr(block(r), "conv_pw"), True),
    "skip": Row("--skip gated", lambda r: hasattr(r.network.skip, "logits"), True),
    "norm": Row(
        "--norm group", lambda r: isinstance(block(r).norm1, nn.GroupNorm), True, EIGHTS
    ),
    "mlp_ratio": Row("--mlp-ratio 2", lambda r: block(r).mlp.fc1.out_channels, 12),
    "drop": Row("--drop 0.5", noisy, True),
    "drop_path": Row("--drop-path 0.5", noisy, True),
    "init_from": Row(
        "--init-from {tmp}/weights.pt",
        lambda r: r.loss["initial_state_sha256"]["42"],
        lambda base: state_hash(base.network),
    ),
    "prior_bias": Row(
        "--prior-bias off", lambda r: (r.loss["prior_bias"], r.network.dec.readout.bias.item() > -1),
        (None, True), "--loss bce",
    ),
    # losses
    "focal_alpha": Row("--focal-alpha balanced", setting("alpha"), 1 - 1 / 1024, "--loss focal"),
    "focal_gamma": Row("--focal-gamma 1", setting("gamma"), 1, "--loss focal"),
    "focal_weight": Row("--focal-weight 3", setting("weights", "focal"), 3, COMPOSITE),
    "sparsity_weight": Row("--sparsity-weight 3", setting("weights", "sparsity"), 3, COMPOSITE),
    "concentration_weight": Row(
        "--concentration-weight 3", setting("weights", "concentration"), 3, COMPOSITE
    ),
    "sparsity_penalty": Row(
        "--sparsity-penalty 0.5",
        lambda r: (setting("sparsity", "l1_weight")(r), "every cell below 0.25 is blanked" in r.out),
        (0.5, True), COMPOSITE,
    ),
    "pos_weight": Row("--pos-weight balanced", setting("pos_weight"), 1023, "--loss weighted_mse"),
    "dice_smooth": Row("--dice-smooth 5", setting("smooth"), 5, "--loss dice"),
    # optimisation
    "epochs": Row("--epochs 2", lambda r: (r.entry["epochs"], len(r.entry["val_losses"])), (2, 2)),
    "batch_size": Row("--batch-size 3", lambda r: r.steps, 3),
    "lr": Row("--lr 1e-2", lambda r: r.rates == [1e-2] and r.moved > 5e-3, True),
    "weight_decay": Row(
        "--weight-decay 1", lambda r: r.entry["val_losses"], Changes
    ),
    "optimizer": Row("--optimizer adamw", lambda r: r.entry["val_losses"], Changes, "--weight-decay 1"),
    "scheduler": Row("--scheduler cosine", lambda r: r.rates[1] < r.rates[0] < 1e-3, True, "--epochs 2"),
    "plateau_patience": Row("--plateau-patience 1", lambda r: r.rate(STALE), 0.5),
    "plateau_factor": Row("--plateau-factor 0.1", lambda r: r.rate(STALE), 0.1, "--plateau-patience 1"),
    "clip_norm": Row("--clip-norm 1e-14", lambda r: r.moved < 1e-6, True, "--weight-decay 0"),
    "early_stopping_patience": Row(
        "--early-stopping-patience 1", lambda r: (r.entry["epochs"], r.entry["best_epoch"]), (2, 1), STILL
    ),
    "select": Row(
        "--select val_bits",
        lambda r: load_checkpoint(find_checkpoint("best", r.training)).headline["metric"], "bits",
    ),
    # judging
    "calibrate": Row("--no-calibrate", lambda r: (r.entry["calibration"], r.entry["metrics"]["calibrated"]),
                     (None, None)),
    "baselines": Row("--baselines", lambda r: "history_kernel" in r.content["baselines"], True),
    "bootstrap": Row("--bootstrap 20", lambda r: r.loss["summary"]["bits"]["ci"] is not None, True),
    "ci": Row("--ci 0.5", interval, Changes, "--bootstrap 20"),
    # the run
    "out": Row("--out deep/er", lambda r: (r.home / "deep/er/loss_comparison.json").is_file(), True),
    "results_file": Row("--results-file a/b/r.json", lambda r: (r.home / "a/b/r.json").is_file(), True),
    "resume": Row(
        "--resume {tmp}/done", lambda r: (r.code, "train    mse" in r.out, "mse  " in r.out),
        (0, False, True),
    ),
    "device": Row("--device cuda:99", lambda r: (r.code, "--device: device 'cuda:99'" in r.err), (2, True)),
    "precision": Row("--precision bf16", losses_seen, Changes),
    "deterministic": Row("--deterministic", lambda r: r.code == 0 and r.done.deterministic, True),
    "num_threads": Row("--num-threads 3", lambda r: r.content["environment"]["threads"], 3),
    "wandb": Row("--wandb", lambda r: [(sink["name"], sink["steps"]) for sink in r.done.wandb],
                 [("mse-seed42", 2)]),
    "wandb_project": Row("--wandb-project mine", lambda r: r.done.wandb[0]["project"], "mine", "--wandb"),
    "test_run": Row("--test-run", lambda r: (r.code, r.steps), (0, 2), "--epochs 2 --batch-size 2"),
}  # fmt: skip

DEFAULTS = {
    "data_dir": None, "coord_order": None, "in_len": 10, "out_len": 10, "max_train": 0, "max_val": 0,
    "max_test": 0, "input_sigma": 0.0, "preset": "full", "hid_S": 64, "hid_T": 256, "N_S": 4, "N_T": 8,
    "model_type": "gSTA", "skip": "aligned", "norm": "batch", "mlp_ratio": 8.0, "drop": 0.0, "drop_path": 0.0,
    "init_from": None, "prior_bias": "auto", "focal_alpha": 0.25, "focal_gamma": 2.0, "focal_weight": 1.0,
    "sparsity_weight": 0.8, "concentration_weight": 1.5, "sparsity_penalty": 0.1, "pos_weight": 100.0,
    "dice_smooth": 1.0, "epochs": 25, "batch_size": 8, "lr": 1e-3, "weight_decay": 1e-5, "optimizer": "adam",
    "scheduler": "plateau", "plateau_patience": 5, "plateau_factor": 0.5, "clip_norm": 1.0,
    "early_stopping_patience": 0, "select": "val_loss", "calibrate": True, "baselines": True,
    "bootstrap": 2000, "ci": 0.95, "out": None, "results_file": None, "resume": None, "device": "auto",
    "precision": "fp32", "deterministic": False, "num_threads": 0, "wandb": False,
    "wandb_project": "eye_fixation", "test_run": False,
}  # fmt: skip
OWN = {
    TrainConfig: {"loss": "composite", "seed": 42},
    CompareConfig: {
        "losses": ("mse", "focal", "dice", "weighted_mse", "composite"), "seeds": (42,), "demo": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Bench:
    """Lines that were run, and the folder {tmp} of what their words name."""
    root = tmp_path_factory.mktemp("flags")
    write_folder(root / "other", gaze_splits(source_name="other"), {})
    swapped(root / "unnamed", gaze_splits())
    return Bench(root, data_folder)


def trained(bench: Bench) -> Ran:
    """The training that nothing is asked of."""
    return bench.run(f"{TRAIN} {SMALL}")


def line(row: Row, root: Path, words: str = "") -> str:
    if row.verb == "bare":
        return f"train {words}"
    return f"{row.verb} {SMALL} {row.given} {words}".format(tmp=root).strip()


@pytest.mark.parametrize("config", OWN)
def test_every_flag_has_its_documented_default(config: type) -> None:
    assert {flag.name: flag.default for flag in flags(config)} == DEFAULTS | OWN[config]


def test_every_flag_has_a_row() -> None:
    assert set(EFFECTS) == {flag.name for config in OWN for flag in flags(config)}


@pytest.mark.parametrize("name", EFFECTS)
def test_the_flag_has_its_effect(name: str, bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    row, bench.capfd = EFFECTS[name], capfd
    assert name in row.words.replace("--no-", "--").replace("-", "_").removeprefix("__").split()
    base = trained(bench)
    if name == "init_from":
        torch.save(base.weights, bench.root / "weights.pt")
    if name == "resume" and not (bench.root / "done").exists():
        (bench.root / "done").symlink_to(base.folder)
    answer = row.look(bench.run(line(row, bench.root, row.words)))
    without = row.look(bench.run(line(row, bench.root)))
    expected = row.value(base) if isinstance(row.value, types.FunctionType) else row.value
    if expected is not Changes:
        assert answer == expected
    assert answer != without


@pytest.mark.parametrize("name", LOSS_FIELDS)
def test_the_setting_of_a_loss_changes_what_is_trained(
    name: str, bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    row, bench.capfd = EFFECTS[name], capfd
    with_it, without = (bench.run(line(row, bench.root, words)) for words in (row.words, ""))
    assert losses_seen(with_it) != losses_seen(without)


@pytest.mark.parametrize("name", ["alpha", "gamma"])
def test_the_short_names_of_the_focal_settings(name: str) -> None:
    short, long = (worded(f"train --loss focal {word} 0.5") for word in (f"--{name}", f"--focal_{name}"))
    with pytest.warns(DeprecationWarning, match=f"--{name} is deprecated; use --focal-"):
        assert short.parsed.config == long.parsed.config


@pytest.mark.parametrize(("flag", "config"), [("--max-train", 0), ("--epochs", 25)])
def test_a_typed_value_beats_the_preset(flag: str, config: int) -> None:
    assert sizes(worded("train --preset smoke")) == [8, 32, 4, 2, 16, 2]
    typed = worded(f"train --preset smoke {flag} {config}").parsed.config
    assert config in (typed.data.max_train, typed.optimization.epochs)
    assert typed.network.hid_S == 8
    assert checked(f"train --preset smoke {flag} {config}") == ""
