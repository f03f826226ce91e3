"""The data card: counts, channels, attributes and duplicates, beside numpy and pandas on the whole arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import drawn, encoded

from dcgan.data import card as data_card
from dcgan.data import images, packing
from dcgan.data.index import Source, write_index, zip_member

SOURCE = Source("drawn", "free", "nobody: nothing. 2020", "https://example.org")


def described(
    root: Path, pictures: list[tuple[int, str]], nc: int
) -> tuple[dict[str, packing.Cropped], dict[str, Any]]:
    """Packs drawn pictures (seed, split), and describes them."""
    (root / "raw").mkdir()
    with zipfile.ZipFile(root / "raw" / "a.zip", "w") as archive:
        for i, (seed, _) in enumerate(pictures):
            archive.writestr(zip_member(f"{i}.png"), encoded(drawn("RGB", 32, 32, seed)))
    rows = [("a.zip", f"{i}.png", split, 1 if seed % 2 else -1) for i, (seed, split) in enumerate(pictures)]
    write_index(root / "raw", pd.DataFrame(rows, columns=["archive", "file", "split", "Odd"]), SOURCE)
    found = packing.pack(root / "raw", root / "faces", None, 32, nc, 0.0)
    return found, data_card.describe(root / "raw", root / "faces", found, {"nc": nc})


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["train", "valid", "test"])), min_size=1, max_size=150),
    st.sampled_from([1, 3]),
)
def test_the_card_says_what_the_arrays_hold(
    tmp_path_factory: pytest.TempPathFactory, pictures: list[tuple[int, str]], nc: int
) -> None:
    root = tmp_path_factory.mktemp("card")
    found, card = described(root, pictures, nc)
    table = pd.DataFrame(pictures, columns=["seed", "split"])
    splits = ["train", "valid", "test"]
    assert card["source"] == SOURCE.about() and card["pixels"] == {"nc": nc} and card["bad"] == []
    assert card["faces"] == {split: int((table["split"] == split).sum()) for split in splits}
    shares = (table["seed"] % 2).groupby(table["split"]).mean()
    assert card["attributes"] == {"Odd": {s: pytest.approx(shares[s], abs=1e-4) for s in splits if s in shares}}
    shown = images.open_faces(root / "faces", "train" if card["faces"]["train"] else "all").astype(np.float64)
    assert np.array_equal(images.open_shown(root / "faces"), shown)
    assert card["channels"] == {
        "mean": pytest.approx(shown.mean(axis=(0, 1, 2)) / 255, rel=1e-5),
        "std": pytest.approx(shown.std(axis=(0, 1, 2)) / 255, rel=1e-5),
    }
    assert np.abs(data_card.mean_image(data_card.shown(found)) - shown.mean(axis=0)).max() <= 0.5 + 1e-9
    duplicates = card["duplicates"]
    assert duplicates["pictures"] == len(table) - table["seed"].nunique()
    assert duplicates["across_splits"] == int((table.groupby("seed")["split"].nunique() > 1).sum())
    of_seed = {tuple(sorted(files)) for files in table.groupby("seed").apply(lambda t: [f"{i}.png" for i in t.index])}
    assert {tuple(sorted(group)) for group in duplicates["groups"]} == {files for files in of_seed if len(files) > 1}


def test_channels_are_exact_where_float32_would_round(tmp_path: Path) -> None:
    """White pictures have the largest sums of squares that there are."""
    found = packing.Cropped([b""] * 64, np.full((2, 2, 1), 64 * 255.0), np.full((2, 2, 1), 64 * 255.0**2))
    assert data_card.channels(found) == {"mean": [1.0], "std": [0.0]}
    assert 64 * 255**2 < 2**24 and packing._CHUNK <= 64
