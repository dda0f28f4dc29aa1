"""MViTv2-B for video: 24 blocks."""

from __future__ import annotations

from torchvision.models.video.mvit import MSBlockConfig, MViT

DEPTH = 24
EMBED = 96
WIDENING = (2, 5, 21)
"""Blocks that double channels and heads and halve the height and width of the queries."""
STAGE_STARTS = (0, *WIDENING)
STOCHASTIC_DEPTH = 0.3
KEY_STRIDE = 8
"""Spatial stride of keys and values before the first widening; each widening halves it."""
KERNEL = (3, 3, 3)


def block_settings() -> list[MSBlockConfig]:
    """Return the 24 blocks of MViTv2-B.

    Source: Li et al., MViTv2: Improved Multiscale Vision Transformers for Classification and Detection,
    2022, table 1; strides and widths as in the published 32x3 Kinetics configuration.
    """
    settings = []
    channels, heads, stride = EMBED, 1, KEY_STRIDE
    for index in range(DEPTH):
        widens = index in WIDENING
        inputs = channels
        if widens:
            channels, heads, stride = 2 * channels, 2 * heads, stride // 2
        settings.append(
            MSBlockConfig(
                num_heads=heads,
                input_channels=inputs,
                output_channels=channels,
                kernel_q=[*KERNEL],
                kernel_kv=[*KERNEL],
                stride_q=[1, 2, 2] if widens else [1, 1, 1],
                stride_kv=[1, stride, stride],
            )
        )
    return settings


def mvitv2_b(frames: int = 32, side: int = 224) -> MViT:
    """Return the network for `frames` (even) and square images, for 400 classes.

    With class token, relative positions, residual pooling, and the projection after attention. Patches are
    3x7x7 at stride 2, 4, 4. `side` is a multiple of 32.
    """
    return MViT(
        spatial_size=(side, side),
        temporal_size=frames,
        block_setting=block_settings(),
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        stochastic_depth_prob=STOCHASTIC_DEPTH,
    )
