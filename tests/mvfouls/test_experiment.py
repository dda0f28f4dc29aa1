"""The verb `experiment`: what each method is, what is trained and kept, and what is said about it."""

import json
import re
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from mv_checkpoint import MAIN, write_run
from mv_runs import before_step, interrupt, put_tiny_network_in_place

from common.config import run_main
from common.engine.checkpoint import Checkpoint, save_checkpoint
from common.engine.distributed import World
from common.engine.logging import Console
from common.engine.randomness import SampleKey
from common.heads import CosineClassifier
from mvfouls import experiment
from mvfouls.config_verbs import ExperimentConfig
from mvfouls.experiment_data import open_bench
from mvfouls.experiment_features import identity
from mvfouls.experiment_methods import METHODS
from mvfouls.experiment_training import fresh_model, plan_of, train_heads
from mvfouls.features import FeatureDataset, collate_features
from mvfouls.inference import open_trained
from mvfouls.settings import CacheSettings, ViewSettings
from mvfouls.task import Judging

SMALL = "--seeds 0 1 --epochs 2 --batch_size 8 --bootstrap 50 --device cpu".split()


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        put_tiny_network_in_place(patch)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny):
    """A run of all main tasks, one that lacks heads, and one of another application."""
    root = tmp_path_factory.mktemp("experiment")
    write_run(root / "run")
    write_run(root / "few", tasks=("action_class", "severity"))
    other = Checkpoint(
        step=1, epoch=1, headline=None, model={"w": torch.zeros(1)}, state={}, config="",
        metadata={"application": "uav_landing"},
    )  # fmt: skip
    save_checkpoint(root / "other" / "checkpoints", other, best=True)
    return root


@pytest.fixture(scope="module")
def run(home, football):
    """Run the command; words given win."""

    def call(*words, out="E", checkpoint="run"):
        fixed = [f"--checkpoint={home / checkpoint}", f"--dataset_root={football}", f"--out={home / out}"]
        argv = [*fixed, *SMALL, *(word.replace("@", f"{home}/") for word in words)]
        return run_main(experiment.main, ExperimentConfig, argv, prog="mvfouls experiment")

    return call


@pytest.fixture(scope="module")
def content(run, home):
    """The result file of all six methods."""
    assert run("--json", "@E.json") == 0
    return json.loads((home / "E.json").read_text())


@pytest.fixture(scope="module")
def bench(content, home, football):
    """Both splits with the features that the first call left."""
    config = ExperimentConfig(
        checkpoint=home / "run", dataset_root=football, out=home / "E", epochs=2, batch_size=8, device="cpu"
    )
    return open_bench(config, open_trained(home / "run", "cpu"), World(), Console(enabled=False))


def test_every_method_has_all_seeds_and_numbers(content):
    assert list(content["methods"]) == list(METHODS)
    for found in content["methods"].values():
        assert [each["seed"] for each in found["runs"]] == [0, 1]
        for name in content["titles"]:
            values = [each[name] for each in found["runs"]]
            number = found["numbers"][name]
            assert number["mean"] == pytest.approx(np.mean(values))
            assert number["sd"] == pytest.approx(np.std(values, ddof=1))
            assert 0 <= number["low"] <= number["high"] <= 1
    assert [part["name"] for part in content["parts"]] == ["os", "action", *MAIN]


def test_differences_are_to_plain_cross_entropy(content):
    methods = content["methods"]
    assert methods["ce"]["differences"] is None
    for name in set(METHODS) - {"ce"}:
        for number, gain in methods[name]["differences"].items():
            own, other = (methods[each]["numbers"][number]["mean"] for each in (name, "ce"))
            assert gain["value"] == pytest.approx(own - other)


@pytest.mark.parametrize("name", ["ldam_drw", "balanced_sampling"])
def test_a_seed_gives_the_numbers_of_the_official_judge_again(content, bench, name):
    done = train_heads(bench, METHODS[name], 1)
    judged, told = done.judgement.metrics(), content["methods"][name]["runs"][1]
    for number in ("leaderboard", "os_ba", "action_ba", *(f"{task}_ba" for task in MAIN)):
        assert told[number] == pytest.approx(judged[number], abs=1e-12)
    assert done.summary.steps == 4


def test_only_the_last_epoch_is_judged_and_nothing_is_written(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    judged, tasks = [], []
    usual = Judging.judge
    monkeypatch.setattr(Judging, "judge", lambda judging: judged.append(1) or usual(judging))
    before_step(monkeypatch, lambda at, task, batch: tasks.append(task))
    train_heads(bench, METHODS["ce"], 0)
    assert len(judged) == 1
    assert list(tmp_path.iterdir()) == []
    assert {name.split(".")[0] for name, _ in tasks[0].model.named_parameters()} == {"aggregator", "heads"}


def test_heads_begin_the_same_for_a_seed_and_are_cosine_for_ldam_only(bench):
    models = {}
    for name, method in METHODS.items():
        torch.manual_seed(5)
        models[name] = fresh_model(bench, method)
        last = {type(head[-1]) for head in models[name].heads.values()}
        assert last == {CosineClassifier if name.startswith("ldam") else torch.nn.Linear}
    for one, other in (("ce", "balanced_sampling"), ("ldam", "ldam_drw")):
        first, second = models[one].state_dict(), models[other].state_dict()
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_what_the_methods_are(bench):
    plans = {name: plan_of(bench, method, 0) for name, method in METHODS.items()}
    counts = {task: plans["ce"].statistics[task].counts for task in MAIN}
    for task in MAIN:
        rare, common = counts[task][counts[task] > 0].min(), counts[task].max()
        for name, plan in plans.items():
            drawn = plan.presented(task, 0)
            balanced = name in ("balanced_sampling", "recommended")
            assert balanced == (not np.array_equal(drawn, counts[task]))
            assert (plan.weights(task, 1) is not None) == (name in ("ldam_drw", "recommended"))
            if name != "recommended":
                assert plan.weights(task, 0) is None or set(plan.weights(task, 0)) == {1.0}
            assert plan.tau(task) == (name == "logit_adjusted")
            if name.startswith("ldam"):
                assert max(plan.margins(task)) == 0.5
                assert min(m for m in plan.margins(task) if m) == pytest.approx(0.5 * (rare / common) ** 0.25)
        assert [plans["recommended"].factor(epoch) for epoch in (0, 15, 50)] == [1.5, 3.0, 3.0]
        weights = np.array(plans["ldam_drw"].weights(task, 1))
        assert weights[counts[task] == rare].min() >= weights[counts[task] == common].max()
    assert METHODS["focal"].loss.gamma == 2
    assert METHODS["ldam"].loss.scale == 30


def test_batches_are_those_of_the_features_sample_by_sample(bench):
    table, dataset = bench.tables[0], bench.training
    features = {
        (name, place): table.features[row][number]
        for row, (name, views) in enumerate(zip(table.actions, table.views, strict=True))
        for number, place in enumerate(views)
    }
    keys = [SampleKey(index, 1, draw) for draw, index in enumerate((3, 0, 3, len(table) - 1))]
    found = table.__getitems__(keys)
    expected = collate_features([FeatureDataset(dataset, features)[key] for key in keys])
    for name in ("action", "views"):
        assert found[name] == expected[name]
    assert all(map(torch.equal, found["features"], expected["features"]))
    assert all(torch.equal(found["targets"][task], expected["targets"][task]) for task in MAIN)
    assert torch.equal(found["key"], expected["key"])


def test_a_second_call_reads_the_features_and_says_the_same(content, run, home, monkeypatch, capfd):
    monkeypatch.setattr("mvfouls.experiment_features.compute_features", None)
    monkeypatch.setattr(experiment, "write_page", lambda path, told: None)
    assert run("--json", "@again.json", "--methods", "ce", "ldam") == 0
    assert re.findall(r"features \d+ views of (\w+) from", capfd.readouterr().out) == ["train", "valid"]
    again = json.loads((home / "again.json").read_text())["methods"]
    assert again == {name: content["methods"][name] | {"findings": []} for name in ("ce", "ldam")}


def test_features_are_known_by_everything_they_depend_on(bench, home):
    trained, split = open_trained(home / "run", "cpu"), bench.judged.split
    card, plain = trained.card, CacheSettings(folder=None)
    fewer = replace(split, actions=split.actions[1:])
    known = [
        identity(trained, split, plain),
        identity(trained, fewer, plain),
        identity(open_trained(home / "few", "cpu"), split, plain),
        identity(replace(trained, card=replace(card, pixels=replace(card.pixels, width=48))), split, plain),
        identity(
            replace(
                trained,
                card=replace(card, pixels=replace(card.pixels, frames=replace(card.pixels.frames, start=66))),
            ),
            split,
            plain,
        ),
        identity(trained, split, CacheSettings(folder=Path("c"), format="jpeg")),
    ]
    assert all(one != other for one, other in combinations(known, 2))
    assert identity(trained, split, CacheSettings(folder=Path("c"))) == known[0]


def test_the_console_tells_methods_and_classes(run, monkeypatch, capfd, content):
    monkeypatch.setattr(experiment, "write_page", lambda path, told: None)
    assert run("--methods", "ce", "focal", "--tasks", "offence", "action_type", "severity") == 0
    out = capfd.readouterr().out
    assert re.search(r"method +LB +interval +to ce +interval +OS BA +action BA +rare +action_class BA", out)
    assert re.search(r"^focal +\d+\.\d \+- \d+\.\d +\[.*\] +[+-]\d+\.\d +\[", out, re.MULTILINE)
    assert re.search(r"class +train +judged +ce +focal", out)
    assert "over resampled actions, the seeds averaged inside each resample" in out


def test_without_the_reference_there_are_no_differences(run, monkeypatch, capfd, content, caplog):
    monkeypatch.setattr(experiment, "write_page", lambda path, told: None)
    assert run("--methods", "focal", "--seeds", "3") == 0
    out = capfd.readouterr().out
    assert "to ce" not in out
    assert re.search(r"^focal +\d+\.\d \+- - ", out, re.MULTILINE)
    assert "--methods without ce" in caplog.text


def test_a_signal_ends_it_without_a_page(run, home, monkeypatch, capfd, content):
    shutil.copytree(home / "E" / "features", home / "stopped" / "features")
    interrupt(monkeypatch, 6)
    assert run(out="stopped") == 130
    assert "the features stay in" in capfd.readouterr().out
    assert not (home / "stopped" / "experiment.html").exists()


def test_the_page_shows_it_all_by_itself(content, home):
    page = (home / "E" / "experiment.html").read_text()
    assert not re.search(r'(src|href)="(?!#)', page)
    assert page.count("<svg") == 2 + len(content["parts"])
    for text in (
        "Results",
        "Recall by class",
        "Settings",
        "logit_adjusted",
        "Offence and severity (official)",
    ):
        assert text in page
    part = content["parts"][0]
    for place in part["order"]:
        each = part["classes"][place]
        assert f"train {each['trained']}, judged {each['judged']}" in page
    assert f"{100 * content['methods']['ldam']['numbers']['leaderboard']['mean']:.1f}" in page
    assert "over resampled actions" in page
    assert "The checkpoint may have been chosen by these actions" in page


@pytest.mark.parametrize(
    ("views", "samples"),
    [
        (ViewSettings(bags=False), "views"),
        (ViewSettings(max_clips=1, sampling="random"), "actions"),
    ],
)
def test_views_are_taken_as_the_checkpoint_takes_them(run, home, monkeypatch, views, samples):
    monkeypatch.setattr(experiment, "write_page", lambda path, told: None)
    name = f"by-{samples}"
    write_run(home / name, views=views)
    assert run("--methods", "ce", "--seeds", "0", "--json", f"@{name}.json", out="E", checkpoint=name) == 0
    for side in json.loads((home / f"{name}.json").read_text())["data"].values():
        assert side["samples"] == side[samples]


def test_an_other_folder_is_left_alone(run, home, capfd):
    assert run(out="run") == 2
    assert "checkpoints is there, so it is no folder of an experiment" in capfd.readouterr().err
    assert not (home / "run" / "experiment.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--methods ce mixup", "--methods"),
        ("--methods ce ce", "--methods: ce is named twice"),
        ("--seeds 1 2 1", "--seeds: 1 is named twice"),
        ("--seeds -1 2", "--seeds -1: at least 0"),
        ("--tasks action_class action_type", "--tasks: action_class is named twice"),
        ("--tasks contact", "--tasks contact: the checkpoint"),
        ("--tasks action_class offence", "--tasks action_class offence: no official score without"),
        ("--tasks juggling", "--tasks"),
        ("--split train", "--split"),
        ("--split test", "no folder of split test"),
        ("--epochs 0", "--epochs 0: at least 1"),
        ("--epochs 1", "--epochs 1: ldam_drw re-weights in the second half"),
        ("--batch_size 0", "--batch_size 0: at least 1"),
        ("--bootstrap 0", "--bootstrap 0: at least 1"),
        ("--lr 0", "--lr 0: greater than 0 is expected"),
        ("--lr inf", "--lr inf: a finite number is expected"),
        ("--device moon", "--device"),
        ("--dataset_root @", "no folder of split train"),
        ("--checkpoint @other", "not a model of mvfouls"),
        ("--checkpoint @few", "no official score without a head for the task offence"),
        ("--checkpoint @absent", "--checkpoint"),
        ("--out @run/checkpoints/best", "--out"),
        ("--json @", "--json"),
    ],
)
def test_refusals(run, capfd, words, message):
    assert run(*words.split(), out="new") == 2
    assert message in capfd.readouterr().err
