"""Settings of `prepare` that contradict each other, and flags that cannot act."""

from collections.abc import Callable
from typing import Any

import pytest

from common.config import flags
from eye_fixation.prepare_config import PrepareConfig

Prepare = Callable[..., Any]
CSV = "--source csv --rate-hz 20 --screen-px 800 400"

REFUSED = [
    ("--source csv --rate-hz 20 --screen-px 8 8", "--source csv needs --input"),
    ("--source csv --input g.csv --screen-px 8 8", "--source csv needs --rate-hz"),
    ("--source csv --input g.csv --rate-hz 20", "--units px needs --screen-px"),
    (
        "--source csv --input g.csv --rate-hz 20 --units deg",
        "--units deg needs --screen-mm and --distance-mm",
    ),
    (f"{CSV} --input g.csv --screen-mm 3 4", "--screen-mm and --distance-mm need each other"),
    (f"{CSV} --input g.csv --events ivt", "--events ivt needs --screen-mm and --distance-mm"),
    (f"{CSV} --input g.csv --frames fixation", "--frames fixation with --source csv"),
    (f"{CSV} --input g.csv --split random", "--split random with --hop 7 and --seq-len 20"),
    ("--source osie --input a b", "--source osie takes one --input, not 2"),
    ("--source osie --input a --frames fixation --rate-hz 5", "--rate-hz with --frames fixation"),
    ("--source osie --input a --events column", "--events column with --source osie"),
    ("--source fixations --screen-px 8 8 --input a --events idt", "--events idt with --source fixations"),
    ("--source irf --input a --split image", "--split image with --source irf"),
    ("--img-size 1", "--img-size 1: at least 2"),
    ("--img-size 128", "--img-size with --source sim: at most 64"),
    ("--seq-len 1", "--seq-len 1: at least 2"),
    ("--n-val 0", "--n-val 0: at least 1"),
    ("--sim-seed -1", "--sim-seed -1: at least 0"),
    ("--source irf --input a --hop 0", "--hop 0: at least 1"),
    ("--source irf --input a --rate-hz 0", "--rate-hz 0: greater than 0"),
    ("--source irf --input a --rate-hz inf", "--rate-hz inf: a finite number"),
    ("--source irf --input a --min-valid 1.5", "--min-valid 1.5: from 0 to 1"),
    ("--source irf --input a --split-sizes .5 .5 .5", "--split-sizes: three shares above 0 that sum to 1"),
    ("--source osie --input a --screen-mm 0 4 --distance-mm 5", "--screen-mm 0: greater than 0"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_settings_that_contradict(prepare: Prepare, words: str, said: str) -> None:
    found = prepare(words)
    assert found.code == 2
    assert said in found.err


IDLE = [
    ("", "--input a --rate-hz 5 --frames time --hop 3 --min-valid .5 --split image --split-sizes .5 .2 .3"),
    (
        "",
        "--events ivt --exclude a --screen-px 8 8 --screen-mm 8 8 --distance-mm 8 --units deg",
    ),
    ("", "--origin center --time-unit ms --missing-value 0 0 --offscreen clip"),
    (
        "--source irf --input a",
        "--n-train 5 --n-val 5 --n-test 5 --sim-kind smooth --sim-seed 3 --field-per-split",
    ),
    ("--source irf --input a", "--units deg --origin center --time-unit ms --missing-value 0 0"),
    ("--source osie --input a", "--units norm --origin center --time-unit s --missing-value 0 0"),
    ("--source osie --input a", "--min-valid .5 --offscreen clip"),
    ("--source fixations --screen-px 8 8 --input a", "--time-unit ms"),
    ("--source csv --input a --rate-hz 5 --units deg --screen-mm 8 8 --distance-mm 8", "--origin top-left"),
    ("--sim-kind smooth", "--field-per-split"),
]


@pytest.mark.parametrize(("base", "idle"), IDLE)
def test_typed_flags_that_cannot_act(prepare: Prepare, base: str, idle: str) -> None:
    found = prepare(base, idle)
    assert found.code == 2
    for flag in [word for word in idle.split() if word.startswith("--")]:
        assert f"{flag} has no effect because" in found.err, flag


def test_every_flag_is_known_to_act_or_to_be_idle() -> None:
    always = {"source", "out", "overwrite", "dry_run", "img_size", "seq_len"}
    typed = {word[2:].replace("-", "_") for _, idle in IDLE for word in idle.split() if word[:2] == "--"}
    assert {flag.name for flag in flags(PrepareConfig)} == always | typed
