import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import uav_landing
from uav_landing import mask_counts
from uav_landing.cli import analyze_main, main
from uav_landing.data.splits import SHIPPED
from uav_landing.labels import TABLES
from uav_landing.yaml_file import read_yaml

SCRIPTS = Path(uav_landing.__file__).parents[2] / "scripts"
SHAPE = (40, 50)
PIXELS = 2000
# fine ids of each mask with their pixels: void, grass, roof, car and person
MASKS = [
    {0: 10, 3: 1390, 9: 500, 17: 100},
    {3: 1500, 9: 400, 17: 100},
    {0: 10, 3: 1450, 9: 300, 15: 240},
    {3: 1660, 9: 300, 15: 40},
]
COUNTS = {0: 20, 1: 6000, 2: 1500, 3: 480}


def save_pair(root: Path, name: str, labels: np.ndarray) -> None:
    for folder, pixels in (
        ("original_images", np.zeros((*labels.shape[:2], 3))),
        ("label_images_semantic", labels),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(root / folder / f"{name}.png")


def ids_of(counts: dict[int, int]) -> np.ndarray:
    return np.repeat(list(counts), list(counts.values())).reshape(SHAPE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, counts in enumerate(MASKS):
        save_pair(tmp_path / "photos", f"{number:03d}", ids_of(counts))
    return tmp_path / "photos"


@pytest.fixture
def analyze(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run the analyzer on `root` without a plot; return (code, stdout, JSON content, stderr)."""

    def run(*flags: str, plot: bool = False, bootstrap: int = 20, data: Path = root):
        out = tmp_path / "out"
        quick = ["--bootstrap", str(bootstrap)] + ([] if plot else ["--no-plot"])
        code = analyze_main(["--dataset-path", str(data), "--output-dir", str(out), *quick, *flags])
        said = capsys.readouterr()
        path = out / "class_distribution.json"
        return code, said.out, json.loads(path.read_text()) if path.is_file() else None, said.err

    return run


def test_the_report_names_every_section_in_order(analyze):
    code, text, _, _ = analyze()
    assert code == 0
    headings = [
        "data     sdd",
        "4 of 4 files counted",
        "Original classes",
        "Mapped classes",
        "Imbalance ratio: 300.0:1 SEVERE (void included)",
        "Imbalance ratio: 12.5:1 HIGH (void excluded)",
        "Recommended class weights",
        "Void check",
        "Unmapped classes: all classes are mapped",
        "Summary",
        "Advice",
    ]
    places = [text.find(heading) for heading in headings]
    assert min(places) >= 0, dict(zip(headings, places))
    assert places == sorted(places)


def test_mapped_rows_and_summary_hold_the_hand_counted_numbers(analyze):
    _, text, _, _ = analyze()
    assert "Class 0 (background): 20 pixels (0.2500 %)   2 images" in text
    assert "Class 1 (safe landing): 6,000 pixels (75.0000 %)   4 images" in text
    assert "Class 3 (danger): 480 pixels (6.0000 %)   4 images" in text
    assert "Class 0 (background): very rare (< 1 %), 0.25 %" in text
    assert "Class 3 (danger): 6.00 %" in text
    assert "explicit handling is needed" in text


def test_original_classes_are_listed_by_frequency(analyze):
    _, text, content, _ = analyze()
    assert [row["id"] for row in content["original"]][:5] == [3, 9, 15, 17, 0]
    grass = content["original"][0]
    assert grass == {
        "id": 3,
        "name": "grass",
        "landing": 1,
        "pixels": 6000,
        "share": 0.75,
        "images": 4,
    }
    assert text.index("grass") < text.index("roof") < text.index("person") < text.index("car")
    assert "without a pixel: 1 paved-area" in text


def test_json_has_the_documented_keys_and_balanced_weights(analyze, root):
    _, _, content, _ = analyze()
    documented = (
        "dataset format split files_total files_used seed pixels original mapped ratio ratio_without_void "
        "weights void unmapped table_hash mapping_hash"
    )
    assert set(documented.split()) <= set(content)
    assert {"share_near_edge", "median_component", "verdict"} <= set(content["void"])
    assert content["dataset"] == str(root)
    assert (content["files_total"], content["files_used"], content["pixels"]) == (4, 4, 8000)
    assert [row["pixels"] for row in content["mapped"]] == list(COUNTS.values())
    assert content["table_hash"] == TABLES["sdd"].table_hash
    balanced = content["weights"]["balanced"]
    assert balanced["4"] == pytest.approx([8000 / (4 * count) for count in COUNTS.values()])
    assert balanced["3"] == pytest.approx([7980 / (3 * count) for count in (6000, 1500, 480)])
    for scheme in content["weights"].values():
        for key, counts in (("4", list(COUNTS.values())), ("3", [6000, 1500, 480])):
            assert np.dot(scheme[key], counts) / sum(counts) == pytest.approx(1)
    assert set(content["weights"]) == {
        "balanced",
        "balanced_capped",
        "sqrt",
        "log",
        "effective_number",
        "median_frequency",
        "enet_log",
    }


def test_csv_has_one_row_per_fine_id(analyze, tmp_path):
    analyze()
    with (tmp_path / "out" / "class_distribution.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "name", "landing", "pixels", "share", "images"]
    assert [int(row["id"]) for row in rows] == list(range(24))
    assert rows[15] == {
        "id": "15",
        "name": "person",
        "landing": "3",
        "pixels": "280",
        "share": "0.035",
        "images": "2",
    }


def test_the_picture_shows_two_charts_in_the_landing_colours(analyze, tmp_path):
    analyze(plot=True)
    with Image.open(tmp_path / "out" / "class_distribution_analysis.png") as picture:
        assert min(picture.info["dpi"]) >= 150
        assert picture.width >= 1200
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for color in ((0, 170, 0), (240, 200, 0), (220, 0, 0), (128, 128, 128)):
        assert (pixels == color).all(axis=1).sum() > 300, color


def test_each_file_can_be_left_out_or_placed_elsewhere(analyze, tmp_path):
    elsewhere = tmp_path / "a" / "b.csv"
    code, text, content, _ = analyze("--no-json", "--csv", str(elsewhere), "--plot", "p.svg", plot=True)
    assert code == 0
    assert content is None
    assert elsewhere.is_file()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p.svg"]
    assert text.count("written") == 2
    assert analyze("--plot", "p.bmp", plot=True)[0] == 2


def test_no_file_at_all_is_possible(analyze, tmp_path):
    code, text, _, _ = analyze("--no-json", "--no-csv")
    assert code == 0
    assert "written" not in text
    assert not (tmp_path / "out").exists()


def test_samples_are_the_first_or_a_seeded_draw(analyze):
    first = analyze("--samples", "2", "--sample-order", "first")[2]
    assert first["files_used"] == 2
    assert [row["pixels"] for row in first["mapped"]] == [10, 2890, 900, 200]

    def drawn(seed: int) -> int:
        return analyze("--samples", "1", "--seed", str(seed), bootstrap=0)[2]["mapped"][1]["pixels"]

    assert drawn(3) == drawn(3)
    assert {drawn(seed) for seed in range(12)} == {1390, 1500, 1450, 1660}


def test_more_samples_than_files_counts_all_and_says_so(analyze):
    _, text, content, _ = analyze("--samples", "9")
    assert content["files_used"] == 4
    assert "--samples 9: there are 4 files, all are counted" in text


def test_a_split_is_counted_alone(analyze, tmp_path):
    split = tmp_path / "split.yaml"
    split.write_text("train: ['000', '003']\nval: ['001']\ntest: ['002']\n")
    chosen = ("--split-mode", "file", "--split-file", str(split))
    _, text, content, _ = analyze(*chosen, "--split", "train")
    assert "2 of 4 files counted" in text
    assert "weights for training must come from" not in text
    assert content["split"] == "train"
    assert [row["pixels"] for row in content["mapped"]] == [10, 3050, 800, 140]
    assert analyze(*chosen, "--split", "test")[2]["pixels"] == PIXELS


def test_the_default_split_is_random_by_its_seed_and_warns(analyze):
    def trained(*flags: str) -> list[int]:
        _, text, content, _ = analyze("--split", "train", *flags, bootstrap=0)
        assert "random split of overlapping photos leaks scenes" in text
        assert content["files_used"] == 2
        return [row["pixels"] for row in content["mapped"]]

    assert trained() == trained("--split-seed", "42")
    assert len({tuple(trained("--split-seed", str(seed))) for seed in range(6)}) > 1


def test_all_says_where_training_weights_come_from(analyze):
    assert "weights for training must come from the train split" in analyze()[1]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--split-mode", "auto"], "--split-mode has no effect because --split is all"),
        (["--split-seed", "1"], "--split-seed has no effect"),
        (["--sample-order", "first"], "--sample-order has no effect because --samples 0"),
        (["--seed", "1", "--bootstrap", "0"], "--seed has no effect"),
        (["--output-dir", "x", "--no-json", "--no-csv"], "--output-dir has no effect"),
    ],
)
def test_flags_that_cannot_act_are_named(root, tmp_path, monkeypatch, caplog, flags, reason):
    monkeypatch.chdir(tmp_path)
    argv = ["--dataset-path", str(root), "--no-plot", *flags]
    assert analyze_main(argv if "--bootstrap" in flags else [*argv, "--bootstrap", "2"]) == 0
    assert reason in caplog.text


@pytest.mark.parametrize("flags", [["--samples", "-1"], ["--bootstrap", "-1"], ["--workers", "-1"]])
def test_negative_numbers_are_refused(analyze, flags):
    code, _, _, error = analyze(*flags)
    assert code == 2
    assert flags[0] in error


def test_unknown_ids_are_reported_or_stop(analyze, root):
    labels = ids_of(MASKS[0])
    labels[0, :7] = 77
    save_pair(root, "000", labels)
    code, text, content, _ = analyze()
    assert code == 0
    assert "Unmapped classes: 1 values outside table sdd, 7 pixels (0.0875 %)" in text
    assert "id 77: 7 pixels (0.0875 %) in 000.png" in text
    assert content["unmapped"] == [
        {"value": 77, "pixels": 7, "share": 7 / 8000, "files": ["label_images_semantic/000.png"]}
    ]
    assert sum(row["pixels"] for row in content["mapped"]) == 8000 - 7
    code, text, _, error = analyze("--unknown-labels", "error")
    assert code == 2
    assert "id 77: 7 pixels" in error


def test_unknown_colours_are_matched_within_the_tolerance(analyze, root):
    colors = np.array([TABLES["sdd"].palette()[value] for value in ids_of(MASKS[1]).ravel()])
    colors[:5] += 2
    save_pair(root, "001", colors.reshape(*SHAPE, 3))
    content = analyze()[2]
    assert content["unmapped_pixels"] == 5
    assert content["unmapped"][0]["value"] == [2, 104, 2]
    assert analyze("--color-tolerance", "2")[2]["unmapped"] == []


def test_a_mapping_changes_the_mapped_classes_only(analyze, tmp_path):
    mapping = {item.id: item.landing for item in TABLES["sdd"].classes} | {9: 3}
    path = tmp_path / "mapping.yaml"
    path.write_text(json.dumps(mapping).replace('"', ""))
    content = analyze("--mapping", str(path))[2]
    assert [row["pixels"] for row in content["mapped"]] == [20, 6000, 0, 1980]
    assert content["mapping_hash"] != TABLES["sdd"].mapping_hash
    assert content["table_hash"] == TABLES["sdd"].table_hash


def test_a_class_without_pixels_has_no_weight(analyze, root):
    for number in range(4):
        save_pair(root, f"{number:03d}", ids_of({0: 200, 3: 1800}))
    _, text, content, _ = analyze()
    assert "Class 3 (danger): NO SAMPLES" in text
    assert "n/a (no pixels)" in text
    assert content["weights"]["balanced"]["4"] == [pytest.approx(5), pytest.approx(10 / 18), None, None]
    assert content["weights"]["balanced"]["ci95"]["4"][3] == [None, None]
    assert content["ratio_without_void"] is None


def test_void_alone_has_no_three_class_weights(analyze, root):
    for number in range(4):
        save_pair(root, f"{number:03d}", np.zeros(SHAPE))
    code, text, content, _ = analyze("--void", "ignore")
    assert code == 0
    assert content["weights"]["balanced"]["3"] is None
    assert "no pixel has class 1, 2 or 3" in text


def test_masks_without_any_known_label_are_an_error(analyze, root):
    for number in range(4):
        save_pair(root, f"{number:03d}", np.full(SHAPE, 99))
    code, _, _, error = analyze()
    assert code == 2
    assert "id 99: 8000 pixels" in error


def test_classes_that_the_table_always_ignores_are_counted_apart(analyze, root):
    for number in range(4):
        save_pair(root, f"{number:03d}", ids_of({0: 500, 1: 500, 3: 500, 5: 500}))
    _, text, content, _ = analyze("--label-table", "dronedeploy")
    assert content["ignored_pixels"] == 2000
    assert [row["pixels"] for row in content["mapped"]] == [0, 2000, 2000, 2000]
    assert "never counted: 2,000 pixels" in text
    assert content["void"]["verdict"] == "none"


def test_void_ignore_shows_three_weights_and_writes_both(analyze):
    _, four, first, _ = analyze()
    _, three, second, _ = analyze("--void", "ignore")
    assert first["weights"] == second["weights"]
    line = next(line for line in four.splitlines() if line.startswith("  balanced "))
    assert line.split()[1] == "100.0000"
    line = next(line for line in three.splitlines() if line.startswith("  balanced "))
    assert line.split()[1] == "0.4433"
    assert "100.0000" not in three


def test_weights_far_from_the_documented_ones_are_named(analyze):
    text = analyze()[1]
    assert "--class-weights guide is more than 2x off" in text
    assert "class 3 1.411 against 4.1667" in text
    assert "class 0 89.74 against" not in text


def test_effective_numbers_saturate_at_pixel_counts(tmp_path, capsys):
    for number in range(2):
        labels = np.full((1000, 1000), 3)
        labels[:500] = 9
        labels[:, :100] = 17
        save_pair(tmp_path, f"{number}", labels)
    quick = ["--bootstrap", "0", "--no-plot", "--no-json", "--no-csv"]
    assert analyze_main(["--dataset-path", str(tmp_path), *quick]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("no effect at these counts")] == [
        "effective_number"
    ]


def test_bootstrap_off_leaves_no_interval(analyze):
    _, text, content, _ = analyze(bootstrap=0)
    assert content["weights"]["sqrt"]["ci95"] == {"4": None, "3": None}
    assert content["mapped"][0]["ci95"] is None
    assert "no intervals" in text
    assert "[" not in text


def test_intervals_hold_the_estimate_and_follow_the_seed(analyze):
    first = analyze(bootstrap=200)[2]
    for estimate, (low, high) in zip(
        first["weights"]["sqrt"]["3"], first["weights"]["sqrt"]["ci95"]["3"], strict=True
    ):
        assert low <= estimate <= high
        assert low < high
    assert analyze(bootstrap=200)[2] == first
    other = analyze("--seed", "7", bootstrap=200)[2]
    assert other["weights"]["sqrt"]["ci95"] != first["weights"]["sqrt"]["ci95"]
    assert other["weights"]["sqrt"]["4"] == first["weights"]["sqrt"]["4"]


def test_one_photo_has_no_interval(analyze):
    content = analyze("--samples", "1")[2]
    assert content["weights"]["balanced"]["ci95"] == {"4": None, "3": None}


def test_workers_do_not_change_the_result(analyze, monkeypatch, tmp_path):
    path = tmp_path / "out" / "class_distribution.json"
    analyze("--workers", "0")
    alone = path.read_bytes()
    monkeypatch.setattr(mask_counts, "PIXELS_PER_PROCESS", 1)
    assert analyze("--workers", "2")[0] == 0
    assert path.read_bytes() == alone


def test_a_bad_mask_in_a_worker_is_named(analyze, monkeypatch, root):
    monkeypatch.setattr(mask_counts, "PIXELS_PER_PROCESS", 1)
    mask = root / "label_images_semantic" / "002.png"
    mask.write_bytes(mask.read_bytes()[:60])
    code, _, _, error = analyze("--workers", "2")
    assert code == 2
    assert str(mask) in error


def test_photos_are_not_decoded(analyze, root):
    photo = root / "original_images" / "001.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)).save(photo)
    photo.write_bytes(photo.read_bytes()[:200])
    assert analyze()[0] == 0


def test_a_mask_of_another_size_is_an_error(analyze, root):
    mask = root / "label_images_semantic" / "001.png"
    Image.fromarray(np.zeros((20, 50), dtype=np.uint8)).save(mask)
    code, _, _, error = analyze()
    assert code == 2
    assert "40 x 50" in error
    assert "20 x 50" in error


def test_a_missing_data_set_tells_how_to_go_on(tmp_path, capsys):
    code = main(["analyze", "--dataset-path", str(tmp_path / "absent")])
    error = capsys.readouterr().err
    assert code == 2
    assert str(tmp_path / "absent") in error
    assert "original_images/" in error
    assert "--dataset-format synthetic" in error


def test_a_folder_that_cannot_be_written_is_named(root, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code = analyze_main(
        ["--dataset-path", str(root), "--output-dir", str(tmp_path / "file"), "--no-plot", "--bootstrap", "0"]
    )
    assert code == 2
    assert f"--json {tmp_path / 'file' / 'class_distribution.json'}" in capsys.readouterr().err


def test_without_matplotlib_the_extra_is_named_unless_no_plot(analyze, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, _, error = analyze(plot=True)
    assert code == 2
    assert "imbalance-common[report]" in error
    assert "--no-plot" in error
    assert analyze()[0] == 0


def test_generated_scenes_show_seam_and_imbalance(analyze, tmp_path):
    code, text, content, _ = analyze("--dataset-format", "synthetic", data=tmp_path / "scenes")
    assert code == 0
    assert content["format"] == "synthetic"
    assert content["files_used"] == 12
    assert content["ratio"] > 150
    assert content["void"]["verdict"] == "seam"
    assert "use --void ignore" in text
    shares = [100 * row["share"] for row in content["mapped"]]
    assert shares == pytest.approx([0.3, 63, 19, 18], abs=4)


def test_the_documented_script_runs_without_flags(root, tmp_path):
    command = [sys.executable, str(SCRIPTS / "analyze_class_distribution.py")]
    environment = {**os.environ, "UAV_LANDING_DATASET": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Recommended class weights" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "photos",
        "class_distribution.json",
        "class_distribution.csv",
        "class_distribution_analysis.png",
    }


def test_counting_needs_no_torch():
    code = "import sys, uav_landing.analyze; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_semantic_drone_photos_give_the_known_numbers(analyze, real_data):
    _, text, content, _ = analyze(data=real_data / "sdd", bootstrap=2000)
    assert content["pixels"] == 34_938_880
    assert [row["pixels"] for row in content["mapped"]] == [53_561, 21_480_121, 6_718_033, 6_687_165]
    shares = [100 * row["share"] for row in content["mapped"]]
    assert shares == pytest.approx([0.1533, 61.4791, 19.2280, 19.1396], abs=5e-5)
    assert content["ratio"] == pytest.approx(401.0, abs=0.05)
    assert content["ratio_without_void"] == pytest.approx(3.212, abs=5e-4)
    balanced = content["weights"]["balanced"]
    assert balanced["4"] == pytest.approx([163.0799, 0.4066, 1.3002, 1.3062], abs=5e-5)
    assert balanced["3"] == pytest.approx([0.5414, 1.7309, 1.7389], abs=5e-5)
    known = [(117.6, 243.5), (0.365, 0.455), (0.979, 1.829), (1.074, 1.683)]
    for interval, expected in zip(balanced["ci95"]["4"], known, strict=True):
        assert interval == pytest.approx(expected, rel=0.05)
    void = content["void"]
    assert (void["images"], void["components"], void["verdict"]) == (30, 2451, "seam")
    assert void["share_near_edge"] == pytest.approx(0.9916, abs=0.002)
    assert void["share_near_edge_by_image"] == pytest.approx(0.9955, abs=0.002)
    assert (void["median_component"], void["median_component_by_image"]) == (1, 4.5)
    assert {row["id"] for row in content["original"] if not row["pixels"]} == {12, 23}
    assert "Imbalance ratio: 401.0:1 SEVERE" in text
    assert "training on it with weight 163.1 multiplies label noise; use --void ignore" in text


@pytest.mark.parametrize(
    ("split", "pixels"),
    [
        ("train", [33_192, 12_735_030, 3_857_154, 4_119_584]),
        ("val", [8_635, 4_722_303, 1_364_139, 455_963]),
        ("test", [11_734, 4_022_788, 1_496_740, 2_111_618]),
    ],
)
def test_the_shipped_split_gives_the_known_pixels(analyze, real_data, split, pixels):
    flags = ("--split", split, "--split-mode", "file", "--split-file", "sdd32")
    content = analyze(*flags, data=real_data / "sdd", bootstrap=0)[2]
    assert [row["pixels"] for row in content["mapped"]] == pixels
    assert content["files_used"] == len(read_yaml(SHIPPED / "sdd32.yaml")[split])


def test_aeroscapes_frames_give_the_known_numbers(analyze, real_data):
    content = analyze(data=real_data / "aeroscapes", bootstrap=0)[2]
    assert [row["pixels"] for row in content["mapped"]] == [122_768, 2_873_558, 6_190_055, 29_619]
    expected = [18.7671, 0.8018, 0.3722, 77.7879]
    assert content["weights"]["balanced"]["4"] == pytest.approx(expected, abs=5e-5)
    assert content["void"]["verdict"] == "area"
