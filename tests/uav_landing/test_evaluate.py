"""The verb `evaluate`, from its command line to its files."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import confusion_matrix, jaccard_score

from common.engine.checkpoint import Checkpoint, save_checkpoint
from uav_landing.cli import main
from uav_landing.data.dataset import normalise
from uav_landing.data.masks import load_photo
from uav_landing.labels import TABLES
from uav_landing.rebuild import load_trained

QUICK = ("--tile-overlap", "0", "--bootstrap", "50", "--no-html")
Evaluate = Callable[..., dict]


@pytest.fixture
def evaluate(run_folder: Path, tmp_path: Path) -> Evaluate:
    """Run the verb with short settings and return the JSON file."""

    def run(*words: str, checkpoint: Path = run_folder, code: int = 0) -> dict:
        target = tmp_path / "result.json"
        argv = ["evaluate", "--checkpoint", str(checkpoint), *QUICK, "--json", str(target), *words]
        assert main(argv) == code
        return json.loads(target.read_text()) if code == 0 else {}

    return run


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["evaluate", *words]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    return text


def copied(root: Path, target: Path) -> Path:
    """Return a copy of the scenes."""
    return Path(shutil.copytree(root, target))


@pytest.fixture(scope="module")
def default_run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run folder, evaluated on all photos with the default files."""
    folder = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("evaluated") / "run-0009"))
    argv = ["evaluate", "--checkpoint", str(folder), "--split", "all", "--tile-overlap", "0"]
    assert main(argv) == 0
    return folder


def test_matrix_and_metrics_equal_scikit_learn(default_run: Path, three_scenes: Path) -> None:
    result = json.loads((default_run / "evaluation.json").read_text())
    predictor = load_trained(default_run).predictor(device=torch.device("cpu"), overlap=0.0, batch=1)
    truths, predictions = [], []
    for stem in ("000", "001", "002"):
        image = load_photo(three_scenes / "original_images" / f"{stem}.jpg")
        fine = cv2.imread(str(three_scenes / "label_images_semantic" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE)
        truth, prediction = TABLES["sdd"].lookup()[fine], predictor(normalise(image)).argmax(0).numpy() + 1
        truths.append(truth[truth > 0])
        predictions.append(prediction[truth > 0])
    truth, prediction = np.concatenate(truths), np.concatenate(predictions)
    expected = confusion_matrix(truth, prediction, labels=range(4))
    np.testing.assert_array_equal(result["confusion"], expected)
    metrics = {name: entry["value"] for name, entry in result["metrics"].items()}
    assert metrics["miou"] == pytest.approx(jaccard_score(truth, prediction, average="macro"))
    assert metrics["danger_as_safe"] == pytest.approx((prediction[truth == 3] == 1).mean())
    assert [row["id"] for row in result["photos"]] == ["000", "001", "002"]


def test_json_holds_what_a_reader_needs(default_run: Path) -> None:
    result = json.loads((default_run / "evaluation.json").read_text())
    assert result["checkpoint"]["step"] == 7
    assert result["checkpoint"]["path"].endswith("step-00000007")
    assert len(result["checkpoint"]["sha256"]) == 64
    assert result["split"]["name"] == "all"
    assert result["groups"] == 3
    assert result["settings"]["tile"] == [256, 256]
    assert set(result["versions"]) >= {"torch", "numpy", "python"}
    metrics = result["metrics"]
    assert metrics["class_0_iou"] == {"value": None, "low": None, "high": None}
    for name in ("danger_as_safe", "miou_tolerant3", "class_3_iou", "recall_person", "recall_person_objects"):
        low, value, high = (metrics[name][key] for key in ("low", "value", "high"))
        assert low <= value <= high
    person = next(row for row in result["fine"] if row["name"] == "person")
    assert person["objects"] > 0
    assert metrics["recall_person"]["value"] == person["Pixels"]["value"]


def test_report_is_one_page_with_the_worst_photos(default_run: Path) -> None:
    text = (default_run / "evaluation.html").read_text()
    assert text.count("No number here is evidence of airworthiness.") == 1
    assert text.count("data:image/jpeg;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    for words in ("Evaluation of run-0009", "danger_as_safe", "person (", "trained this checkpoint"):
        assert words in text
    assert "Training run" not in text


def test_console_numbers_are_those_of_the_matrix(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate("--split", "test")
    text = capsys.readouterr().out
    matrix = np.array(result["confusion"])
    assert text.count("No number here is evidence of airworthiness.") == 1
    assert "Class 0: IoU=n/a, Acc=n/a (void, ignored)" in text
    for c in (1, 2, 3):
        union = matrix[c].sum() + matrix[:, c].sum() - matrix[c, c]
        iou, accuracy = matrix[c, c] / union, matrix[c, c] / matrix[c].sum()
        assert f"Class {c}: IoU={iou:.3f}, Acc={accuracy:.3f}\n" in text
        assert re.search(rf"^{c} .* {matrix[c].sum():,} +{iou:.3f}", text, re.MULTILINE)
    headline = re.search(r"^danger_as_safe +(\S+)", text, re.MULTILINE)
    assert headline is not None
    assert headline[1] == f"{matrix[3, 1] / matrix[3].sum():.3f}"
    assert text.index("danger_as_safe") < text.index("miou_landing")
    for row in result["fine"]:
        assert re.search(
            rf"^{row['name']} +{row['support']:,} +{row['Pixels']['value']:.3f} ", text, re.MULTILINE
        )
    assert "no intervals: they need at least 2 groups" in text
    assert "trained this checkpoint" not in text


def test_photos_of_the_training_run_are_pointed_out(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [photo["id"] for photo in evaluate()["photos"]] == ["001"]
    text = capsys.readouterr().out
    assert "1 of 1 photos chose this checkpoint" in text
    assert "trained this checkpoint" not in text
    assert [photo["id"] for photo in evaluate("--split", "train")["photos"]] == ["000"]
    assert "1 of 1 photos trained this checkpoint" in capsys.readouterr().out


def test_another_split_file_and_groups(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, groups = tmp_path / "other.yaml", tmp_path / "groups.yaml"
    split.write_text('{train: ["002"], val: ["000", "001"]}')
    groups.write_text('{house: ["000", "001"]}')
    result = evaluate("--split-mode", "file", "--split-file", str(split), "--groups", str(groups))
    assert [(photo["id"], photo["group"]) for photo in result["photos"]] == [
        ("000", "house"),
        ("001", "house"),
    ]
    assert result["groups"] == 1
    assert result["metrics"]["miou"]["low"] is None
    assert "1 of 2 photos trained this checkpoint" in capsys.readouterr().out


def test_overlap_and_flips_change_the_prediction(evaluate: Evaluate) -> None:
    plain = evaluate("--split", "test")["confusion"]
    assert evaluate("--split", "test", "--tile-overlap", "0.25")["confusion"] != plain
    assert evaluate("--split", "test", "--tta")["confusion"] != plain
    assert evaluate("--split", "test", "--tile-batch", "1")["confusion"] == plain


def test_void_as_an_output_is_counted(
    evaluate: Evaluate, save_run: Callable[..., Path], tmp_path: Path
) -> None:
    result = evaluate("--split", "test", checkpoint=save_run(tmp_path / "run-0002", void="train"))
    assert sum(result["confusion"][0]) > 0
    assert result["metrics"]["class_0_support"]["value"] == sum(result["confusion"][0])
    assert [row["id"] for row in result["classes"]] == [0, 1, 2, 3]


def test_mapping_of_training_is_used_and_another_one_refused(
    run_folder: Path, evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = {item.id: item.landing for item in TABLES["sdd"].classes}
    path = tmp_path / "mapping.yaml"
    path.write_text(yaml.safe_dump({**mapping, 9: 3}))
    text = refused(["--checkpoint", str(run_folder), "--mapping", str(path)], capsys)
    assert "mapping_hash" in text
    assert "table_hash" not in text
    result = evaluate("--split", "test", "--mapping", str(path), "--foreign")
    assert "roof" in {row["name"] for row in result["fine"]}


def test_another_label_table_is_refused(
    run_folder: Path, tmp_path: Path, three_scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": item.id, "name": item.name, "rgb": list(item.rgb), "landing": item.landing}
        for item in TABLES["sdd"].classes
    ]
    rows[2]["name"], rows[4]["name"] = "gravel", "dirt"
    path = tmp_path / "swapped.yaml"
    path.write_text(yaml.safe_dump(rows))
    text = refused(["--checkpoint", str(run_folder), "--label-table", str(path)], capsys)
    assert "table_hash" in text
    assert "swapped" in text


def test_moved_data_set_is_found_by_path_and_differences_are_said(
    evaluate: Evaluate, three_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = copied(three_scenes, tmp_path / "moved" / "photos")
    same = evaluate("--split", "test")
    assert evaluate("--split", "test", "--dataset-path", str(moved))["confusion"] == same["confusion"]
    assert "data_fingerprint" not in capsys.readouterr().out
    mask = moved / "label_images_semantic" / "002.png"
    cv2.imwrite(str(mask), np.full_like(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE), 17))
    changed = evaluate("--split", "test", "--dataset-path", str(moved))
    assert "data_fingerprint" in capsys.readouterr().out
    assert sum(changed["confusion"][3]) == 320 * 480


def test_photo_of_the_split_that_is_gone_is_named(
    run_folder: Path, three_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = copied(three_scenes, tmp_path / "smaller" / "photos")
    (smaller / "original_images" / "001.jpg").unlink()
    (smaller / "label_images_semantic" / "001.png").unlink()
    text = refused(["--checkpoint", str(run_folder), "--dataset-path", str(smaller)], capsys)
    assert "001" in text
    assert "--split all" in text


def test_damaged_checkpoint_is_refused_and_an_older_good_one_used_with_a_warning(
    save_run: Callable[..., Path], evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_run(tmp_path / "run-0003", step=4)
    save_run(folder, step=8)
    weights = folder / "checkpoints" / "step-00000008" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert evaluate("--split", "test", checkpoint=folder)["checkpoint"]["step"] == 4
    assert "BAD sha256" in capsys.readouterr().out
    shutil.rmtree(folder / "checkpoints" / "step-00000004")
    assert "no good checkpoint" in refused(["--checkpoint", str(folder)], capsys)


def test_checkpoint_of_another_application_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Checkpoint(
        step=1, epoch=1, headline=None, model={}, state={}, config="", metadata={"application": "other"}
    )
    save_checkpoint(tmp_path / "checkpoints", other, best=True)
    assert "trained by other" in refused(["--checkpoint", str(tmp_path)], capsys)
    assert "nowhere" in refused(["--checkpoint", str(tmp_path / "nowhere")], capsys)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--tile-overlap", "0.95"], "--tile-overlap"),
        (["--tile-batch", "0"], "--tile-batch"),
        (["--bootstrap", "-1"], "--bootstrap"),
        (["--split-mode", "file"], "--split-file"),
        (["--split-file", "sdd32"], "--split-mode"),
        (["--device", "cuda:99"], "--device"),
        (["--store-scale", "2"], "--store-scale"),
    ],
)
def test_settings_are_checked(
    words: list[str], named: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named in refused(["--checkpoint", str(run_folder), *words], capsys)
