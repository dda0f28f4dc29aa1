import math

import pytest

from common.engine.task import EpochReport
from uav_landing import alarms
from uav_landing.alarms import AlarmBoard, initial_focal_loss, slope
from uav_landing.config import PRESETS
from uav_landing.weights import GUIDE_COUNTS, GUIDE_WEIGHTS

PATIENCE = 3
SHARES = [count / sum(GUIDE_COUNTS) for count in GUIDE_COUNTS]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Enough memory everywhere, whatever else the machine is doing."""
    monkeypatch.setattr(alarms, "free_memory_share", lambda: 0.5)
    monkeypatch.setattr(alarms, "device_peak_share", lambda: 0.5)


def board(**settings) -> AlarmBoard:
    return AlarmBoard(**({"patience": PATIENCE, "initial_focal": 0.78, "headline": "miou"} | settings))


def report(epoch: int, **changes) -> EpochReport:
    """A validation of a run that goes well; `changes` replace metrics, losses or fields of the report."""
    valid = {f"class_{c}_{name}": 0.5 + 0.01 * epoch for c in range(4) for name in ("iou", "accuracy")}
    valid |= {f"class_{c}_support": 1000.0 for c in range(4)}
    valid |= {"miou": 0.3 + 0.01 * epoch, "loss": 2.0 / epoch, "danger_as_safe": 0.2 / epoch}
    train = {"loss": 1.0 / epoch, "focal": 0.7 / epoch, "dice": 0.6, "class_0_iou": math.nan}
    fields = {"improved": True, "recoveries": 0, "lr": {"lr/decay": 3e-4}}
    for name, value in changes.items():
        target = fields if name in fields else train if name.startswith("train_") else valid
        target[name.removeprefix("train_")] = value
    return EpochReport(epoch=epoch, step=10 * epoch, train=train, valid=valid, seconds=1.0, **fields)


def fired(watch: AlarmBoard, *reports: EpochReport) -> list[list[str]]:
    return [[alarm.name for alarm in watch.check(each)] for each in reports]


def test_a_good_run_is_silent():
    assert fired(board(), *(report(epoch) for epoch in range(1, 40))) == [[]] * 39


def test_a_class_at_zero_for_as_many_validations_as_the_patience():
    zeros = {"class_2_iou": 0.0, "class_2_accuracy": 0.0}
    reports = [report(epoch, **zeros) for epoch in range(1, 8)]
    quiet, flag = [], ["class_zero"]
    assert fired(board(), *reports) == [quiet, quiet, flag, quiet, quiet, flag, quiet]


@pytest.mark.parametrize("name", ["class_1_iou", "class_3_accuracy"])
def test_either_of_iou_and_accuracy_is_enough(name):
    reports = [report(epoch, **{name: 4e-4}) for epoch in range(1, 4)]
    assert fired(board(), *reports)[-1] == ["class_zero"]


def test_one_better_validation_starts_the_count_anew():
    values = [0.0, 0.0, 0.001, 0.0, 0.0, 0.0]
    reports = [report(epoch, class_1_iou=value) for epoch, value in enumerate(values, 1)]
    assert fired(board(), *reports) == [[], [], [], [], [], ["class_zero"]]


def test_two_classes_at_zero_are_two_flags():
    zeros = {"class_1_iou": 0.0, "class_3_iou": 0.0}
    assert fired(board(), *(report(epoch, **zeros) for epoch in range(1, 4)))[-1] == ["class_zero"] * 2


def test_an_absent_class_is_no_failure():
    nothing = {"class_3_support": 0.0, "class_3_iou": math.nan, "class_3_accuracy": math.nan}
    assert fired(board(), *(report(epoch, **nothing) for epoch in range(1, 9))) == [[]] * 8


def test_the_void_class_is_named_as_documented():
    watch = board(patience=5)
    zeros = {"class_0_iou": 0.0, "class_0_accuracy": 0.0, "class_0_support": 8635.0}
    (alarm,) = [alarm for epoch in range(1, 6) for alarm in watch.check(report(epoch, **zeros))]
    assert alarm.line() == (
        "RED FLAG class_zero: class 0 (background, void) IoU=0.000 with 8635 px, 5 epochs: "
        "annotation seam, try --void ignore"
    )
    assert alarm.event(stop=True) | {"text": ""} == {
        "kind": "alarm",
        "name": "class_zero",
        "text": "",
        "suggestion": "annotation seam, try --void ignore",
        "stop": True,
    }


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ([0.30, 0.301, 0.302, 0.303], True),
        ([0.30, 0.301, 0.302, 0.306], False),
        ([0.30, 0.20, 0.20, 0.20], True),
        ([0.40, 0.40, 0.40, 0.40], False),
        ([0.30, 0.30, 0.30], False),
    ],
)
def test_plateau_of_the_best_miou(values, flag):
    reports = [report(epoch, miou=value) for epoch, value in enumerate(values, 1)]
    assert fired(board(), *reports)[-1] == (["miou_plateau"] if flag else [])


@pytest.mark.parametrize("name", ["train_loss", "train_dice", "train_aux", "train_ce", "loss", "focal"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_said_at_once(name, value):
    assert fired(board(), report(1, **{name: value})) == [["loss_high"]]


def test_a_metric_that_is_not_defined_is_no_loss():
    assert fired(board(), report(1, train_class_1_iou=math.nan, train_danger_as_safe=math.nan)) == [[]]


@pytest.mark.parametrize(("focal", "flag"), [(7.79, False), (7.81, True)])
def test_focal_loss_over_ten_uniform_guesses(focal, flag):
    assert fired(board(), report(1, train_focal=focal)) == [["loss_high"] if flag else []]


def test_other_losses_have_no_uniform_guess_to_compare_with():
    assert fired(board(initial_focal=None), report(1, train_focal=1e6)) == [[]]


def test_uniform_guess_of_the_documented_weights():
    assert initial_focal_loss(SHARES, list(GUIDE_WEIGHTS), 2.0) == pytest.approx(0.78, abs=5e-4)
    assert initial_focal_loss([1 / 3] * 3, [1.0] * 3, 2.0) == pytest.approx(0.488, abs=5e-4)
    assert initial_focal_loss(SHARES, list(GUIDE_WEIGHTS), 0.0) == pytest.approx(math.log(4), abs=1e-3)


def test_memory_after_a_recovery_but_only_once():
    reports = [report(1), report(2, recoveries=1), report(6, recoveries=1), report(7, recoveries=3)]
    assert fired(board(patience=1), *reports) == [[], ["memory"], [], ["memory"]]


def test_memory_of_host_and_device(monkeypatch):
    monkeypatch.setattr(alarms, "free_memory_share", lambda: 0.049)
    assert fired(board(), report(1)) == [["memory"]]
    monkeypatch.setattr(alarms, "free_memory_share", lambda: 0.051)
    monkeypatch.setattr(alarms, "device_peak_share", lambda: 0.951)
    assert fired(board(), report(1)) == [["memory"]]


def test_this_machine_says_how_much_memory_is_free(monkeypatch):
    monkeypatch.undo()
    assert 0 < alarms.free_memory_share() <= 1
    assert 0 <= alarms.device_peak_share() <= 1


@pytest.mark.parametrize(
    ("losses", "rates", "flag"),
    [
        ([1.0, 1.1, 1.2], [3.0, 2.0, 1.0], True),
        ([1.0, 1.0, 1.0], [3.0, 3.0, 3.0], True),
        ([1.2, 1.1, 1.0], [3.0, 2.0, 1.0], False),
        ([1.0, 1.1, 1.2], [2.0, 1.0, 3.0], False),
        ([2.0, 1.0, 1.1, 1.2], [1.0, 3.0, 2.0, 1.0], True),
        ([1.0, 1.1], [3.0, 2.0], False),
    ],
)
def test_validation_loss_that_does_not_fall_outside_of_a_restart(losses, rates, flag):
    reports = [
        report(epoch, loss=loss, lr={"lr/decay": rate, "lr/rest": rate})
        for epoch, (loss, rate) in enumerate(zip(losses, rates, strict=True), 1)
    ]
    assert fired(board(), *reports)[-1] == (["loss_not_falling"] if flag else [])


def test_a_patience_of_one_looks_at_two_losses():
    assert fired(board(patience=1), report(1, loss=1.0), report(2, loss=1.5))[-1] == ["loss_not_falling"]


def test_slope_is_that_of_the_least_squares_line():
    assert slope([1.0, 3.0, 2.0, 5.0]) == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("steps", "flag"),
    [
        ([(0.10, True), (0.14, True)], False),
        ([(0.10, True), (0.16, True)], True),
        ([(0.10, True), (0.50, False)], False),
        ([(0.10, True), (0.50, False), (0.14, True)], False),
        ([(0.10, True), (math.nan, True), (0.16, True)], True),
    ],
)
def test_more_danger_called_safe_while_the_headline_improves(steps, flag):
    reports = [
        report(epoch, danger_as_safe=value, improved=improved)
        for epoch, (value, improved) in enumerate(steps, 1)
    ]
    assert fired(board(), *reports)[-1] == (["false_safe_up"] if flag else [])


@pytest.mark.parametrize("headline", sorted({str(preset["monitor"]) for preset in PRESETS.values()}))
def test_the_suggestion_is_something_the_run_does_not_do_already(headline):
    watch = board(headline=headline)
    (alarm,) = fired_alarms(watch, report(1, danger_as_safe=0.1), report(2, danger_as_safe=0.3))
    assert ("--monitor expected_cost" in alarm.suggestion) == (headline != "expected_cost")
    assert alarm.line().endswith(f": {alarm.suggestion}")


def fired_alarms(watch: AlarmBoard, *reports: EpochReport) -> list[alarms.Alarm]:
    return [alarm for each in reports for alarm in watch.check(each)]


def test_the_history_survives_a_resume():
    reports = [report(epoch, class_2_iou=0.0, miou=0.3) for epoch in range(1, 9)]
    whole = board()
    expected = fired(whole, *reports)
    first, second = board(), board()
    head = fired(first, *reports[:4])
    second.load_state_dict(first.state_dict())
    assert head + fired(second, *reports[4:]) == expected
    assert any(expected)
