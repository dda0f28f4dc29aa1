from typing import Any

import pytest

from eye_fixation.console_table import far_horizon, rows_of, setting, table_lines

BLOCK = [
    "data     osie  real  4367/603/1154 sequences  10 -> 10 frames  10 Hz  prevalence 0.0977 %",
    "loss            recall  precision     F1 "
    "|  bits [95 % CI]         IG/kernel     AP    NSS  MDE@1  MDE@10  cov90",
    "history_kernel       -          -      - "
    "| -8.32 [-8.42, -8.23]         0.00  0.080   4.81   2.53    8.75   0.89",
    "composite       0.0000     0.0000  0.000 "
    "| -9.32 [-9.41, -9.22]  below -0.99  0.004   0.81   3.44    7.75   0.88",
]

KERNEL = {
    "bits": -8.323, "ig_kernel": 0.0, "ap": 0.0799, "nss": 4.813, "mde_argmax_at_1": 2.534,
    "mde_argmax_at_10": 8.748, "coverage_90": 0.89,
}  # fmt: skip
COMPOSITE = {
    "bits": -9.32, "ig_kernel": -0.994, "ap": 0.0041, "nss": 0.81, "mde_argmax_at_1": 3.44,
    "mde_argmax_at_10": 7.75, "coverage_90": 0.88,
}  # fmt: skip


def summary(values: dict[str, float], ci: list[float] | None = None) -> dict[str, Any]:
    entries: dict[str, Any] = {name: {"mean": value, "ci": None} for name, value in values.items()}
    entries["bits"]["ci"] = ci
    return {"summary": entries}


def run(seed: int = 42, status: str = "ok", error: str | None = None) -> dict[str, Any]:
    return {"seed": seed, "status": status, "error": error}


@pytest.fixture
def results() -> dict[str, Any]:
    """The example of the console block."""
    compat = {"white_pixel_recall": 0.0, "white_pixel_precision": 0.0, "f1_score": 0.0}
    return {
        "data": {
            "source": "real", "source_name": "osie", "in_len": 10, "out_len": 10, "rate_hz": 10.0,
            "sequences": {"train": 4367, "val": 603, "test": 1154}, "prevalence": 1 / 1024,
        },
        "config": {"judging": {"ci": 0.95}},
        "seed_compat": {"composite": compat},
        "losses": {"composite": {**summary(COMPOSITE, [-9.41, -9.22]), "runs": [run()]}},
        "baselines": {"history_kernel": summary(KERNEL, [-8.42, -8.229])},
        "oracle": None,
        "human": None,
    }  # fmt: skip


def test_the_block_is_as_documented(results: dict[str, Any]) -> None:
    assert table_lines(results) == BLOCK


def test_best_bits_first_and_wide_cells_stay_in_columns(results: dict[str, Any]) -> None:
    better = {**COMPOSITE, "bits": -8.0, "ig_kernel": 0.32}
    worse = {**COMPOSITE, "bits": -11.5, "ig_kernel": -3.2}
    results["losses"]["a_loss_with_a_long_name"] = {**summary(worse), "runs": []}
    results["losses"]["softmax_ce"] = {**summary(better, [-8.1, -7.9]), "runs": []}
    results["oracle"] = summary({**KERNEL, "bits": -7.0, "ig_kernel": 1.3}, [-7.1, -6.9])
    _, head, *lines = table_lines(results)
    names = [line.split()[0] for line in lines]
    assert names == ["oracle", "softmax_ce", "history_kernel", "composite", "a_loss_with_a_long_name"]
    assert [("below" in line) for line in lines] == [False, False, False, True, True]
    assert len({line.index("|") for line in [head, *lines]}) == 1
    assert len({len(line) for line in [head, *lines]}) == 1
    assert lines[1].split()[1:4] == ["-", "-", "-"]
    assert "| -11.50  " in lines[-1]


def test_losses_without_a_result_are_named_below(results: dict[str, Any]) -> None:
    results["losses"]["dice"] = {"summary": None, "runs": [run(7, "failed", "RuntimeError: no memory")]}
    lines = table_lines(results)
    assert lines[-1] == "failed   dice seed 7: RuntimeError: no memory"
    assert not any(line.startswith("dice") for line in lines)


def test_short_horizons_other_levels_and_no_baselines(results: dict[str, Any]) -> None:
    results["data"] |= {"out_len": 5, "rate_hz": None}
    results["config"] = {"judging": {"ci": 0.9}}
    results["baselines"] = {}
    results["losses"]["composite"]["summary"]["mde_argmax_at_3"] = {"mean": 5.25}
    data, head, line = table_lines(results)
    assert "Hz" not in data
    assert "[90 % CI]" in head
    assert "MDE@3" in head
    assert "5.25" in line
    assert "below" not in line


def test_a_model_is_below_the_kernel_by_bits_alone(results: dict[str, Any]) -> None:
    results["losses"]["composite"]["summary"]["bits"]["mean"] = -8.322
    assert [row.name for row in rows_of(results)] == ["composite", "history_kernel"]
    assert not any(row.below for row in rows_of(results))


def test_far_horizons_and_nested_settings() -> None:
    assert [far_horizon(n) for n in (1, 2, 3, 9, 10, 40)] == [1, 1, 3, 6, 10, 10]
    assert setting({"a": {"b": {"ci": 0.5}}, "c": 1}, "ci") == 0.5
    assert setting({"a": 1}, "ci") is None
