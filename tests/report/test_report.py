"""The report: one page that holds everything and says the numbers' right names."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from dcgan.data.index import SPLITS
from dcgan.data.sources import celeba
from dcgan.report import card, page, published
from reports import PRESETS, inputs, metrics, sheet

FID = metrics("fid", "inception")
OF_CELEBA = {"data_source": celeba.SOURCE.name, "samples": 50_000, "reference_split": "all", "reference_count": 202_599}
MOST = 5_000_000  # bytes


@cache
def _unchanged() -> str:
    return page.render(inputs())


def render(**changed: Any) -> str:
    """A page of made-up inputs, some of which are changed."""
    return page.render(inputs(**changed)) if changed else _unchanged()


def with_metrics(**changed: Any) -> str:
    return render(metrics=FID | changed)


def with_data(**changed: Any) -> str:
    return render(data=dict(inputs().data) | changed)


def text(html: str) -> str:
    """The words of a page, but for style and script."""
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(style|script).*?</\1>", " ", html)).split())


def tables(html: str) -> list[list[list[str]]]:
    """The text of each cell, by table and row."""
    found = re.findall(r"<table[^>]*>(.*?)</table>", html, re.DOTALL)
    rows = [re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL) for table in found]
    cells = [[re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in table] for table in rows]
    return [[[re.sub(r"<[^>]*>", " ", cell).strip() for cell in row] for row in table] for table in cells]


def test_the_page_needs_nothing_else() -> None:
    html = render()
    assert len(re.findall(r'<img src="data:image/(png|webp);base64,', html)) == 6 + 2 + 4  # pictures, closer, progress
    assert not re.findall(r'(src="(?!data:)|<link(?! rel="icon" href="data:,")|<script src|url\(|@import)', html)
    words = text(html)
    assert (
        "5000 of 5200 pictures were taken" in words and "17 pictures are smaller than that and were enlarged" in words
    )
    assert words.count("it is hidden") == 20 and "And 2 more kinds" in words
    for number in ("123.4", "124.5 ± 1.5", "1000.5", "900.25", "45.6", "0.75"):
        assert number in words


def test_each_distance_has_the_number_of_its_faces() -> None:
    distances, _, scores, *_ = tables(with_metrics())
    assert [[row[0], row[1], row[3]] for row in distances[1:]] == [
        ["floor: real test faces", "500", "45.6"],
        ["this generator", "500", "130.5"],
        ["this generator", "2,000", "123.4"],
        ["plain grey pictures", "", "900.25"],
        ["before training", "2,000", "1000.5"],
    ]
    assert scores[0] == ["score, of 500 faces a side", "this run", "floor"] and scores[1][1:] == ["0.75", "0.875"]
    as_many, *_ = tables(with_metrics(floor_count=2000, fid_at_floor_count=123.4))
    assert [row[1] for row in as_many[1:]] == ["2,000", "2,000", "", "2,000"]
    without = {key: value for key, value in FID.items() if "_floor" not in key} | {"floor_count": None}
    distances, _, scores, *_ = tables(render(metrics=without | {"fid_at_floor_count": None}))
    assert [row[0] for row in distances[1:]] == ["this generator", "plain grey pictures", "before training"]
    assert scores[1][2] == "not measured"


def test_bars_are_as_long_as_the_distances() -> None:
    bar = dict(zip(("floor", "run", "longest"), re.findall(r"width:([0-9.]+)%", with_metrics())[0:5:2], strict=False))
    assert float(bar["longest"]) <= 100 and re.search("width:100.0%", with_metrics())
    assert float(bar["floor"]) == pytest.approx(100 * 45.6 / 1000.5, abs=0.1)


def test_what_differs_from_the_nearest_preset_comes_first_with_the_command_that_rebuilds_it() -> None:
    html = render()
    _, changed, *_ = tables(html)
    expected = [["lr", "0.0005", "0.001"], ["crop_size", "108", "empty"], ["augment", "true", "false"]]
    assert changed[0] == ["parameter", "this run", "avatars"] and sorted(changed[1:]) == sorted(expected)
    (command,) = re.findall("dvc exp run .*(?=</code>)", html)
    assert "dcgan preset avatars\n" in html
    assert set(command.split(" -S ")) == {"dvc exp run", "lr=0.0005", "crop_size=108", "augment=true"}
    as_it_is = text(render(params=PRESETS["paper"]))
    assert "All parameters are those of the preset paper" in as_it_is and "make repro PRESET=paper" in as_it_is
    emptied = text(render(params=PRESETS["celeba"] | {"lr_discriminator": 0.1, "dataset_size": None}))
    assert "dvc exp run -S lr_discriminator=0.1" in emptied
    for key in PRESETS["avatars"]:
        assert f"<dt>{key}</dt>" in html or f"<code>{key}</code>" in html, key


def test_what_the_page_cannot_hold_is_found_by_the_generator() -> None:
    words = text(render())
    assert f"tags.generator_sha256 = '{'ab' * 32}'" in words.replace("&#39;", "'") and "cd" * 16 + ".dir" in words
    assert "reports/runtime.json" in words and "make ui" in words


def noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels))


def test_pictures_of_any_size_fit_into_five_megabytes() -> None:
    """Noise of 128 pixels a face, which nothing compresses."""
    sizes = {"samples.png": (1042, 1042), "real.png": (1042, 1042), "interpolation.png": (1302, 782)}
    sizes |= {"sheet.png": (782, 782), "neighbours.png": (1580, 1042), "mean.png": (128, 128)}
    pictures = {name: noise(*size) for name, size in sizes.items()}
    html = render(pictures=pictures, progress=[noise(1042, 1042)] * 6, metrics=metrics(resolution=128))
    assert 3_000_000 < len(html) < MOST


def test_of_many_epochs_some_are_shown_the_first_and_the_last_among_them() -> None:
    epochs = re.findall('<li data-epoch="([0-9]+)"( class="printed")?', render(progress=[sheet(4, 2)] * 101))
    assert len(epochs) == 33 and epochs[0][0] == "0" and epochs[-1][0] == "100"
    assert [number for number, printed in epochs if printed] == ["0", "19", "41", "59", "81", "100"]
    assert "33 of 101 times" in text(render(progress=[sheet(4, 2)] * 101))


def test_the_picture_to_judge_by_is_not_compressed_again() -> None:
    html, given = render(), inputs().pictures["samples.png"]
    assert base64.b64encode(given).decode() in html


def test_a_small_grid_is_shown_enlarged_by_whole_pixels() -> None:
    pictures = {name: sheet(side=32) for name in inputs().pictures}
    html = render(pictures=pictures, metrics=metrics(resolution=32))
    with Image.open(io.BytesIO(pictures["samples.png"])) as opened:
        assert f'width="{2 * opened.width}" height="{2 * opened.height}" class="pixels"' in html


def test_a_page_of_grey_pictures() -> None:
    def grey(content: bytes) -> bytes:
        return encoded(Image.open(io.BytesIO(content)).convert("L"))

    given = inputs()
    pictures = {name: grey(content) for name, content in given.pictures.items()}
    html = render(pictures=pictures, progress=[grey(each) for each in given.progress], metrics=metrics(channels=1))
    assert "Learnt" in text(html) and "at 64x64 in grey" in text(html)


def test_the_model_card_has_the_counts_of_its_numbers() -> None:
    params = {
        "dataset": "x",
        "nz": 1,
        "latent": "normal",
        "architecture": "conv",
        "loss": "bce",
        "epochs": 1,
        "seed": 1,
    }
    text = card.render(FID, inputs().data, params | {"train_split": "train"})
    assert "FID: **123.4**, between 2000 generated pictures and the 4000 real pictures of the split `train`" in text
    assert "500 real test pictures 45.6, 500 generated pictures 130.5." in text
    assert "With 500 pictures on both sides: precision 0.75 (real pictures 0.875)." in text


@pytest.mark.parametrize(("name", "network"), [("fid", "inception"), ("frechet_distance", "efficientnet_lite0")])
def test_only_inceptions_distance_is_called_fid(name: str, network: str) -> None:
    html = render(metrics=metrics(name, network))
    assert ("This is not FID" in html) == (name != "fid")
    assert ("<title>DCGAN: FID 123.4</title>" in html) == (name == "fid")


def rows(html: str) -> list[str]:
    """The table of published results."""
    table = html.partition('<h2 id="published">')[2].partition("</table>")[0]
    return [re.sub(r"<[^>]*>", " ", row) for row in table.split("<tr>")[2:]]


def test_a_run_stands_beside_published_results_of_the_same_protocol_alone() -> None:
    mine = published.Published("the same", 20.0, "x", "178", 50_000, "all", published._INCEPTION, "the last")
    others = [mine, replace(mine, model="cropped", crop="108"), replace(mine, model="silent", samples=None)]
    this, *found = rows(page.render(inputs(metrics=FID | OF_CELEBA), others))
    assert "this run" in this and "123.4" in this
    same, cropped, silent = (next(row for row in found if other.model in row) for other in others)
    assert "not comparable" not in same
    assert "not comparable: crop: 108" in cropped and "samples" not in cropped
    assert "not comparable: samples: not known" in silent and "crop" not in silent


def test_no_published_result_that_is_known_has_exactly_our_protocol() -> None:
    """They are shown all the same, each with what tells it apart."""
    for measured in (FID | OF_CELEBA, FID | OF_CELEBA | {"reference_split": "train", "reference_count": 162_770}):
        for other in published.PUBLISHED:
            assert published.differences(measured, other), other
    assert len(rows(with_metrics(**OF_CELEBA))) == 1 + len(published.PUBLISHED)


@pytest.mark.parametrize("changed", [{"data_source": "drawn"}, {"resolution": 128}, {"channels": 1}])
def test_a_run_of_other_pictures_stands_beside_none(changed: dict[str, Any]) -> None:
    html = with_metrics(**OF_CELEBA | changed)
    assert "No published result uses the protocol of this run" in html and "Heusel" not in html


def test_another_network_stands_beside_none() -> None:
    html = render(metrics=metrics() | OF_CELEBA)
    assert "No published result uses the protocol of this run" in html and "Heusel" not in html


def test_distances_while_training_are_a_curve_of_their_own() -> None:
    losses = inputs().losses
    assert "while training" not in render()
    measured = losses.assign(quick_frechet_distance=[np.nan] * 198 + [300.0, 200.0])
    assert "while training" in render(losses=measured)


def test_the_same_run_gives_the_same_bytes() -> None:
    assert page.render(inputs()) == page.render(inputs())


def test_what_pictures_are_called_cannot_inject_html() -> None:
    attributes = {"<script>alert(1)</script>": dict.fromkeys(SPLITS, 0.5)}
    html = with_data(attributes=attributes, bad=[{"file": "<script>alert(2)</script>.jpg", "reason": "<script>"}])
    assert "<script>alert" not in html and html.count("<script") == render().count("<script") == 2


def test_the_data_card_is_on_the_page() -> None:
    html = render()
    for words in ("A: B. 2020", "https://example.org", "free", "50.0 %", "30.0 %", "0.125", "19.jpg", "And 5 more"):
        assert words in text(html), words
    assert "in more than one split: 2" in text(html) and "20.jpg" not in text(html) and "Bald" not in text(html)


def test_a_data_set_without_attributes_citation_and_faults_has_a_page() -> None:
    source = dict(inputs().data["source"]) | {"citation": "", "url": ""}
    none = {"pictures": 0, "across_splits": 0, "groups": []}
    html = with_data(source=source, duplicates=none, attributes={}, bad=[])
    assert "citation" not in html and "more than one split" not in html and "0 pictures could not be used" in html


def test_the_share_of_copies_is_a_sentence() -> None:
    copying = {"copies": 0.0315, "copies_low": 0.02, "copies_high": 0.05, "copies_verdict": "copies"}
    assert (
        "Copies: 3.1% of 2000 generated faces are nearer to a training face than the nearest 1 % of 500 unseen real "
        "faces are (interval of 95 %: 2.0% to 5.0%; of real test faces, 1.2%). Verdict: copies."
    ) in text(with_metrics(**copying))
    far = {"copies": None, "copies_low": None, "copies_high": None, "copies_verdict": "cannot tell"}
    words = text(with_metrics(**far))
    assert "Copies:" not in words and "so far from all real faces that copies would be missed" in words


def test_what_there_were_too_few_faces_for_is_named_on_the_page() -> None:
    assert "Left out" not in text(render(metrics=metrics() | {"kernel_distance": 0.1}))
    few = {key: value for key, value in metrics().items() if not isinstance(value, float)}
    few |= {"reference_count": None, "scores_count": 0, "floor_count": None}
    words = text(render(metrics=few, data=dict(inputs().data) | {"faces": {"train": 0, "valid": 1, "test": 2}}))
    assert "No distance was measured" in words and "since the split train has fewer than 2 faces" in words
    assert "64 faces of all splits" in words and "None" not in words
