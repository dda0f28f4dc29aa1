"""What a trained model is used for: judging labelled trials, naming the behaviour in folders of videos."""

import csv
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rodent_pieces import HEIGHT, SHORT, SLOT, VIDEOS, WIDTH, motion, write_pose
from sklearn.metrics import average_precision_score

from rodent_behavior.export import load_checkpoint
from rodent_behavior.labels import LabelMap, read_labels

FPS, VIDEO = 30.0, "--backbone tiny_cnn --img_size 32"
GENERIC = "--pose_features generic --kp_names mouth,tail_base,L_frontpaw"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def probabilities(table: list[dict[str, str]]) -> np.ndarray:
    names = [name for name in table[0] if name.endswith("_prob")]
    return np.array([[float(row[name]) for name in names] for row in table])


def folders(home: Path) -> str:
    return f"--annotations {home / 'Annotations'} --videos {home / 'Videos'}"


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--causal --pose_features graph18",
        f"{VIDEO} --use_ema --ema_decay 0.5",
        f"{VIDEO} --freeze_backbone_epochs 1",
        f"{VIDEO} --pose_features none --model_type action_only",
        GENERIC,
        "--group_by trial --kp_likelihood_thr 0.97 --max_gap 2",
        "--group_regex mouse_(?P<group>.) --loss ldam",
    ],
)
def test_the_exported_model_is_judged_as_in_training(words, train, use, tmp_path):
    ran = train("--lr 1e-2", words)
    said = use("evaluate --checkpoint", ran.model, folders(ran.home), "--val_T 40 --out", tmp_path / "out")
    assert said.code == 0, said.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = {row["name"]: row["value"] for row in report["summary"]}
    best = max(ran.metrics("validation"), key=lambda line: line["valid/macro_f1"])
    names = ("macro_f1", "balanced_accuracy", "accuracy", "mcc", "segment_f1_0.3", "segment_f1_0.5", "edit")
    assert [found[name] for name in names] == pytest.approx([best[f"valid/{name}"] for name in names])
    assert report["trained_on"] == []
    assert sum(map(sum, report["confusion"])) == sum(row["support"] for row in report["classes"])
    lines = (ran.folder / "confusion.csv").read_text().splitlines()[1:]
    assert report["confusion"] == [[int(cell) for cell in line.split(",")[1:]] for line in lines]


def test_probabilities_and_bouts_are_judged(train, use, tmp_path):
    ran = train("--lr 1e-2 --val_share 0.5")
    words = f"evaluate --checkpoint {ran.model} {folders(ran.home)} --val_T 40 --out {tmp_path / 'e'}"
    assert use(words).code == 0
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    tables = [rows(path) for path in sorted((ran.folder / "val_predictions").iterdir())]
    shares = np.concatenate([probabilities(table) for table in tables])
    true = np.array([row["True"] for table in tables for row in table])
    for index, name in enumerate(ran.contents["classes"]):
        found = report["average_precision"][name]
        if (true == name).any():
            assert found == pytest.approx(average_precision_score(true == name, shares[:, index]), abs=1e-3)
        else:
            assert found is None
    assert "rest" not in report["false_bouts_per_minute"]
    hits = sum(counts["predicted"] for name, counts in report["bouts"].items() if name != "rest")
    minutes = len(true) / FPS / 60
    assert 0 <= sum(report["false_bouts_per_minute"].values()) <= hits / minutes + 1e-9
    assert set(report["per_video"]) == {path.stem.rpartition("_")[0] for path in
                                        (ran.folder / "val_predictions").iterdir()}  # fmt: skip
    assert all(row["low"] <= row["value"] <= row["high"] for row in report["summary"][:4])


def test_other_sides_are_judged_and_marked(train, use, tmp_path):
    ran = train("--max_steps 1 --test_share 0.2")
    model = f"evaluate --checkpoint {ran.model} {folders(ran.home)} --bootstrap 20 --out {tmp_path / 'out'}"
    split = ran.contents["split"]
    for side in ("val", "test", "train", "all"):
        said = use(model, "--split", side)
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        sides = split if side == "all" else [side]
        expected = sorted(group for name in sides for group in split[name])
        assert report["groups"] == expected
        assert report["trained_on"] == (split["train"] if side in ("train", "all") else [])
        assert ("warning: the model was trained on" in said.out) == (side in ("train", "all"))
    no_test = train("--max_steps 1")
    said = use(f"evaluate --checkpoint {no_test.model} {folders(ran.home)} --split test --out {tmp_path}")
    assert said.code == 2
    assert "--split test: no trial of it is here" in said.err


def test_short_bouts_take_the_label_of_the_longer_neighbour(train, use, tmp_path):
    ran = train("--max_steps 1")
    contents, generator = ran.contents, torch.Generator().manual_seed(0)
    for weight in contents["model_state_dict"].values():
        weight.normal_(0, 0.5, generator=generator)
    torch.save(contents, ran.model)
    base = f"predict {ran.home / 'Videos'} --checkpoint {ran.model} --format bouts"
    assert use(base, "--out", tmp_path / "all").code == 0
    assert use(base, "--min_bout 12 --out", tmp_path / "long").code == 0
    assert use(base, "--min_bout 1 rest=12 --out", tmp_path / "rest").code == 0
    lengths = {
        name: [
            (row["label"], int(row["end"]) - int(row["start"]))
            for row in rows(tmp_path / name / "mouse_1_bouts.csv")
        ]
        for name in ("all", "long", "rest")
    }
    assert min(length for _, length in lengths["all"]) < 12
    assert min(length for _, length in lengths["long"]) >= 12
    assert all(length >= 12 for label, length in lengths["rest"] if label == "rest")
    assert all(sum(length for _, length in found) == 2 * SLOT for found in lengths.values())
    for words, text in (("sleep=3", "sleep is none of rest, paw_withdraw"), ("rest=x", "N or NAME=N")):
        said = use(base, f"--min_bout {words} --out", tmp_path / "no")
        assert said.code == 2
        assert f"--min_bout {words}" in said.err
        assert text in said.err


@pytest.mark.parametrize(
    "words", ["", f"{VIDEO} --model_type action_only", f"{VIDEO} --freeze_backbone_epochs 0", "--causal"]
)
def test_every_frame_of_every_video_is_named(words, train, use, tmp_path):
    ran = train("--max_steps 2 --lr 1e-2", words)
    said = use(f"predict {ran.home / 'Videos'} --checkpoint {ran.model} --out {tmp_path / 'p'} --val_T 40")
    assert said.code == 0, said.err
    names = ran.contents["classes"]
    assert len(list((tmp_path / "p").glob("*.csv"))) == VIDEOS
    for number in range(1, VIDEOS + 1):
        table = rows(tmp_path / "p" / f"mouse_{number}_predictions.csv")
        assert list(table[0]) == ["Frame", "Action", *(f"{name}_prob" for name in names)]
        assert [int(row["Frame"]) for row in table] == list(range(2 * SLOT))
        shares = probabilities(table)
        assert shares.sum(axis=1) == pytest.approx(1, abs=1e-5)
        likeliest = shares.max(axis=1)
        chosen = [share[names.index(row["Action"])] for share, row in zip(shares, table)]
        assert np.allclose(chosen, likeliest, atol=1e-6)


def test_predictions_are_calibrated_and_those_of_validation(train, use, tmp_path):
    """A recording of one trial is predicted as it is judged, from its keypoints alone."""
    data = tmp_path / "one"
    for folder in ("Annotations", "Videos"):
        (data / folder).mkdir(parents=True)
    for number in range(1, 4):
        rng = np.random.default_rng(number)
        xy, likelihood = motion(rng)
        write_pose(data / "Videos" / f"m{number}DLC_net.csv", xy[:SLOT], likelihood[:SLOT])
        text = "\n".join(["Frame,Action", *(f"{row},{(row + number) // 9 % 3}" for row in range(SLOT))])
        (data / "Annotations" / f"prediction_m{number}.mp4_1.csv").write_text(text)
    ran = train("--fps 30 --frame_size 64,48 --lr 1e-2", data=data)
    assert ran.code == 0, ran.err
    (group,) = ran.contents["split"]["val"]
    judged = rows(ran.folder / "val_predictions" / f"{group}_1.csv")
    model = load_checkpoint(ran.model)
    assert model.temperature == pytest.approx(ran.contents["temperature"]["value"])
    assert probabilities(judged).sum(axis=1) == pytest.approx(1, abs=1e-5)
    videos = tmp_path / "videos"
    videos.mkdir()
    pose = data / "Videos" / f"{group}DLC_net.csv"
    shutil.copy(pose, videos)
    said = use(
        f"predict {videos} --checkpoint {ran.model} --fps 30 --frame_size 64,48 --val_T 40",
        f"--out {tmp_path / 'p'}",
    )
    assert said.code == 0, said.err
    table = rows(tmp_path / "p" / f"{group}_predictions.csv")
    assert [row["Action"] for row in table] == [row["Action"] for row in judged]
    assert np.allclose(probabilities(table), probabilities(judged), atol=2e-6)


def test_annotations_can_be_read_again(train, use, tmp_path):
    ran = train("--max_steps 2 --lr 1e-2")
    out = tmp_path / "p"
    words = (
        f"predict {ran.home / 'Videos'} --checkpoint {ran.model} --format annotation table bouts --out {out}"
    )
    assert use(words).code == 0
    table = rows(out / "mouse_1_predictions.csv")
    labels = LabelMap.default()
    read = [read_labels(out / f"prediction_mouse_1.mp4_{trial}.csv", labels) for trial in (1, 2)]
    assert [found.rows for found in read] == [SLOT, SLOT]
    merged = np.concatenate([found.actions for found in read])
    assert [labels.names[action] for action in merged] == [row["Action"] for row in table]
    shares = probabilities(table)
    for bout in rows(out / "mouse_1_bouts.csv"):
        start, end = int(bout["start"]), int(bout["end"])
        column = labels.names.index(bout["label"])
        assert {row["Action"] for row in table[start:end]} == {bout["label"]}
        assert float(bout["mean_prob"]) == pytest.approx(shares[start:end, column].mean(), abs=1e-5)
        assert int(bout["trial"]) == start // SLOT + 1
    assert use(words, "--trial_frames 50").code == 0
    assert len(list(out.glob("prediction_mouse_1.mp4_*.csv"))) == 3


def test_a_marked_video_is_written(train, use, tmp_path):
    ran = train("--max_steps 1")
    shutil.copytree(ran.home / "Videos", tmp_path / "videos")
    for path in (tmp_path / "videos").glob("mouse_[234]*"):
        path.unlink()
    words = f"predict {tmp_path / 'videos'} --checkpoint {ran.model} --video --out {tmp_path / 'p'}"
    assert use(words).code == 0
    assert (tmp_path / "p" / "mouse_1_behaviour.mp4").stat().st_size > 1000


def test_without_a_name_results_go_beside_the_user(train, use, tmp_path, monkeypatch):
    ran = train("--max_steps 1")
    monkeypatch.chdir(ran.home)
    said = use("predict Videos --checkpoint best_model_multitask.pt")
    assert said.code == 0, said.err
    folder = ran.home / f"predictions_{(ran.home / 'Videos').resolve().name}"
    assert len(list(folder.glob("*_predictions.csv"))) == VIDEOS


def test_other_classes(train, use, files, tmp_path):
    ran = train(f"--label_map {files / 'map.yaml'} --max_steps 2")
    assert ran.code == 0, ran.err
    assert "  moving: " in ran.out
    assert ran.contents["classes"] == ["other", "moving"]
    assert load_checkpoint(ran.model).file.labels == LabelMap.load(files / "map.yaml")
    assert use(f"evaluate --checkpoint {ran.model} {folders(ran.home)} --out {tmp_path / 'e'}").code == 0
    out = tmp_path / "p"
    words = f"predict {ran.home / 'Videos'} --checkpoint {ran.model} --out {out}"
    assert use(words, "--format table annotation").code == 0
    assert {row["Action"] for row in rows(out / "mouse_2_predictions.csv")} <= {"other", "moving"}
    assert {row["Action"] for row in rows(out / "prediction_mouse_2.mp4_1.csv")} <= {"0", "1"}


def test_other_keypoints(train, use, tmp_path):
    ran = train(GENERIC, "--axis_points tail_base,mouth --max_steps 2")
    assert ran.code == 0, ran.err
    file = load_checkpoint(ran.model).file
    assert (file.kp_names, file.axis_points) == (("mouth", "tail_base", "l_frontpaw"), ("tail_base", "mouth"))
    assert ran.contents["model"]["pose_dim"] == 18
    said = use(f"predict {ran.home / 'Videos'} --checkpoint {ran.model} --out {tmp_path / 'p'}")
    assert said.code == 0, said.err


def test_other_names_of_keypoints_need_no_flag_after_training(train, use, files, tmp_path):
    words = f"--pose_dir {files / 'renamed'} --kp_alias muzzle=mouth --max_steps 1"
    ran = train(words)
    assert ran.code == 0, ran.err
    reading = ran.contents["reading"]
    assert reading["kp_aliases"] == {"muzzle": "mouth"}
    assert reading["trial_frames"] == SLOT
    pose = f"--pose_dir {files / 'renamed'}"
    said = use(f"evaluate --checkpoint {ran.model} {folders(ran.home)} {pose} --out {tmp_path / 'e'}")
    assert said.code == 0, said.err
    said = use(f"predict {ran.home / 'Videos'} {pose} --checkpoint {ran.model} --out {tmp_path / 'p'}")
    assert said.code == 0, said.err


def test_keypoints_without_videos(recordings, train, use, tmp_path):
    data = tmp_path / "tracked"
    shutil.copytree(recordings / "Annotations", data / "Annotations")
    (data / "Videos").mkdir()
    for path in (recordings / "Videos").iterdir():
        if path.suffix != ".mp4":
            shutil.copy(path, data / "Videos")
    ran = train("--lr 1e-2", data=data)
    assert ran.code == 0, ran.err
    assert "30 fps   64 x 48 px" in ran.out
    with_videos = train("--lr 1e-2")
    assert all(
        torch.equal(value, with_videos.contents["model_state_dict"][name])
        for name, value in ran.contents["model_state_dict"].items()
    )
    assert use(f"evaluate --checkpoint {ran.model} {folders(ran.home)} --out {tmp_path / 'e'}").code == 0


def test_videos_without_labels_serve_the_keypoint_task(recordings, train, tmp_path):
    data = tmp_path / "some"
    shutil.copytree(recordings / "Videos", data / "Videos")
    (data / "Annotations").mkdir()
    for path in (recordings / "Annotations").iterdir():
        if "mouse_4" not in path.name:
            shutil.copy(path, data / "Annotations")
    ran = train("--max_steps 1", data=data)
    assert "6 trials of 3 videos: train 4   valid 2   unlabelled 2" in ran.out
    assert "unlabelled 0" in train("--max_steps 1 --model_type action_only", data=data).out


def test_a_model_without_its_backbone_asks_for_it(train, use, files, tmp_path):
    weights = files / "tiny.pth"
    words = f"{VIDEO} --backbone_weights {weights} --unfreeze_blocks 0"
    ran = train(words, "--no-save_backbone --max_steps 1")
    assert ran.code == 0, ran.err
    whole = train(words, "--max_steps 1")
    predict = f"predict {ran.home / 'Videos'} --checkpoint {ran.model}"
    said = use(predict, "--out", tmp_path / "a")
    assert said.code == 2
    assert "was saved without its backbone: give --backbone_weights of tiny_cnn" in said.err
    assert use(predict, f"--backbone_weights {weights} --out", tmp_path / "a").code == 0
    assert use(f"predict {ran.home / 'Videos'} --checkpoint {whole.model} --out {tmp_path / 'b'}").code == 0
    for name in ("mouse_1", "mouse_4"):
        one, other = (tmp_path / folder / f"{name}_predictions.csv" for folder in "ab")
        assert one.read_text() == other.read_text()
    torch.save({k: v + 1 for k, v in torch.load(weights, weights_only=True).items()}, tmp_path / "other.pth")
    said = use(predict, f"--backbone_weights {tmp_path / 'other.pth'} --out", tmp_path / "c")
    assert "--backbone_weights holds other weights than those it was trained with" in said.err
    said = use(f"predict {ran.home / 'Videos'} --checkpoint {whole.model} --backbone_weights {weights}")
    assert "holds its backbone" in said.err


def test_checkpoints_that_cannot_be_used_are_named(train, use, files, tmp_path):
    ran = train("--max_steps 1")
    predict = f"predict {ran.home / 'Videos'} --out {tmp_path / 'p'} --checkpoint"
    whole = ran.contents
    for name, contents in {
        "schema": whole | {"schema": 7},
        "lacking": {key: value for key, value in whole.items() if key != "kp_names"},
        "sizes": whole | {"model": whole["model"] | {"hidden_dim": 16}},
        "foreign": {"weights": 1},
    }.items():
        torch.save(contents, tmp_path / f"{name}.pt")
    (tmp_path / "damaged.pt").write_bytes(ran.model.read_bytes()[:1000])
    for name, text in (
        ("schema", "schema 7, this version reads 1"),
        ("lacking", "'kp_names'"),
        ("sizes", "its weights do not fit its settings: behavior."),
        ("foreign", "is no model file of rodent_behavior"),
        ("damaged", "cannot be read"),
        ("nowhere", "no model file"),
    ):
        said = use(predict, tmp_path / f"{name}.pt")
        assert said.code == 2
        assert f"{name}.pt" in said.err
        assert text in said.err
        assert "Traceback" not in said.err
    words = f"evaluate --checkpoint {ran.model} {folders(ran.home)} --label_map {files / 'map.yaml'}"
    said = use(words)
    assert said.code == 2
    assert "--label_map has other, moving, but" in said.err
    assert "knows rest, paw_withdraw" in said.err


def test_an_absent_device_is_named(train, use, tmp_path):
    ran = train("--max_steps 1")
    for words in (f"predict {ran.home / 'Videos'}", f"evaluate {folders(ran.home)}"):
        said = use(words, f"--checkpoint {ran.model} --device cuda:99 --out {tmp_path / 'x'}")
        assert said.code == 2
        assert "--device: device 'cuda:99' is not there" in said.err


@pytest.mark.parametrize("words", ["--val_T 0", "--trial_frames 0", "--bootstrap -1"])
def test_numbers_out_of_range_are_named(words, train, use, tmp_path):
    ran = train("--max_steps 1")
    verb = f"evaluate {folders(ran.home)}" if "bootstrap" in words else f"predict {ran.home / 'Videos'}"
    said = use(verb, f"--checkpoint {ran.model} {words} --out {tmp_path / 'x'}")
    assert said.code == 2
    assert f"{words}: at least" in said.err


def test_frames_of_several_sizes(recordings, train, use, tmp_path):
    """Features in shares of the frame are those of each video's own frame, and not trained on a mixture."""
    data = tmp_path / "sizes"
    shutil.copytree(recordings, data, ignore=shutil.ignore_patterns("*.mp4", "runs"))
    meta = {"data": {"fps": 30.0, "frame_dimensions": (2 * HEIGHT, 2 * WIDTH), "nframes": 2 * SLOT}}
    (data / "Videos" / "mouse_2DLC_net_meta.pickle").write_bytes(pickle.dumps(meta))
    refused = train("--pose_features graph18", data=data)
    assert refused.code == 2
    assert "--pose_features graph18: videos of 64 x 48, 128 x 96 px" in refused.err
    assert train("--max_steps 1", data=data).code == 0
    ran = train("--pose_features graph18 --max_steps 1")
    words = f"--annotations {data / 'Annotations'} --videos {data / 'Videos'} --split all"
    assert use(f"evaluate --checkpoint {ran.model} {words} --out {tmp_path / 'e'}").code == 0
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    assert report["trials"] == 2 * VIDEOS


def test_the_trial_of_50_rows_is_judged_on_its_rows(train, use, tmp_path):
    ran = train("--max_steps 1")
    words = f"evaluate --checkpoint {ran.model} {folders(ran.home)} --split all --out {tmp_path}"
    assert use(words).code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert sum(row["support"] for row in report["classes"]) == (2 * VIDEOS - 1) * SLOT + SHORT
    assert use(words, "--min_frames 55").code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert sum(row["support"] for row in report["classes"]) == (2 * VIDEOS - 1) * SLOT
