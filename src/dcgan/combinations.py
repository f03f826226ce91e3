"""Combinations of parameters that make no sense, each of which may be allowed on its own."""

from __future__ import annotations

import math

from dcgan.schema import Params

# Data sets that the pipeline draws; dataset_size is the number of pictures to draw.
_DRAWN = {"avatars"}
# The shorter side of the pictures in pixels, for the data sets whose crop_size is checked against it.
_SOURCE_SIDE = {"avatars": 178, "celeba": 178, "cifar10": 32}


def avatars_splits(size: int) -> dict[str, int]:
    """Returns how many of `size` avatars are in each split: 80 %, 10 % and 10 %, about as in CelebA."""
    train, known = math.ceil(0.8 * size), math.ceil(0.9 * size)
    return {"train": train, "valid": known - train, "test": size - known, "all": size}


def impossible(p: Params) -> str | None:
    """Returns what is wrong with the combination of values, with the remedy, or None."""
    if p.dataset in _DRAWN and p.dataset_size is None:
        return f"dataset_size: it is empty, but dataset: {p.dataset} needs the number of pictures to draw; give it."
    if p.dataset_size is not None and p.batch_size > p.dataset_size:
        return (
            f"batch_size: {p.batch_size} is more than dataset_size: {p.dataset_size}; "
            "lower batch_size or raise dataset_size."
        )
    if p.dataset == "avatars" and p.dataset_size is not None:
        counts = avatars_splits(p.dataset_size)
        if p.train_split == "train" and p.batch_size > counts["train"]:
            return (
                f"batch_size: {p.batch_size} is more than the {counts['train']} training pictures that "
                f"dataset_size: {p.dataset_size} gives; lower batch_size or raise dataset_size."
            )
        if counts[p.fid_split] < 2:
            return (
                f"fid_split: {p.fid_split} has {counts[p.fid_split]} pictures with dataset_size: {p.dataset_size}, but "
                "a distance needs 2; give train or all."
            )
    side = _SOURCE_SIDE.get(p.dataset)
    if side and p.crop_size and p.crop_size > side:
        return f"crop_size: {p.crop_size} is more than the {side} pixels of dataset: {p.dataset}; give at most {side}."
    square = p.crop_size or side
    if p.refuse_enlarged and square and square < p.image_size:
        return (
            f"refuse_enlarged: true leaves no picture, since their squares of {square} pixels are smaller than "
            f"image_size: {p.image_size}; give false."
        )
    return _impossible_training(p)


def _impossible_training(p: Params) -> str | None:
    count = p.number_of_ranks()
    if p.batch_size % count:
        return (
            f"batch_size: {p.batch_size} is not a multiple of {'ranks' if p.ranks else 'ngpu'}: {count}; "
            f"give a multiple of {count}, for example {-(-p.batch_size // count) * count}."
        )
    groups = 4 * count  # of at least 4 pictures on each rank
    if p.coarse_share and p.batch_size % groups:
        return (
            f"batch_size: {p.batch_size} is not a multiple of {groups}, as coarse_share: {p.coarse_share} needs, which "
            f"compares groups of pictures; give a multiple, for example {-(-p.batch_size // groups) * groups}."
        )
    if p.coarse_share and p.discriminator_norm != "none":
        return (
            f"coarse_share: {p.coarse_share} cannot be used with discriminator_norm: {p.discriminator_norm}; "
            "give 0, or discriminator_norm: none."
        )
    if p.ngpu != "auto" and p.ngpu and count % p.ngpu:
        return f"ranks: {count} is not a multiple of ngpu: {p.ngpu}, the GPUs of each machine; leave ranks empty."
    if p.keep == "best" and not p.distance_kimg:
        return "keep: best needs quick distances during training; give distance_kimg above 0, or keep: last."
    if p.r1_gamma_end and not p.r1_gamma:
        return (
            f"r1_gamma_end: {p.r1_gamma_end} needs penalties from the start; give r1_gamma above 0, or leave it empty."
        )
    if p.label_smoothing and p.loss not in ("bce", "minimax", "lsgan"):
        return (
            f"label_smoothing: {p.label_smoothing} cannot be used with loss: {p.loss}, which has no labels; "
            "give 0, or loss: bce, minimax or lsgan."
        )
    return None
