"""The verb `submit`: a valid file with every action of the split."""

import json
import shutil

import pytest
from mv_checkpoint import write_offsets, write_run
from mv_files import entry, write_split
from mv_runs import put_tiny_network_in_place

from common.config import run_main
from mvfouls.config_verbs import PredictConfig, SubmitConfig
from mvfouls.labels import OFFICIAL_OS
from mvfouls.predict import main as predict_main
from mvfouls.submission import MAJORITY, check_submission
from mvfouls.submit import main


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        put_tiny_network_in_place(patch)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    write_run(root / "run")
    listed = {"4": entry((0, 1), action="4"), "10": entry((0,), action="10"), "3": entry((0,), action="3")}
    write_split(root, listed, name="test")
    write_split(root, {"0": entry((0, 1), labelled=False)}, name="challenge")
    return root


@pytest.fixture
def submit(home, tmp_path, capfd):
    """Run the command and return what it wrote and said; with a code, what it says about the error."""

    def run(*words, code=0, root=home, checkpoint="run"):
        fixed = f"--checkpoint={home / checkpoint} --dataset_root={root} --device=cpu --num_workers=0".split()
        argv = [*fixed, f"--out={tmp_path / 'F.json'}", *words]
        assert run_main(main, SubmitConfig, argv, prog="mvfouls submit") == code
        said = capfd.readouterr()
        return said.err if code else (json.loads((tmp_path / "F.json").read_text()), said.out)

    return run


@pytest.fixture
def no_view(home, tmp_path):
    """The same data without the only clip of action 10."""
    shutil.copytree(home / "test", tmp_path / "data" / "test")
    (tmp_path / "data" / "test" / "action_10" / "clip_0.mp4").unlink()
    return tmp_path / "data"


def test_every_action_is_predicted_in_the_order_of_the_split(submit, home, tmp_path):
    content, out = submit()
    assert (content["Set"], list(content["Actions"])) == ("test", ["4", "10", "3"])
    check_submission(tmp_path / "F.json", ["4", "10", "3"])
    assert "3 actions, read again and valid" in out
    argv = [
        f"--checkpoint={home / 'run'}", f"--dataset_root={home}", "--split=test", "--device=cpu",
        "--num_workers=0", f"--out={tmp_path / 'P.json'}", "--page_actions=0",
    ]  # fmt: skip
    assert run_main(predict_main, PredictConfig, argv, prog="mvfouls predict") == 0
    for name, action in json.loads((tmp_path / "P.json").read_text())["actions"].items():
        told = {field: action["official"][field] for field in MAJORITY}
        assert told == content["Actions"][name]


def test_the_challenge_has_no_labels(submit):
    content, _ = submit("--split", "challenge")
    assert (content["Set"], list(content["Actions"])) == ("chall", ["0"])


def test_an_action_without_a_view(submit, no_view, tmp_path):
    text = submit(root=no_view, code=2)
    assert "no readable view of action 10" in text
    assert "--allow_missing_clips" in text
    assert not (tmp_path / "F.json").exists()
    content, out = submit("--allow_missing_clips", root=no_view)
    assert content["Actions"]["10"] == MAJORITY
    assert list(content["Actions"]) == ["4", "10", "3"]
    assert "commonest labels for action 10" in out


def test_offsets_of_a_calibration(submit, tmp_path):
    path = write_offsets(tmp_path / "c.json", "official_os", "Red", OFFICIAL_OS)
    content, _ = submit("--calibration", str(path))
    assert {(e["Offence"], e["Severity"]) for e in content["Actions"].values()} == {("Offence", "5.0")}


def test_a_model_without_the_official_heads(submit, home):
    write_run(home / "part", tasks=("severity", "action_class"))
    assert "without a head for the task offence (or offence_severity)" in submit(checkpoint="part", code=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--out @F.csv", ".json is expected"),
        ("--out @", ".json is expected"),
        ("--dataset_root @nothing", "no folder of split test"),
        ("--checkpoint @nothing", "--checkpoint"),
        ("--num_workers -1", "--num_workers -1"),
    ],
)
def test_refusals(submit, tmp_path, words, message):
    assert message in submit(*words.replace("@", f"{tmp_path}/").split(), code=2)
