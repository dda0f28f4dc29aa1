import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from landing_pieces import KEYS, SHORT, Built
from run_results import without_clocks

from common.config import UserError
from common.engine.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, save_checkpoint
from uav_landing.labels import TABLES
from uav_landing.rebuild import load_trained
from uav_landing.task import LandingTask

APPLICATION = Path(__file__).parents[2] / "apps" / "uav_landing"
DOCUMENTED = "--batch-size 6 --epochs 30 --accumulation-steps 3 --learning-rate 3e-4"
SINGLE = "--batch-size 1 --accumulation-steps 1 --save-every-steps 1 --epochs 2"
CLASS_LINE = re.compile(r"Class ([0-3]): IoU=(\d\.\d{3}|n/a), Acc=(\d\.\d{3}|n/a)( \(.*\))?$")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def steps_into():
    """Let something happen in the given training step."""

    def after(patch: pytest.MonkeyPatch, step: int, act) -> None:
        usual, done = LandingTask.training_step, []

        def training_step(task, batch):
            done.append(1)
            if len(done) == step:
                act()
            return usual(task, batch)

        patch.setattr(LandingTask, "training_step", training_step)

    return after


def test_the_documented_training(train):
    ran = train(DOCUMENTED, "--max-steps 2 --store-scale 1 --tile-overlap 0 --tile-batch 16", report=True)
    assert ran.code == 0, ran.err
    labels = [line.split()[0] for line in ran.out.splitlines() if line[:1].strip() and line[0].islower()]
    for label in ("run", "preset", "data", "store", "model", "plan", "balance", "step", "valid", "best"):
        assert label in labels
    assert "effective batch 18 (6 x 3 x 1)" in ran.out
    assert "guide: void train   class_weights guide   scale_range 1.0 1.0" in ran.out
    lines = [CLASS_LINE.match(line) for line in ran.out.splitlines() if line.startswith("Class ")]
    assert [match[1] for match in lines] == ["0", "1", "2", "3"] * len(ran.metrics("validation"))
    for name in ("config.yaml", "environment.json", "metrics.jsonl", "events.jsonl", "report.html"):
        assert (ran.folder / name).stat().st_size > 0
    assert "Documented targets" in ran.out
    assert ran.out.count("(annotation seam: not attainable in general)") == 2
    plain = torch.load(ran.output_dir / "fixed_memory_efficient_compact_best.pth", weights_only=True)
    assert same(plain, ran.weights("best"))
    html = (ran.folder / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["']https?://""", html)


def test_printed_and_logged_numbers_are_those_of_one_matrix(train):
    ran = train("--epochs 2 --max-images 2")
    last = ran.metrics("validation")[-1]
    printed = [CLASS_LINE.match(line) for line in ran.out.splitlines() if line.startswith("Class ")][-4:]
    for match in printed:
        assert float(match[2]) == pytest.approx(last[f"valid/class_{match[1]}_iou"], abs=5e-4)
        assert float(match[3]) == pytest.approx(last[f"valid/class_{match[1]}_accuracy"], abs=5e-4)
    (confusion,) = ran.events("confusion")
    matrix = np.array(confusion["matrix"])
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    best = max(line["valid/miou"] for line in ran.metrics("validation"))
    assert (np.diag(matrix) / union).mean() == pytest.approx(best)
    assert f"miou {best:.3f} *" in ran.out


def test_metrics_hold_the_documented_keys(train):
    ran = train("--epochs 2")
    assert [line["lr/decay"] for line in ran.metrics("epoch")] == pytest.approx([3e-4, 2.926829e-4])
    for prefix, line in (("train", ran.metrics("epoch")[0]), ("valid", ran.metrics("validation")[0])):
        wanted = {"loss", "focal", "dice", "seconds", "miou", "miou_landing", "miou_observed", "accuracy"}
        wanted |= {"mean_accuracy", "danger_as_safe", "danger_missed", "false_safe", "expected_cost"}
        wanted |= {f"class_{c}_{m}" for c in range(4) for m in ("iou", "accuracy", "precision", "support")}
        assert {f"{prefix}/{name}" for name in wanted} <= line.keys()
    assert ran.metrics("validation")[0]["alarms"] == 0
    shares = [ran.metrics("epoch")[0][f"train/share/{index}"] for index in range(4)]
    assert sum(shares) == pytest.approx(1)


def test_a_checkpoint_says_what_it_needs_to_be_rebuilt(train, scenes):
    ran = train("--max-steps 1 --epochs 1")
    checkpoint = load_checkpoint(find_checkpoint("best", ran.folder))
    data = checkpoint.metadata
    assert data["model"] == {
        "model_type": "compact", "width_multiplier": 0.25, "num_classes": 4, "aux": False,
    }  # fmt: skip
    assert (data["class_ids"], data["void"], data["preset"]) == ([0, 1, 2, 3], "train", "guide")
    assert data["mapping_hash"] == TABLES["sdd"].mapping_hash
    assert (data["input_size"], data["store_scale"]) == ([64, 64], 0.25)
    stems = sorted(stem for part in data["split"].values() for stem in part)
    assert stems == ["000", "001", "002", "003", "004", "005"]
    assert checkpoint.statistics["split"] == "train"
    trained = load_trained(ran.folder)
    assert same(trained.model.state_dict(), checkpoint.model)
    assert trained.config.crops.input_size == (64, 64)


def test_the_recommended_training_ignores_void(train):
    ran = train("--max-steps 1 --epochs 1", script=False)
    assert ran.code == 0, ran.err
    assert "preset   safe: void ignore   class_weights balanced   scale_range 0.5 2.0" in ran.out
    assert "Class 0: IoU=n/a, Acc=n/a (void, ignored)" in ran.out
    assert re.search(r"expected_cost \d\.\d+ \*", ran.out)
    assert "sampler rare crops(0.5)" in ran.out
    assert "grouped, 4 groups" in ran.out
    assert ran.weights()["classifier.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--epochs 12", "--epochs 12 ends mid-cycle at lr 0.000298; clean lengths: 10, 30, 70, 150, 310"),
        ("--split-mode random", "random split of overlapping photos leaks scenes; use grouped"),
        ("--input-size 192 192 --batch-size 2", "4 photos are smaller than the largest crop window"),
        ("--loss ce --gamma 1", "--gamma has no effect because --loss ce has no gamma"),
    ],
)
def test_what_a_user_should_know_is_said(train, caplog, flags, said):
    ran = train(flags, "--max-steps 1")
    assert ran.code == 0
    assert said in ran.out + ran.err + caplog.text


def test_a_clean_length_needs_no_warning(train):
    assert "mid-cycle" not in train("--epochs 30 --max-steps 1").out


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(train):
    first = train("--epochs 1", name="a")
    second = train("--epochs 1 --workers 2", name="b")
    assert same(first.weights(), second.weights())
    assert without_clocks(first.metrics("validation")) == without_clocks(second.metrics("validation"))


def test_a_recorded_config_repeats_the_run(train):
    first = train("--epochs 1 --learning-rate 1e-3 --void ignore --class-weights 1 2 3", name="a")
    config = first.folder / "config.yaml"
    assert yaml.safe_load(config.read_text())["optimizer"]["learning_rate"] == 1e-3
    second = train("--config", str(config), name="b")
    assert same(first.weights(), second.weights())


def test_weights_is_another_name_of_pretrained_path(train, tmp_path):
    first = train("--epochs 1 --max-steps 1", name="a")
    file = first.output_dir / "fixed_memory_efficient_compact_best.pth"
    second = train(f"--epochs 1 --max-steps 1 --seed 9 --weights {file}", name="b")
    assert "100.0 % of the backbone" in second.out
    assert "weights fixed_memory_efficient_compact_best.pth" in second.out


def kill_in_mid_epoch(output_dir: Path, scenes: Path) -> None:
    """Start the documented script in a process of its own and kill it once three steps are saved."""
    command = [sys.executable, "scripts/train_memory_efficient_fixed.py", *SHORT, *SINGLE.split()]
    command += ["--dataset-path", str(scenes), "--output-dir", str(output_dir)]
    third = output_dir / "run-0001" / "checkpoints" / "step-00000003"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(
        command, cwd=APPLICATION, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not third.is_dir():
            time.sleep(0.005)
        process.kill()
        said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said


def test_killed_interrupted_and_resumed_is_never_stopped(train, tmp_path, scenes, steps_into):
    whole = train(SINGLE, name="whole")
    kill_in_mid_epoch(tmp_path / "stopped", scenes)
    with pytest.MonkeyPatch.context() as patch:
        steps_into(patch, 7, lambda: signal.raise_signal(signal.SIGINT))
        stopped = train(SINGLE, "--resume last", name="stopped")
    assert stopped.code == 130
    first = int(re.search(r"resume   step (\d+), epoch 1\b", stopped.out)[1])
    assert 2 <= first < 8
    assert "stopped by signal 2" in stopped.out
    assert "Documented targets" not in stopped.out
    assert load_checkpoint(find_checkpoint("last", stopped.folder)).step == first + 7
    resumed = train(SINGLE, "--resume", str(stopped.folder), name="stopped")
    assert resumed.code == 0, resumed.err
    assert same(resumed.weights(), whole.weights())
    for kind in ("epoch", "validation"):
        assert without_clocks(resumed.metrics(kind)) == without_clocks(whole.metrics(kind))


def test_a_request_to_end_is_answered(train, steps_into):
    with pytest.MonkeyPatch.context() as patch:
        steps_into(patch, 1, lambda: signal.raise_signal(signal.SIGTERM))
        assert train("--epochs 1").code == 143


def test_a_run_of_other_things_cannot_be_resumed(train, tmp_path):
    mapping = {item.id: item.landing for item in TABLES["sdd"].classes}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(mapping | {9: 3}))
    first = train("--epochs 2 --max-steps 1")
    before = first.weights()
    for flags, field in (
        ("--width-multiplier 0.5", "model:"),
        ("--void ignore", "class_ids:"),
        (f"--mapping {tmp_path / 'm.yaml'}", "mapping_hash:"),
        ("--store-scale 0.2", "data_fingerprint:"),
        ("--learning-rate 1e-3", "learning_rate:"),
    ):
        second = train("--epochs 2 --resume last", flags)
        assert second.code == 2
        assert second.err.startswith("error: cannot resume, these differ:")
        assert field in second.err
    assert second.folder == first.folder
    assert same(before, second.weights())


def test_a_checkpoint_of_another_application_is_refused(train, tmp_path):
    other = Checkpoint(
        step=1, epoch=1, headline=None, model={"w": torch.zeros(1)}, state={}, config="",
        metadata={"application": "somewhere_else"},
    )  # fmt: skip
    save_checkpoint(tmp_path / "run" / "checkpoints", other, best=True)
    with pytest.raises(UserError, match="trained by somewhere_else, not uav_landing"):
        load_trained(tmp_path / "run")
    with pytest.raises(UserError, match=r"--checkpoint .*: "):
        load_trained(tmp_path)


def test_a_checkpoint_whose_tensors_do_not_fit_its_network_is_refused(train):
    folder = train("--epochs 1 --max-steps 1").folder
    found = load_checkpoint(find_checkpoint("best", folder))
    name = next(iter(found.model))
    save_checkpoint(
        folder / "checkpoints",
        replace(found, model={**found.model, name: torch.zeros(2, 3)}, ema=None),
        best=True,
    )
    with pytest.raises(UserError, match=r"--checkpoint .* does not fit the model") as caught:
        load_trained(folder)
    assert f"{name}: (2, 3) instead of" in str(caught.value)


def test_a_full_disk_keeps_the_checkpoint_before(train, steps_into):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.MonkeyPatch.context() as patch:
            limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # noqa: E731
            steps_into(patch, 3, limit)
            ran = train(SINGLE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ran.code == 1
    assert ran.err.startswith("error: training stopped: 3 checkpoints in a row could not be saved")
    assert load_trained(ran.folder).step == 2
    assert train(SINGLE, "--resume last").code == 0


@pytest.mark.usefixtures("socket_disabled")
def test_a_training_needs_no_network(train):
    assert train("--epochs 1").code == 0


@pytest.mark.parametrize("failing", ["init", "log", "finish"])
def test_wandb_cannot_stop_a_run(train, monkeypatch, failing):
    def fail(*args, **options):
        raise RuntimeError("no service")

    calls = {name: lambda *args, **options: None for name in ("log", "finish", "alert")}
    run = types.SimpleNamespace(id="x", **(calls | {failing: fail}))
    init = fail if failing == "init" else lambda **options: run
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    assert train("--epochs 1 --wandb-mode offline").code == 0


def test_data_draw_nothing_from_the_global_generators(scenes, tmp_path):
    words = [*SHORT, "--dataset-path", str(scenes), "--rare-crop-fraction", "0.5"]
    built = Built(words, tmp_path, lambda: None)
    assert built.model.num_classes == 4

    def states():
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002

    before = states()
    del built.data
    samples = [built.crops[key] for key in KEYS]
    batches = list(built.loaders.train)
    photos = list(built.loaders.valid)
    assert built.balance.weights.name == "guide"
    after = states()
    assert (len(samples), len(batches), len(photos)) == (8, 2, 1)
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_running_out_of_memory_is_survived_and_flagged(train, monkeypatch):
    from uav_landing.models.compact import CompactSegmenter

    usual, calls = CompactSegmenter.forward, []

    def forward(model, image):
        calls.append(len(image))
        if len(calls) == 1:
            raise MemoryError
        return usual(model, image)

    whole = train("--epochs 1", name="whole")
    monkeypatch.setattr(CompactSegmenter, "forward", forward)
    ran = train("--epochs 1", name="short")
    assert ran.code == 0
    assert "RED FLAG memory: 1 out-of-memory recoveries: lower --batch-size" in ran.out
    assert ran.events("alarm")[0]["name"] == "memory"
    assert max(calls[1:5]) < calls[0]
    names = [f"train/class_{index}_support" for index in range(4)]
    assert [ran.metrics("epoch")[0][n] for n in names] == [whole.metrics("epoch")[0][n] for n in names]


def test_an_alarm_may_stop_the_run(train, monkeypatch):
    monkeypatch.setattr("uav_landing.alarms.free_memory_share", lambda: 0.01)
    ran = train("--epochs 3 --stop-on-alarm")
    assert ran.code == 3
    assert "RED FLAG memory: 1.0% of host memory free" in ran.out
    assert "alarm memory" in ran.out
    assert load_trained(ran.folder).epoch == 1
    assert [line["alarms"] for line in ran.metrics("validation")] == [1]
    assert train("--epochs 1 --no-alarms", name="quiet").code == 0


def test_a_test_run_leaves_a_whole_run_folder(train):
    ran = train("--test-run", report=True)
    assert ran.code == 0
    assert [line["epoch"] for line in ran.metrics("validation")] == [1]
    assert (ran.folder / "report.html").is_file()
    assert Path(find_checkpoint("best", ran.folder)).is_dir()
