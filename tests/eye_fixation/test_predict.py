"""From a user's CSV to densities, points and files, and what is said when it cannot be."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eye_files import walk_rows, write_csv
from PIL import Image, ImageSequence
from torch import Tensor, nn

from common.config import run_main
from eye_fixation import predict
from eye_fixation.data.contract import Metadata
from eye_fixation.geometry import Geometry
from eye_fixation.predict_config import PredictConfig
from eye_fixation.prediction import (
    Screen,
    argmax_point,
    draw,
    entropy_bits,
    region_area,
)
from eye_fixation.predictor import ModelFile, Predictor, write_model
from eye_fixation.simvp import SimVP, SimVPConfig

SIZE = 8
SCREEN = "--screen-px 800 400"
Said = tuple[int, str, str]
Run = Callable[..., Said]


def model(folder: Path, in_len: int = 4, out_len: int = 4, **metadata: Any) -> Path:
    """Write a network of random weights for 8 x 8 cells, trained on another screen, and return its folder."""
    torch.manual_seed(0)
    config = SimVPConfig(
        in_shape=(in_len, 1, SIZE, SIZE), out_len=out_len, hid_S=4, hid_T=8, N_S=2, N_T=2, skip="last"
    )
    known = {"img_size": SIZE, "rate_hz": 10.0, "geometry": Geometry((1024.0, 768.0)), "source_name": "lab"}
    file = ModelFile(
        model=config,
        loss="softmax_ce",
        kind="categorical",
        metadata=Metadata(**(known | metadata)),
        sha256={},
    )
    write_model(folder / "model.pt", file, SimVP(config).state_dict())
    return folder


class Echo(nn.Module):
    """Says that each output frame is its input frame."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(30.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every model file hold `Echo`."""
    load = Predictor.load

    def loaded(path: Path, *, device: torch.device) -> Predictor:
        found = load(path, device=device)
        return Predictor(found.file, Echo(), found.path, device)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "load", loaded)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `eye-fixation predict` with a model of `tmp_path/model` unless words say otherwise."""

    def start(file: Path, *words: object, out: str = "out/found.npz", checkpoint: Path | None = None) -> Said:
        given = checkpoint or model(tmp_path / "model")
        argv = [
            "--checkpoint",
            str(given),
            "--input",
            str(file),
            "--out",
            str(tmp_path / out),
            "--device",
            "cpu",
        ]
        argv += [part for word in words for part in str(word).split()]
        capfd.readouterr()
        code = run_main("eye_fixation.predict:main", PredictConfig, argv, prog="eye-fixation predict")
        return (code, *capfd.readouterr())

    return start


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as held:
        return dict(held)


def walk(path: Path, seconds: float = 2.0, separator: str = ",") -> Path:
    return write_csv(path, "t,x,y", walk_rows(seconds), separator)


def test_files_of_a_recording(run: Run, tmp_path: Path) -> None:
    code, out, err = run(walk(tmp_path / "gaze.csv"), SCREEN, "--samples 3 --every 2")
    assert (code, err) == (0, "")
    assert "1 recordings  9 windows  4 -> 4 frames at 10 Hz" in out
    assert "softmax_ce  trained on lab  unknown" in out
    assert f"written  {tmp_path / 'out' / 'found.npz'}" in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["found.npz"]
    held = arrays(tmp_path / "out" / "found.npz")
    assert held["recording"].tolist() == ["gaze"] * 9
    assert held["horizon"].tolist() == [1, 2, 3, 4]
    assert held["density"].shape == (9, 4, SIZE, SIZE)
    assert held["density"].dtype == np.float32
    np.testing.assert_allclose(held["density"].sum((2, 3)), 1, rtol=1e-5)
    # Frame k lasts from k / 10 to (k + 1) / 10 s; window n shows frames 2 n to 2 n + 3.
    np.testing.assert_allclose(held["time_s"][0], [0.45, 0.55, 0.65, 0.75])
    np.testing.assert_allclose(held["time_s"][8], held["time_s"][0] + 1.6)
    np.testing.assert_allclose(held["max_mass"], held["density"].max((2, 3)))
    assert held["marginal_samples"].shape == (9, 4, 3, 2)
    about = json.loads(str(held["about"]))
    assert about["marginal_samples"] == "each horizon drawn from its own density; not joint paths"
    assert (about["units"], about["rate_hz"], about["every"], about["loss"]) == ("px", 10.0, 2, "softmax_ce")


def test_densities_are_those_of_the_predictor(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "CHUNK", 5)
    rows = walk_rows(2)
    run(walk(tmp_path / "gaze.csv"), SCREEN)
    held = arrays(tmp_path / "out" / "found.npz")
    # At 100 Hz the middle of frame k is sample 10 k + 5.
    cells = np.array([row[1:] for row in rows])[5::10] / [800, 400] * SIZE
    windows = torch.tensor(np.stack([cells[start : start + 4] for start in range(17)]))
    predictor = Predictor.load(tmp_path / "model")
    np.testing.assert_allclose(held["density"], predictor.predict(windows), rtol=1e-4, atol=1e-7)
    expected = predictor.points(windows).numpy() / SIZE * [800, 400]
    np.testing.assert_allclose(held["mean"], expected, rtol=1e-4)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_separators_change_nothing(run: Run, tmp_path: Path, separator: str) -> None:
    for name, mark in (("comma", ","), ("other", separator)):
        assert run(walk(tmp_path / "gaze.csv", separator=mark), SCREEN, out=f"{name}.npz")[0] == 0
    first, second = (arrays(tmp_path / f"{name}.npz") for name in ("comma", "other"))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("words", "to_units"),
    [
        ("--units px --screen-px 1000 400", lambda x, y: (1000 * x, 400 * y)),
        ("--units px --screen-px 1000 400 --origin bottom-left", lambda x, y: (1000 * x, 400 * (1 - y))),
        ("--units px --screen-px 1000 400 --origin center", lambda x, y: (1000 * (x - 0.5), 400 * (y - 0.5))),
        ("--units norm", lambda x, y: (x, y)),
        ("--units deg --screen-mm 500 200 --distance-mm 600", lambda x, y: (
            np.degrees(np.arctan((x - 0.5) * 500 / 600)), np.degrees(np.arctan((y - 0.5) * 200 / 600)))),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("echo")
def test_an_asymmetric_path_comes_back_in_its_own_units(
    run: Run, tmp_path: Path, words: str, to_units: Callable[..., Any]
) -> None:
    """On a screen that is not square, a model that repeats its input gives the gaze of the frame back."""
    x = np.array([0.92, 0.55, 0.07, 0.30, 0.70, 0.81, 0.44, 0.19])
    y = np.array([0.04, 0.20, 0.33, 0.90, 0.61, 0.08, 0.71, 0.52])
    gaze = np.stack(to_units(x, y), 1)
    rows = [[0.1 * k + 0.05, *gaze[k]] for k in range(8)]
    assert run(write_csv(tmp_path / "g.csv", "t,x,y", rows), words)[0] == 0
    held = arrays(tmp_path / "out" / "found.npz")
    assert len(held["argmax"]) == 5
    for window in range(5):
        for horizon in range(4):
            frame = window + horizon
            column, row = int(x[frame] * SIZE), int(y[frame] * SIZE)
            assert held["density"][window, horizon].argmax() == row * SIZE + column
            centre = to_units((column + 0.5) / SIZE, (row + 0.5) / SIZE)
            np.testing.assert_allclose(held["argmax"][window, horizon], centre, atol=1e-9)
            np.testing.assert_allclose(held["mean"][window, horizon], centre, atol=1e-3)
    assert held["max_mass"].min() > 0.999
    assert (held["area_90_cells"] == 1).all()


@pytest.mark.usefixtures("echo")
def test_gaps_and_two_recordings(run: Run, tmp_path: Path) -> None:
    """Recordings keep their clocks; a window needs one frame with gaze; lost frames are empty."""
    first = [[0.1 * k, 100 * k + 50, 50, "a", int(not 3 <= k <= 6)] for k in range(9)]
    second = [[1000 + 0.1 * k, 250, 350, "b", 1] for k in (0, 1, 2, 3, 7, 8)]
    short = [[0.1 * k, 250, 350, "late", 1] for k in range(2)]
    rows = [row for pair in zip(second, first, strict=False) for row in pair] + first[6:] + short
    file = write_csv(tmp_path / "two.csv", "t,x,y,recording,valid", rows)
    code, out, _ = run(file, SCREEN)
    assert code == 0
    assert "3 recordings  11 windows" in out
    assert "skipped  1 windows without a valid frame" in out
    assert "skipped  recordings shorter than 4 frames: late" in out
    held = arrays(tmp_path / "out" / "found.npz")
    assert held["recording"].tolist() == ["b"] * 6 + ["a"] * 5
    np.testing.assert_allclose(held["time_s"][[0, 6], 0], [1000.45, 0.45])
    # The window of `a` over frames 3 to 6 is the one without gaze; that over 2 to 5 knows frame 2 only.
    np.testing.assert_allclose(held["time_s"][6:, 0], [0.45, 0.55, 0.65, 0.85, 0.95])
    np.testing.assert_allclose(held["argmax"][8, 0], [250, 75])
    np.testing.assert_allclose(held["density"][8, 1:], 1 / SIZE**2, rtol=1e-6)
    np.testing.assert_allclose(held["entropy_bits"][8], [0, 6, 6, 6], atol=1e-3)
    assert held["area_50_cells"][8].tolist() == [1, 32, 32, 32]
    np.testing.assert_allclose(held["area_90_share"][8], [1 / 64] + [58 / 64] * 3)


def test_csv_holds_the_same_numbers(run: Run, tmp_path: Path) -> None:
    file = walk(tmp_path / "gaze.csv")
    run(file, SCREEN, "--samples 2")
    code, out, _ = run(file, SCREEN, "--samples 2 --format csv", out="new/found")
    assert code == 0
    assert f"written  {tmp_path / 'new' / 'found.csv'}" in out
    held = arrays(tmp_path / "out" / "found.npz")
    with (tmp_path / "new" / "found.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 17 * 4
    assert [row["window"] for row in rows[:5]] == ["0"] * 4 + ["1"]
    assert [row["horizon"] for row in rows[:5]] == ["1", "2", "3", "4", "1"]
    assert {row["recording"] for row in rows} == {"gaze"}
    for name in ("time_s", "max_mass", "entropy_bits", "area_50_cells", "area_50_share", "area_90_share"):
        found = np.array([float(row[name]) for row in rows])
        np.testing.assert_allclose(found, held[name].ravel(), rtol=1e-5, err_msg=name)
    for name, values in (
        ("argmax", held["argmax"]), ("mean", held["mean"]),
        ("marginal_sample_2", held["marginal_samples"][:, :, 1]),
    ):  # fmt: skip
        found = np.array([[float(row[f"{name}_{axis}"]) for axis in "xy"] for row in rows])
        np.testing.assert_allclose(found, values.reshape(-1, 2), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(("in_len", "out_len"), [(10, 5), (4, 12)])
def test_horizons_are_the_models_own(run: Run, tmp_path: Path, in_len: int, out_len: int) -> None:
    checkpoint = model(tmp_path / "other", in_len, out_len)
    assert run(walk(tmp_path / "g.csv"), SCREEN, checkpoint=checkpoint)[0] == 0
    held = arrays(tmp_path / "out" / "found.npz")
    assert held["density"].shape == (21 - in_len, out_len, SIZE, SIZE)
    np.testing.assert_allclose(held["time_s"][0], (in_len + 0.5 + np.arange(out_len)) / 10)


@pytest.mark.usefixtures("echo")
def test_animation(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture per window on the screen's aspect, with last and true gaze where they are."""
    from eye_fixation import prediction_film

    monkeypatch.setattr(prediction_film, "MOST_WINDOWS", 3)
    path = [(0.9, 0.1), (0.1, 0.9), (0.1, 0.1), (0.9, 0.9), (0.5, 0.1), (0.1, 0.5), (0.7, 0.3), (0.3, 0.3)]
    rows = [[0.1 * k + 0.05, 800 * x, 400 * y] for k, (x, y) in enumerate(path)]
    assert run(write_csv(tmp_path / "g.csv", "t,x,y", rows), SCREEN, "--gif")[0] == 0
    with Image.open(tmp_path / "out" / "found.gif") as film:
        pictures = [np.array(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(film)]
        assert film.info["duration"] == 100
    assert len(pictures) == 3
    step, top = prediction_film.PANEL + prediction_film.GAP, prediction_film.CAPTION
    assert pictures[0].shape == (top + 80, 3 * step - prediction_film.GAP, 3)

    def colour(window: int, panel: int, place: tuple[float, float]) -> list[int]:
        x, y = panel * step + int(160 * place[0]), top + int(80 * place[1])
        return [int(value) for value in pictures[window][y, x]]

    blue, green, pale = [70, 150, 255], [60, 230, 90], [255, 250, 190]
    for window in range(2):
        for panel, horizon in enumerate((1, 3, 4)):
            assert colour(window, panel, path[window + 3]) == blue
            if window + 3 + horizon < len(path):
                assert colour(window, panel, path[window + 3 + horizon]) == green
    assert colour(0, 1, path[2]) == pale


@pytest.mark.parametrize("form", ["npz", "csv"])
def test_nothing_half_written_stays(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    (tmp_path / "out").mkdir()
    old = tmp_path / "out" / f"found.{form}"
    old.write_text("old")
    monkeypatch.setattr(predict, "CHUNK", 5)
    calls = iter([False, True])

    def failing(density: Tensor, level: float) -> Tensor:
        if level == 0.9 and next(calls):
            raise RuntimeError("out of memory")
        return region_area(density, level)

    monkeypatch.setattr(predict, "region_area", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(walk(tmp_path / "g.csv"), SCREEN, f"--format {form}", out=f"out/found.{form}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [old.name]
    assert old.read_text() == "old"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{SCREEN} --every 0", "--every 0: at least 1"),
        (f"{SCREEN} --samples -1", "--samples -1: at least 0"),
        (f"{SCREEN} --format csv", "found.npz with --format csv"),
        ("", "--units px needs --screen-px"),
        ("--units deg", "--units deg needs --screen-mm and --distance-mm"),
        ("--units deg --screen-mm 500 300", "--units deg needs --screen-mm and --distance-mm"),
        ("--screen-px -800 400", "--screen-px -800: greater than 0 is expected"),
        (f"{SCREEN} --units deg --screen-mm 500 300 --distance-mm 600 --origin top-left",
         "--origin has no effect because --units deg starts at the centre"),
        (f"{SCREEN} --device tpu", "--device"),
        (f"{SCREEN} --time-unit us", "--time-unit s"),
        ("--screen-px 300 400", "off the screen"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(run: Run, tmp_path: Path, words: str, said: str) -> None:
    code, _, err = run(walk(tmp_path / "g.csv"), words)
    assert code == 2
    assert said in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("metadata", "rows", "said"),
    [
        ({"rate_hz": None, "source_name": "sim field", "source": "simulated"}, walk_rows(2),
         "trained on frames without a rate (sim field, simulated)"),
        ({"rate_hz": 120.0}, walk_rows(2), "needs 120 frames per second; recording g of"),
        ({}, walk_rows(0.3), "no window to predict from: 1 recordings, 3 frames at 10 Hz, 3 of them valid, "
         "1 recordings shorter than 4 frames, 0 windows without gaze"),
        ({}, [[0.1 * k, "", ""] for k in range(9)], "9 frames at 10 Hz, 0 of them valid, 0 recordings "
         "shorter than 4 frames, 6 windows without gaze"),
    ],
)  # fmt: skip
def test_recordings_that_do_not_fit(
    run: Run, tmp_path: Path, metadata: dict[str, Any], rows: list[list[float]], said: str
) -> None:
    file = write_csv(tmp_path / "g.csv", "t,x,y", rows)
    code, _, err = run(file, SCREEN, checkpoint=model(tmp_path / "other", **metadata))
    assert code == 2
    assert said in err


def test_files_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    file = walk(tmp_path / "g.csv")
    text = file.read_text()
    code, _, err = run(file, SCREEN, "--format csv", out="g.csv")
    assert (code, "would replace --input" in err) == (2, True)
    assert file.read_text() == text
    code, _, err = run(file, SCREEN, out="g.csv/found.npz")
    assert (code, "g.csv/found.npz: cannot be written" in err) == (2, True)
    code, _, err = run(file, SCREEN, checkpoint=tmp_path / "none")
    assert (code, "no model file" in err) == (2, True)
    code, _, err = run(tmp_path / "none.csv", SCREEN)
    assert (code, "none.csv" in err) == (2, True)


def test_a_screen_that_nothing_reads_is_only_mentioned(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code, *_ = run(walk(tmp_path / "g.csv"), SCREEN, "--screen-mm 500 250 --distance-mm 600")
    assert code == 0
    assert "--screen-mm has no effect because --units is px" in caplog.text


def test_spread_by_hand() -> None:
    density = torch.tensor([[0.4, 0.1], [0.3, 0.2]])
    maps = torch.stack([density, torch.full((2, 2), 0.25), torch.tensor([[0.0, 1.0], [0.0, 0.0]])])[None]
    assert argmax_point(maps).tolist() == [[[0.5, 0.5], [0.5, 0.5], [1.5, 0.5]]]
    shares = np.array([0.4, 0.1, 0.3, 0.2])
    np.testing.assert_allclose(entropy_bits(maps)[0], [-(shares * np.log2(shares)).sum(), 2, 0], atol=1e-6)
    assert region_area(maps, 0.4).tolist() == [[1, 2, 1]]
    assert region_area(maps, 0.5).tolist() == [[2, 2, 1]]
    assert region_area(maps, 0.9).tolist() == [[3, 4, 1]]


def test_draws_follow_the_density() -> None:
    density = torch.tensor([[0.1, 0.6], [0.0, 0.3]]).expand(2, 3, 2, 2)
    points = draw(density, 4000, torch.Generator().manual_seed(0))
    assert points.shape == (2, 3, 4000, 2)
    cells = points.floor()
    shares = [
        [(cells == torch.tensor([x, y])).all(-1).double().mean().item() for x in (0, 1)] for y in (0, 1)
    ]
    np.testing.assert_allclose(shares, density[0, 0], atol=0.015)
    within = (points - cells).flatten(0, 2).mean(0)
    np.testing.assert_allclose(within, [0.5, 0.5], atol=0.01)


def test_positions_of_a_screen() -> None:
    screen = Screen(Geometry((800.0, 400.0)), "px", "bottom-left", 8)
    np.testing.assert_allclose(screen.positions(torch.tensor([[2.0, 1.0]])), [[200, 350]])
