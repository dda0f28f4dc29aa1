"""Names and shapes of the tensors in the public BiSeNetV2 Cityscapes file, written out from its layout."""

from collections.abc import Iterator

import pytest

Shape = tuple[int, ...]


def norm(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
    for entry in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{entry}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def conv_norm(name: str, *shape: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.conv.weight", shape
    yield from norm(f"{name}.bn", shape[0])


def detail() -> Iterator[tuple[str, Shape]]:
    for stage, widths in enumerate([(3, 64, 64), (64, 64, 64, 64), (64, 128, 128, 128)]):
        for index in range(len(widths) - 1):
            name = f"backbone.detail.detail_branch.{stage}.{index}"
            yield from conv_norm(name, widths[index + 1], widths[index], 3, 3)


def expansion_down(name: str, i: int, o: int) -> Iterator[tuple[str, Shape]]:
    yield from conv_norm(f"{name}.conv1", i, i, 3, 3)
    yield from conv_norm(f"{name}.dwconv.0", 6 * i, 1, 3, 3)
    yield from conv_norm(f"{name}.dwconv.1", 6 * i, 1, 3, 3)
    yield from conv_norm(f"{name}.shortcut.0.depthwise_conv", i, 1, 3, 3)
    yield from conv_norm(f"{name}.shortcut.0.pointwise_conv", o, i, 1, 1)
    yield from conv_norm(f"{name}.conv2.0", o, 6 * i, 1, 1)


def expansion(name: str, c: int) -> Iterator[tuple[str, Shape]]:
    yield from conv_norm(f"{name}.conv1", c, c, 3, 3)
    yield from conv_norm(f"{name}.dwconv.0", 6 * c, 1, 3, 3)
    yield from conv_norm(f"{name}.conv2.0", c, 6 * c, 1, 1)


def semantic() -> Iterator[tuple[str, Shape]]:
    branch = "backbone.semantic"
    yield from conv_norm(f"{branch}.stage1.conv_first", 16, 3, 3, 3)
    yield from conv_norm(f"{branch}.stage1.convs.0", 8, 16, 1, 1)
    yield from conv_norm(f"{branch}.stage1.convs.1", 16, 8, 3, 3)
    yield from conv_norm(f"{branch}.stage1.fuse_last", 16, 32, 3, 3)
    for stage, i, o, blocks in ((2, 16, 32, 2), (3, 32, 64, 2), (4, 64, 128, 4)):
        yield from expansion_down(f"{branch}.stage{stage}.0", i, o)
        for block in range(1, blocks):
            yield from expansion(f"{branch}.stage{stage}.{block}", o)
    yield from norm(f"{branch}.stage4_CEBlock.gap.1", 128)
    yield from conv_norm(f"{branch}.stage4_CEBlock.conv_gap", 128, 128, 1, 1)
    yield from conv_norm(f"{branch}.stage4_CEBlock.conv_last", 128, 128, 3, 3)


def aggregation() -> Iterator[tuple[str, Shape]]:
    for path in ("detail_dwconv", "semantic_dwconv"):
        yield from conv_norm(f"backbone.bga.{path}.0.depthwise_conv", 128, 1, 3, 3)
        yield f"backbone.bga.{path}.0.pointwise_conv.conv.weight", (128, 128, 1, 1)
        yield f"backbone.bga.{path}.0.pointwise_conv.conv.bias", (128,)
    for path in ("detail_down.0", "semantic_conv.0", "conv"):
        yield from conv_norm(f"backbone.bga.{path}", 128, 128, 3, 3)


def head(name: str, widths: tuple[int, ...], classes: int) -> Iterator[tuple[str, Shape]]:
    for index in range(len(widths) - 1):
        yield from conv_norm(f"{name}.convs.{index}", widths[index + 1], widths[index], 3, 3)
    yield f"{name}.conv_seg.weight", (classes, widths[-1], 1, 1)
    yield f"{name}.conv_seg.bias", (classes,)


@pytest.fixture
def public_backbone() -> dict[str, Shape]:
    return dict([*detail(), *semantic(), *aggregation()])


@pytest.fixture
def public_file(public_backbone: dict[str, Shape]) -> dict[str, Shape]:
    names = public_backbone | dict(head("decode_head", (128, 1024), 19))
    for index, (inputs, hidden) in enumerate([(16, 16), (32, 64), (64, 256), (128, 1024)]):
        names |= dict(head(f"auxiliary_head.{index}", (inputs, hidden, hidden), 19))
    return names
