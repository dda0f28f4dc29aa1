"""The photos that `evaluate` judges, found again from what a checkpoint says about its training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from common.config import Parsed, UserError
from common.engine.logging import Console
from uav_landing.config import DataConfig, EvaluateConfig, StoreConfig, TrainConfig
from uav_landing.data.dataset import PhotoDataset
from uav_landing.data.photos import PhotoSet, shorten
from uav_landing.data.readers import find_photos
from uav_landing.data.splits import groups_of, make_split, read_groups
from uav_landing.data.store import Store, open_store
from uav_landing.labels import target_lookup
from uav_landing.rebuild import Trained


@dataclass(frozen=True, kw_only=True)
class JudgedPhotos:
    """Photos to judge with their group each; `remarks` say what their numbers cannot show."""

    photos: PhotoSet
    store: Store
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    how: str
    remarks: tuple[str, ...]
    dataset: PhotoDataset


def open_photos(parsed: Parsed[EvaluateConfig], trained: Trained, console: Console) -> JudgedPhotos:
    """Find and decode the photos; settings that were not typed are those of the training run.

    UserError for anything wrong with the data set, for another label table or mapping than that of training
    (unless `--foreign`), and for an empty split.
    """
    config, stored = parsed.config, trained.config
    photos = _with_trained_mapping(find_photos(_data_config(parsed, stored)), config, trained)
    for note in photos.notes:
        console.line("data", note)
    if not config.foreign:
        _require_labels(photos, trained)
    ids, how = _chosen(parsed, photos, trained, console)
    if not ids:
        raise UserError(f"--split {config.split}: holds no photo ({how})")
    unknown_labels = config.unknown_labels if "unknown_labels" in parsed.typed else stored.unknown_labels
    store = open_store(photos, _store_config(parsed, trained), unknown_labels)
    if store.unknown_pixels:
        console.line("warning", f"{store.unknown_pixels} pixels with labels outside the table are ignored")
    lookup, _ = target_lookup(photos.table, "train" if 0 in trained.class_ids else "ignore")
    return JudgedPhotos(
        photos=photos,
        store=store,
        ids=ids,
        groups=_groups(ids, photos, config),
        how=how,
        remarks=tuple(_remarks(ids, photos, store, trained)),
        dataset=PhotoDataset(store, ids, lookup),
    )


def _data_config(parsed: Parsed[EvaluateConfig], stored: TrainConfig) -> DataConfig:
    """Return where the photos are: as in training, unless another data set is named."""
    given = parsed.config.data
    moved = "dataset_path" in parsed.typed and given.dataset_path != stored.data.dataset_path
    if moved or "dataset_format" in parsed.typed:
        return given
    typed = {
        field.name: getattr(given, field.name)
        for field in dataclasses.fields(DataConfig)
        if field.name in parsed.typed
    }
    return dataclasses.replace(stored.data, **{"mapping": None, **typed})


def _store_config(parsed: Parsed[EvaluateConfig], trained: Trained) -> StoreConfig:
    given, stored, typed = parsed.config.store, trained.config.store, parsed.typed
    return StoreConfig(
        store_scale=given.store_scale if "store_scale" in typed else trained.metadata["store_scale"],
        cache_dir=given.cache_dir if "cache_dir" in typed else stored.cache_dir,
        max_disk_gb=given.max_disk_gb if "max_disk_gb" in typed else stored.max_disk_gb,
        rebuild_cache=given.rebuild_cache,
    )


def _with_trained_mapping(photos: PhotoSet, config: EvaluateConfig, trained: Trained) -> PhotoSet:
    """Return the photos with the mapping of training when they have its table and no mapping was typed."""
    if config.data.mapping is not None or photos.table.table_hash != trained.metadata["table_hash"]:
        return photos
    mapping = {int(fine_id): landing for fine_id, landing in trained.metadata["mapping"].items()}
    return dataclasses.replace(photos, table=photos.table.with_mapping(mapping))


def _require_labels(photos: PhotoSet, trained: Trained) -> None:
    table, stored = photos.table, trained.metadata
    found = {"table_hash": table.table_hash, "mapping_hash": table.mapping_hash}
    different = [
        f"{name} is {value}, the checkpoint has {stored[name]}"
        for name, value in found.items()
        if value != stored[name]
    ]
    if different:
        raise UserError(
            f"the labels of {photos.root} (table {table.name}) are not those of training (table "
            f"{stored['label_table']}): {'; '.join(different)}. See --label-table and --mapping, or judge a "
            "foreign data set with --foreign"
        )


def _chosen(
    parsed: Parsed[EvaluateConfig], photos: PhotoSet, trained: Trained, console: Console
) -> tuple[tuple[str, ...], str]:
    """Return the ids to judge and how they were chosen."""
    config = parsed.config
    if config.split == "all":
        return photos.ids, "every photo of the data set"
    if config.split_mode == "checkpoint":
        ids = tuple(trained.metadata["split"][config.split])
        missing = [name for name in ids if name not in photos.by_id]
        if missing:
            raise UserError(
                f"--split-mode checkpoint: {len(missing)} of {len(ids)} {config.split} photos of the "
                f"checkpoint are not in {photos.root}: {shorten(missing)}; choose another --split-mode, or "
                "--split all"
            )
        return ids, "split of the training run"
    split = dataclasses.replace(
        trained.config.split,
        split_mode=config.split_mode,
        split_file=config.split_file,
        split_seed=config.split_seed if "split_seed" in parsed.typed else trained.config.split.split_seed,
    )
    made = make_split(photos, split)
    if made.warning:
        console.line("warning", made.warning)
    return made.ids(config.split), made.how


def _groups(ids: tuple[str, ...], photos: PhotoSet, config: EvaluateConfig) -> tuple[str, ...]:
    if config.groups is None:
        return groups_of(ids, photos)
    known = read_groups(config.groups, photos.ids)
    return tuple(known[name] for name in ids)


def _remarks(ids: tuple[str, ...], photos: PhotoSet, store: Store, trained: Trained) -> list[str]:
    """Return what the split means for the numbers: photos seen in training, pixels that differ."""
    stored, remarks = trained.metadata, []
    train, val = (set(stored["split"][part]) for part in ("train", "val"))
    names = "" if store.fingerprint == stored["data_fingerprint"] else " (by name)"
    if names:
        remarks.append(
            f"the photos, labels or their scale are not those of training: data_fingerprint is "
            f"{store.fingerprint}, the checkpoint has {stored['data_fingerprint']}"
        )
    seen = sum(name in train for name in ids)
    if seen:
        remarks.append(
            f"{seen} of {len(ids)} photos trained this checkpoint{names}: "
            "their numbers say nothing about new photos"
        )
    places = set(groups_of(tuple(name for name in photos.ids if name in train), photos))
    beside = sum(
        group in places for name, group in zip(ids, groups_of(ids, photos), strict=True) if name not in train
    )
    if beside:
        remarks.append(f"{beside} of {len(ids)} photos share a place or flight with training photos{names}")
    chose = sum(name in val for name in ids)
    if chose:
        remarks.append(f"{chose} of {len(ids)} photos chose this checkpoint{names}: a little too good")
    return remarks
