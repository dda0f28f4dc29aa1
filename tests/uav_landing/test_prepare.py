import os

import numpy as np
import pytest
from PIL import Image

from common.config import UserError
from uav_landing import prepare
from uav_landing.config import DataConfig, PrepareConfig, StoreConfig


@pytest.fixture
def config(tmp_path):
    for number in range(3):
        for folder, pixels in (
            ("original_images", np.full((20, 30, 3), number, dtype=np.uint8)),
            ("label_images_semantic", np.array([[0] * 30] + [[number + 1] * 30] * 19, dtype=np.uint8)),
        ):
            path = tmp_path / "photos" / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return PrepareConfig(
        data=DataConfig(dataset_path=tmp_path / "photos"),
        store=StoreConfig(cache_dir=tmp_path / "cache"),
        verify=True,
    )


def test_says_what_is_stored(config, capsys):
    assert prepare.run(config) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "3 photos   7,200 bytes   scale 1 (30 x 20)" in lines[0]
    assert lines[0].endswith("every file verified")
    assert "table sdd (24 fine)" in lines[1]
    assert "0 background 5.0000 %   1 safe landing 95.0000 %   2 caution 0.0000 %" in lines[1]


def test_verify_finds_what_size_and_time_do_not_show(config, capsys, tmp_path):
    prepare.run(config)
    (path,) = (tmp_path / "cache").glob("*/images/1.npy")
    stamp, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 8
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    capsys.readouterr()
    prepare.run(config)
    assert "1 damaged files, built anew" in capsys.readouterr().out
    prepare.run(config)
    assert "every file verified" in capsys.readouterr().out


def test_unusable_data_is_an_error_of_the_user(config, tmp_path):
    (tmp_path / "photos" / "label_images_semantic" / "1.png").unlink()
    with pytest.raises(UserError, match="have no mask: 1"):
        prepare.run(config)
