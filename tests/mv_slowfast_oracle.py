"""MViTv2-B on PySlowFast's tensors, written from the paper with explicit loops over positions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

WIDER = (2, 5, 21)
State = Mapping[str, Tensor]
Shape = tuple[int, int, int]
NAMES = (
    ("pos_encoding.class_token", "cls_token"),
    ("conv_proj", "patch_embed.proj"),
    ("attn.project.0", "attn.proj"),
    *((f"pool_{x}.pool", f"pool_{x}") for x in "qkv"),
    *((f"pool_{x}.norm_act.0", f"norm_{x}") for x in "qkv"),
    ("mlp.0", "mlp.fc1"),
    ("mlp.3", "mlp.fc2"),
    (".project.", ".proj."),
    ("head.1", "head.projection"),
)


def slowfast_name(name: str) -> str:
    """Return what PySlowFast calls a tensor of torchvision's MViT."""
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    return name


def features(state: State, clips: Tensor) -> Tensor:
    """Return the class token [N, 768] after the last norm, for clips [N, 3, T, H, W]."""
    weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    maps = F.conv3d(clips, weight, bias, stride=(2, 4, 4), padding=(1, 3, 3))
    shape: Shape = (maps.shape[2], maps.shape[3], maps.shape[4])
    tokens = torch.cat([state["cls_token"].expand(len(clips), 1, -1), maps.flatten(2).mT], dim=1)
    for index in range(24):
        own = {k.removeprefix(f"blocks.{index}."): v for k, v in state.items() if f".{index}." in k}
        tokens, shape = _block(own, tokens, shape, index)
    return _norm(state, "norm", tokens)[:, 0]


def _block(state: State, tokens: Tensor, shape: Shape, index: int) -> tuple[Tensor, Shape]:
    wider = index in WIDER
    level = sum(index >= start for start in WIDER)
    normed = _norm(state, "norm1", tokens)
    attended, after = _attention(state, normed, shape, 2**level, 2 if wider else 1, 8 // 2**level)
    skip = F.linear(normed, state["proj.weight"], state["proj.bias"]) if wider else tokens
    if wider:
        rest = _maps(skip[:, 1:], shape)
        pooled = F.max_pool3d(rest, (1, 3, 3), (1, 2, 2), (0, 1, 1)).flatten(2).mT
        skip = torch.cat([skip[:, :1], pooled], dim=1)
    tokens = skip + attended
    hidden = F.gelu(F.linear(_norm(state, "norm2", tokens), state["mlp.fc1.weight"], state["mlp.fc1.bias"]))
    return tokens + F.linear(hidden, state["mlp.fc2.weight"], state["mlp.fc2.bias"]), after


def _attention(
    state: State, tokens: Tensor, shape: Shape, heads: int, q_stride: int, kv_stride: int
) -> tuple[Tensor, Shape]:
    triple = F.linear(tokens, state["attn.qkv.weight"], state["attn.qkv.bias"]).chunk(3, dim=-1)
    outputs, after = [], shape
    for head in range(heads):
        q, k, v = (part.chunk(heads, dim=-1)[head] for part in triple)
        q, after = _pool(state, "q", q, shape, q_stride)
        k, coarse = _pool(state, "k", k, shape, kv_stride)
        v, _ = _pool(state, "v", v, shape, kv_stride)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        scores[:, 1:, 1:] += _positions(state, q[:, 1:], after, coarse)
        mixed = scores.softmax(dim=-1) @ v
        outputs.append(torch.cat([mixed[:, :1], mixed[:, 1:] + q[:, 1:]], dim=1))
    return F.linear(torch.cat(outputs, dim=-1), state["attn.proj.weight"], state["attn.proj.bias"]), after


def _positions(state: State, q: Tensor, queries: Shape, keys: Shape) -> Tensor:
    tables = []
    for axis, name in enumerate("thw"):
        q_step, k_step = max(keys[axis] // queries[axis], 1), max(queries[axis] // keys[axis], 1)
        last = keys[axis] - 1
        rows = [[i * q_step + (last - j) * k_step for j in _axis(keys, axis)] for i in _axis(queries, axis)]
        tables.append(state[f"attn.rel_pos_{name}"][torch.tensor(rows)])
    return torch.einsum("nqd,qkd->nqk", q, tables[0] + tables[1] + tables[2])


def _axis(shape: Shape, axis: int) -> list[int]:
    grid = [(t, h, w) for t in range(shape[0]) for h in range(shape[1]) for w in range(shape[2])]
    return [place[axis] for place in grid]


def _pool(state: State, name: str, tokens: Tensor, shape: Shape, stride: int) -> tuple[Tensor, Shape]:
    weight = state[f"attn.pool_{name}.weight"]
    maps = F.conv3d(_maps(tokens[:, 1:], shape), weight, None, (1, stride, stride), 1, groups=len(weight))
    pooled = torch.cat([tokens[:, :1], maps.flatten(2).mT], dim=1)
    return _norm(state, f"attn.norm_{name}", pooled), (maps.shape[2], maps.shape[3], maps.shape[4])


def _maps(tokens: Tensor, shape: Shape) -> Tensor:
    return tokens.mT.reshape(len(tokens), -1, *shape)


def _norm(state: State, name: str, tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)
