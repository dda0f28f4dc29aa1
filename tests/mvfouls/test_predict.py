"""The verb `predict`, and what a checkpoint says about a split that is judged."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from mv_checkpoint import FRAMES, HEIGHT, MAIN, SCALE, WIDTH, paint_clip, write_offsets, write_run
from mv_files import entry, write_annotations, write_split
from mv_runs import put_tiny_network_in_place
from PIL import Image

from common.config import run_main
from common.video import decode_numbers
from mvfouls import clip_media, predict_page
from mvfouls.card import load_trained
from mvfouls.config_verbs import EvaluateConfig, PredictConfig
from mvfouls.evaluate import main as evaluate_main
from mvfouls.labels import OFFICIAL_ACTIONS, TASKS
from mvfouls.official import project_entry
from mvfouls.predict import main
from mvfouls.resize import fit_frames
from mvfouls.settings import ViewSettings


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        put_tiny_network_in_place(patch)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run, a labelled and an unlabelled split; in the first action 5 lists a clip that is missing."""
    root = tmp_path_factory.mktemp("home")
    write_run(root / "run")
    listed = {"2": entry((0, 1, 2), action="2"), "5": entry((0, 1), action="5"), "7": entry((0,), action="7")}
    write_split(root, listed, name="valid", absent=["action_5/clip_1"])
    write_split(root, {"0": entry((0, 1), labelled=False)}, name="challenge")
    for k, size in enumerate([(80, 48), (120, 48), (64, 96)]):
        paint_clip(root / "valid" / "action_2" / f"clip_{k}.mp4", k, size)
    return root


@pytest.fixture
def predict(home, tmp_path, capfd):
    """Run the command in `home` and return what it wrote; with a code, what it says about the error."""

    def run(*words, code=0, out="P.json", checkpoint="run"):
        argv = [word.replace("@", f"{home}/") for word in words]
        fixed = ["--checkpoint", str(home / checkpoint), "--device=cpu", "--num_workers=0"]
        argv = [*fixed, f"--out={tmp_path / out}", "--page_actions=0", *argv]
        assert run_main(main, PredictConfig, argv, prog="mvfouls predict") == code
        said = capfd.readouterr()
        if code:
            return said.err
        text = (tmp_path / out).read_text()
        return json.loads(text) if out.endswith(".json") else text

    return run


def straight_answer(
    run: Path, clips: list[Path], step: int = 1
) -> tuple[dict[str, list[float]], list[float]]:
    """Probabilities and attention by the network itself, from frames fitted one clip at a time.

    `step` -1 reads their columns backwards.
    """
    trained = load_trained(run, torch.device("cpu"))
    seen = [fit_frames(decode_numbers(clip, FRAMES.indices()), HEIGHT, WIDTH, "crop") for clip in clips]
    views = torch.from_numpy(np.stack(seen)[:, :, :, ::step].copy()).permute(0, 4, 1, 2, 3) / 255
    with torch.no_grad():
        output = trained.model(trained.model.normalise(views), torch.tensor([len(clips)]))
    found = {task: (SCALE * logits).softmax(1)[0].tolist() for task, logits in output.logits.items()}
    return found, output.attention[0].tolist()


def test_an_action_is_told_as_the_network_answers(predict, home):
    folder = home / "valid" / "action_2"
    content = predict("--action_dir", "@valid/action_2")
    assert list(content["actions"]) == ["2"]
    action = content["actions"]["2"]
    probabilities, attention = straight_answer(home / "run", [folder / f"clip_{k}.mp4" for k in range(3)])
    assert [view["attention"] for view in action["views"]] == pytest.approx(attention, abs=1e-5)
    assert len(set(attention)) == 3
    for task in MAIN:
        found = action["tasks"][task]
        assert list(found["probabilities"].values()) == pytest.approx(probabilities[task], abs=1e-5)
        order = np.argsort(probabilities[task])[::-1][:2]
        assert [row["class"] for row in found["top"]] == [TASKS[task].classes[k] for k in order]
    assert (
        action["official"]["Action class"] == max(action["official"]["action"].items(), key=lambda x: x[1])[0]
    )
    assert sum(action["official"]["os"].values()) == pytest.approx(1, abs=1e-5)
    assert min(project_entry(action["official"])) >= 0


def test_each_view_by_itself_and_how_many_agree(predict):
    action = predict("--action_dir", "@valid/action_2")["actions"]["2"]
    alone = [predict("--clips", f"@valid/action_2/clip_{k}.mp4")["actions"]["2"] for k in range(3)]
    for view, single in zip(action["views"], alone, strict=True):
        assert single["views"][0]["attention"] == 1
        for task in MAIN:
            expected = [row["probability"] for row in single["tasks"][task]["top"]]
            assert [row["probability"] for row in view["tasks"][task]] == pytest.approx(expected, abs=1e-5)
    for task in MAIN:
        same = [
            single["tasks"][task]["top"][0]["class"] == action["tasks"][task]["top"][0]["class"]
            for single in alone
        ]
        assert action["tasks"][task]["agreement"] == pytest.approx(np.mean(same), abs=1e-5)


def test_batches_and_processes_change_nothing(predict):
    one = predict("--split", "valid", "--dataset_root", "@", "--batch_size=1")["actions"]
    other = predict("--split", "valid", "--dataset_root", "@", "--batch_size=3", "--num_workers=1")["actions"]
    assert list(one) == list(other) == ["2", "5", "7"]
    for name, action in one.items():
        for task, found in action["tasks"].items():
            expected = list(other[name]["tasks"][task]["probabilities"].values())
            assert list(found["probabilities"].values()) == pytest.approx(expected, abs=1e-5)


def test_a_missing_clip_leaves_the_others(predict):
    content = predict("--split", "valid", "--dataset_root", "@")
    assert [len(action["views"]) for action in content["actions"].values()] == [3, 1, 1]
    assert content["left_out"] == [{"clip": "action_5/clip_1", "reason": "missing"}]
    words = ("--split", "valid", "--dataset_root", "@", "--missing_clip", "error")
    assert "action_5/clip_1 (missing)" in predict(*words, code=2)


def test_labels_are_never_looked_at(predict, home, tmp_path):
    plain = predict("--split", "valid", "--dataset_root", "@")
    rng = np.random.default_rng(0)
    changed = {
        name: entry(clips, action=name, action_class=str(rng.choice(OFFICIAL_ACTIONS)), offence="Between",
                    severity="5.0", handball="Handball", contact="Without contact")
        for name, clips in {"2": (0, 1, 2), "5": (0, 1), "7": (0,)}.items()
    }  # fmt: skip
    (tmp_path / "valid").mkdir()
    for name in changed:
        (tmp_path / "valid" / f"action_{name}").symlink_to(home / "valid" / f"action_{name}")
    write_annotations(tmp_path / "valid" / "annotations.json", changed, set_name="valid")
    other = predict("--split", "valid", "--dataset_root", str(tmp_path))
    for action in (*plain["actions"].values(), *other["actions"].values()):
        for view in action["views"]:
            del view["path"]
    assert other["actions"] == plain["actions"]


def test_a_split_without_labels_as_a_table(predict):
    text = predict("--split", "challenge", "--dataset_root", "@", "--top_k=3", out="P.csv")
    (row,) = csv.DictReader(text.splitlines())
    assert (row["action"], row["views"]) == ("0", "2")
    shares = [float(row[f"severity/{name}"]) for name in TASKS["severity"].classes]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert float(row["severity_1_probability"]) == max(shares)
    assert float(row["severity_3_probability"]) == sorted(shares)[-3]
    assert float(row["attention_0"]) + float(row["attention_1"]) == pytest.approx(1, abs=1e-4)


def test_folders_of_actions_in_the_order_of_their_numbers(predict, home, tmp_path):
    for name, clips in {"action_10": ("clip_10", "clip_2"), "action_9": ("side",)}.items():
        (tmp_path / name).mkdir()
        for clip in clips:
            (tmp_path / name / f"{clip}.mp4").symlink_to(home / "valid" / "action_2" / "clip_0.mp4")
    (tmp_path / "action_11").mkdir()
    content = predict("--action_dir", str(tmp_path))
    told = {name: [v["clip"] for v in action["views"]] for name, action in content["actions"].items()}
    assert told == {"9": ["side"], "10": ["clip_2", "clip_10"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give one of --split, --action_dir and --clips"),
        ("--split valid --clips @a.mp4", "give one of"),
        ("--clips @absent.mp4", "absent.mp4: no such file"),
        ("--clips @valid/action_2/clip_0.mp4 @valid/action_2/../action_2/clip_0.mp4", "given twice"),
        ("--clips @valid/annotations.json", "annotations.json ("),
        ("--action_dir @absent", "absent: no such folder"),
        ("--action_dir @run/checkpoints", "neither clips"),
        ("--split test --dataset_root @", "no folder of split test"),
        ("--split valid --dataset_root @ --checkpoint @absent", "--checkpoint"),
        ("--split valid --dataset_root @ --checkpoint @valid", "--checkpoint"),
        ("--split valid --dataset_root @ --device cuda:99", "--device"),
        ("--split valid --dataset_root @ --top_k 0", "--top_k 0"),
        ("--split valid --dataset_root @ --batch_size 0", "--batch_size 0"),
        ("--split valid --dataset_root @ --out @P.txt", ".json or .csv"),
        ("--split valid --dataset_root @ --out @run/config.yaml/P.json", "--out"),
        ("--split valid --dataset_root @ --calibration @valid/annotations.json", "annotations.json"),
    ],
)
def test_refusals(predict, home, words, message):
    (home / "run" / "config.yaml").touch()
    text = predict(*words.split(), code=2)
    assert message in text
    assert "Traceback" not in text


def test_a_broken_clip_of_several_is_left_out(predict, home, tmp_path):
    good, broken = home / "valid" / "action_2" / "clip_0.mp4", tmp_path / "b.mp4"
    broken.write_text("no video")
    content = predict("--clips", str(broken), str(good))
    assert [view["clip"] for view in content["actions"]["clips"]["views"]] == ["clip_0"]
    assert content["left_out"][0]["clip"] == str(broken)


def test_mirror_images_count_the_same(predict, home):
    clips = [home / "valid" / "action_2" / f"clip_{k}.mp4" for k in range(3)]
    action = predict("--action_dir", "@valid/action_2", "--tta")["actions"]["2"]
    (straight, attention), (mirror, other) = (straight_answer(home / "run", clips, step) for step in (1, -1))
    assert np.abs(np.subtract(attention, other)).max() > 1e-3
    assert [v["attention"] for v in action["views"]] == pytest.approx(
        np.mean([attention, other], 0), abs=1e-5
    )
    for task in MAIN:
        expected = np.mean([straight[task], mirror[task]], axis=0)
        assert list(action["tasks"][task]["probabilities"].values()) == pytest.approx(expected, abs=1e-5)


def test_offsets_of_a_calibration(predict, tmp_path):
    words = ("--action_dir", "@valid/action_2", "--calibration")
    path = write_offsets(tmp_path / "c.json", "severity", "4.0", TASKS["severity"].classes)
    plain, action = predict(*words[:2])["actions"]["2"], predict(*words, str(path))["actions"]["2"]
    assert action["tasks"]["severity"]["top"][0]["class"] == "4.0"
    assert action["tasks"]["severity"]["present"] == ["4.0"]
    assert action["tasks"]["severity"]["agreement"] == 1
    assert action["official"] == plain["official"]
    path = write_offsets(tmp_path / "d.json", "official_action", "Dive", OFFICIAL_ACTIONS)
    assert predict(*words, str(path))["actions"]["2"]["official"]["Action class"] == "Dive"
    path = write_offsets(tmp_path / "e.json", "severity", "b", ("a", "b"))
    assert "severity was fitted with the classes a, b" in predict(*words, str(path), code=2)


def test_a_model_of_clips_takes_the_mean_of_its_clips(predict, home):
    write_run(home / "clips_run", views=ViewSettings(bags=False, max_views=2))
    words = ("--action_dir", "@valid/action_2")
    action = predict(*words, "--top_k=8", checkpoint="clips_run")["actions"]["2"]
    assert [view["attention"] for view in action["views"]] == [0.5, 0.5]
    for task in MAIN:
        alone = [{row["class"]: row["probability"] for row in v["tasks"][task]} for v in action["views"]]
        for name, value in action["tasks"][task]["probabilities"].items():
            assert value == pytest.approx((alone[0][name] + alone[1][name]) / 2, abs=1e-5)


def test_views_that_a_model_does_not_take(predict, home):
    write_run(home / "two_run", views=ViewSettings(max_clips=2, sampling="uniform"))
    action = predict("--action_dir", "@valid/action_2", checkpoint="two_run")["actions"]["2"]
    assert [view["used"] for view in action["views"]] == [True, False, True]
    assert sum(view.get("attention", 0) for view in action["views"]) == pytest.approx(1, abs=1e-5)


def test_a_model_without_the_official_heads(predict, home):
    write_run(home / "part_run", tasks=("severity", "contact"))
    content = predict("--action_dir", "@valid/action_2", "--page_actions=1", checkpoint="part_run")
    assert content["actions"]["2"]["official"] is None
    assert "action_class" in content["official_lacks"]


def test_the_page_shows_every_clip(predict, tmp_path, monkeypatch):
    words = ("--split", "valid", "--dataset_root", "@", "--page_actions=2")
    content = predict(*words, out="p a.json")
    page = (tmp_path / "p a.html").read_text()
    pictures = [tmp_path / unquote(name) for name in re.findall(r'<img src="([^"]+)"', page)]
    assert [path.name for path in pictures] == [
        "2_0.webp",
        "2_1.webp",
        "2_2.webp",
        "5_0.webp",
    ]
    with Image.open(pictures[3]) as picture:
        assert (picture.n_frames, picture.size) == (82 - 67 + 1 + 16, (80, 48))
    assert "2 of 3" in page
    top = content["actions"]["2"]["tasks"]["action_class"]["top"]
    assert all(f"{100 * row['probability']:.1f} %" in page for row in top)

    monkeypatch.setattr(predict_page, "browser_plays", lambda path: True)
    predict(*words, out="q.json")
    sources = re.findall(r'<video src="([^"#]+)#t=([^"]+)"', (tmp_path / "q.html").read_text())
    assert len(sources) == 4
    assert all((tmp_path / unquote(name)).is_file() and start == "1.88" for name, start in sources)


def test_what_a_browser_plays(home, real_data):
    assert clip_media.browser_plays(real_data / "dataset" / "action_0" / "clip_0.mp4")
    assert not clip_media.browser_plays(home / "valid" / "action_2" / "clip_0.mp4")


def test_a_checkpoint_is_judged(predict, home, tmp_path, capfd):
    predicted = predict("--split", "valid", "--dataset_root", "@")["actions"]
    labels = {"2": (0, 1, 2), "5": (0, 1), "7": (0,)}
    truth = {
        name: entry(
            clips, action=name, action_class=predicted[name]["official"]["Action class"], severity="3.0"
        )
        for name, clips in labels.items()
    }
    path = write_annotations(tmp_path / "A.json", truth, set_name="valid")
    argv = [
        f"--checkpoint={home / 'run'}", "--split=valid", f"--dataset_root={home}", f"--annotations={path}",
        "--num_workers=0", "--device=cpu", f"--json={tmp_path / 'R.json'}",
    ]  # fmt: skip
    assert run_main(evaluate_main, EvaluateConfig, argv, prog="mvfouls evaluate") == 0
    assert "strict  LB" in capfd.readouterr().out
    strict = json.loads((tmp_path / "R.json").read_text())["modes"]["strict"]
    assert strict["accuracy_action"] == 100
    yellow = [action["official"]["Severity"] == "3.0" for action in predicted.values()]
    assert strict["accuracy_offence_severity"] == pytest.approx(100 * np.mean(yellow))
