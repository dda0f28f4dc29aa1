"""Settings of runs side by side, and the names of runs."""

import pytest
from mv_comparisons import drawn_labels, guesses, write_run
from mv_official import write_annotations

from common.config import flags
from mvfouls.compare_runs import short_names
from mvfouls.compare_settings import PLACES, Settings, differences, read_settings, same_but_seed
from mvfouls.config_class_weights import ClassWeightsConfig
from mvfouls.config_modular import ModularConfig
from mvfouls.train import FREE_SETTINGS


def test_a_part_of_the_training_data_is_drawn_by_the_seed(tmp_path):
    rows = drawn_labels(12, seed=1)
    labels = write_annotations(tmp_path / "A.json", rows)
    data = {"train": {"sha256": "a", "annotations_sha256": "b"}, "valid": {"sha256": "c"}}
    for name, words in (("whole", ""), ("part", "--train-fraction 0.5")):
        folder = write_run(tmp_path / name, labels, guesses(rows, 0.5, 1), words, frontend="class_weights")
        assert read_settings(folder, data).data["train"] == {"whole": "a", "part": "b"}[name]


def test_flags_about_places_are_flags_that_a_resumed_run_may_change():
    known = {flag.name for config in (ModularConfig, ClassWeightsConfig) for flag in flags(config)}
    assert not PLACES - known
    assert not PLACES - FREE_SETTINGS


def test_runs_of_unknown_settings_are_no_group():
    settings = Settings(frontend="modular", values={"seed": 1}, typed=frozenset(), data={})
    assert same_but_seed([None, settings, None, settings]) == [[0], [1, 3], [2]]
    assert differences([None, None]) == ([], 0)


def test_names_are_the_shortest_that_differ(tmp_path):
    paths = [tmp_path / "x" / "run", tmp_path / "y" / "run"]
    assert short_names(paths) == ["x/run", "y/run"]
    assert short_names([tmp_path / "b", paths[0]]) == ["b", "run"]
    with pytest.raises(ValueError, match="twice"):
        short_names([tmp_path, tmp_path])
