"""The floor of a metric is its value for real faces in the place of the generated ones."""

from __future__ import annotations

from typing import NamedTuple

from dcgan.metrics.reference import Reference, References


class Floor(NamedTuple):
    """Real faces in the place of the generated ones, and the real faces that they are compared with."""

    faces: Reference
    real: Reference


def splits(split: str) -> tuple[str, str]:
    """Returns the split that takes the place of the generated faces if `split` is the reference, and its reference.

    No face is in both. They are the test split, which no training has seen, and the train split, which the generated
    faces are compared with too, unless the reference is another split. For `all`, beside which there are no faces, the
    reference is the train split. For `test` and `valid`, the train split takes the place of the generated faces: it has
    the most faces, and so most often as many as were generated.
    """
    return ("train", split) if split in ("test", "valid") else ("test", "train")


def floor(references: References, split: str, real: Reference | None, samples: int) -> Floor | None:
    """Returns at most `samples` real faces in the place of the generated ones; None if a split has too few faces.

    Args:
        split: the split of the reference `real`.
    """
    of, against = splits(split)
    faces, other = references(of, samples), real if against == split else references(against)
    return Floor(faces, other) if faces and other else None
