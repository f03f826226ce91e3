"""The report: one page that holds everything and says the numbers' right names."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dcgan.data.index import SPLITS
from dcgan.data.sources import celeba
from dcgan.report import card, page, published
from dcgan.training.step import COLUMNS

PICTURES = (
    "samples.png",
    "real_and_generated.png",
    "interpolation.png",
    "sheet.png",
    "progress.gif",
    "real.png",
    "mean.png",
    "neighbours.png",
)


def picture(name: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, name.rsplit(".")[-1].upper())
    return out.getvalue()


def arguments(name: str, network: str, **changed: Any) -> dict[str, Any]:
    metrics: dict[str, Any] = {name: 123.4, f"{name}_untrained": 1000.5, f"{name}_grey": 900.25, f"{name}_floor": 45.6}
    metrics |= {"network": network, "samples": 2000, "reference_count": 4000, "reference_split": "train"}
    metrics |= {f"{name}_mean": 124.5, f"{name}_std": 1.5, "repeats": 3, "floor_count": 500, "precision": 0.75}
    metrics |= {"untrained_samples": 2000, "scores_count": 500, "seed": 1, f"{name}_at_floor_count": 130.5}
    metrics |= {"floor_split": "test", "floor_reference": "train", "precision_floor": 0.875}
    metrics |= {"samples_of_copies": 2000, "valid_of_copies": 500, "test_of_copies": 500, "copies_verdict": "copies"}
    metrics |= {"copies": 0.0315, "copies_low": 0.02, "copies_high": 0.05, "copies_floor": 0.012}
    metrics |= {"dataset": "drawn", "crop_size": None, "image_size": 64, "nc": 3}
    losses = pd.DataFrame({"step": np.arange(1, 4), **{c: np.linspace(0.1, 0.9, 3) for c in COLUMNS}})
    return {
        "metrics": metrics,
        "data": {
            "source": {"name": "drawn", "licence": "free", "citation": "A: B. 2020", "url": "https://example.org"},
            "faces": {"train": 4000, "valid": 500, "test": 500},
            "pixels": {"crop_size": None, "image_size": 64, "nc": 3, "refuse_enlarged": False},
            "channels": {"mean": [0.5, 0.25, 0.125], "std": [0.1, 0.2, 0.3]},
            "attributes": {"Smiling": {"train": 0.5, "valid": 0.4, "test": 0.3}, "Bald": dict.fromkeys(SPLITS, 0.0)},
            "duplicates": {"pictures": 3, "across_splits": 2, "groups": [["a.jpg", "b.jpg"]]},
            "dataset_size": {"taken": 5000, "of": 5200},
            "passed_over": [{"reason": "it is hidden", "ending": f"{i}", "files": i, "first": "x"} for i in range(22)],
            "enlarged": 17,
            "bad": [{"file": f"{i}.jpg", "reason": "it is truncated"} for i in range(25)],
        },
        "model": {"settings": {"ngf": 32}, "keep": "last"},
        "losses": losses,
        "pictures": {key: picture(key) for key in PICTURES},
    } | changed


def test_the_page_needs_nothing_else() -> None:
    html = page.render(**arguments("frechet_distance", "efficientnet_lite0"))
    assert len(re.findall(r'src="data:image/(png|gif);base64,', html)) == len(PICTURES)
    assert not re.findall(r'(src="(?!data:)|<link|<script|url\((?!#))', html)  # links to read are no needs
    assert "5000 of 5200 pictures were taken" in html and "17 pictures are smaller than that and were enlarged" in html
    assert html.count("<td>it is hidden</td>") == 20 and "And 2 more kinds" in html
    for number in ("123.4", "124.5 ± 1.5", "1000.5", "900.25", "45.6", "0.75"):
        assert number in html


def tables(html: str) -> list[list[list[str]]]:
    """The text of each cell, by table and row."""
    found = re.findall(r"<table>(.*?)</table>", html, re.DOTALL)
    rows = [re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL) for table in found]
    cells = [[re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in table] for table in rows]
    return [[[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in table] for table in cells]


def test_each_number_stands_in_a_column_that_names_its_count() -> None:
    given = arguments("fid", "inception")
    distance, scores, *_ = tables(page.render(**given))
    assert distance[:2] == [["FID", "of 2000 faces", "of 500 faces"], ["this generator", "123.4", "130.5"]]
    assert distance[-1][1:] == ["", "45.6"] and "real faces of the test split" in distance[-1][0]
    assert scores[0] == ["", "500 generated, 500 of “train”", "floor: 500 of “test”, 500 of “train”"]
    assert scores[1][1:] == ["0.75", "0.875"]

    as_many = given["metrics"] | {"floor_count": 2000, "fid_at_floor_count": 123.4}
    distance, *_ = tables(page.render(**given | {"metrics": as_many}))
    assert distance[0] == ["FID", "of 2000 faces"] and distance[-1][1:] == ["45.6"]

    without = {key: value for key, value in given["metrics"].items() if "_floor" not in key}
    distance, scores, *_ = tables(page.render(**given | {"metrics": without | {"scores_count": 2000}}))
    assert distance[0] == ["FID", "of 2000 faces"] and "floor" not in str(distance)
    assert scores[0] == ["", "2000 generated, 2000 of “train”"] and scores[1][1:] == ["0.75"]


def test_the_model_card_has_the_counts_of_its_numbers() -> None:
    given = arguments("fid", "inception")
    params = {
        "dataset": "x",
        "nz": 1,
        "latent": "normal",
        "architecture": "conv",
        "loss": "bce",
        "epochs": 1,
        "seed": 1,
    }
    text = card.render(given["metrics"], given["data"], params | {"train_split": "train"})
    assert "FID: **123.4**, between 2000 generated pictures and the 4000 real pictures of the split `train`" in text
    assert "500 real test pictures 45.6, 500 generated pictures 130.5." in text
    assert "With 500 pictures on both sides: precision 0.75 (real pictures 0.875)." in text


@pytest.mark.parametrize(("name", "network"), [("fid", "inception"), ("frechet_distance", "efficientnet_lite0")])
def test_only_inceptions_distance_is_called_fid(name: str, network: str) -> None:
    html = page.render(**arguments(name, network))
    assert ("This is not FID" in html) == (name != "fid")
    assert ("<title>DCGAN: FID 123.4</title>" in html) == (name == "fid")


ALL = {"kernel_distance": 0.1}  # beside those of `arguments`
CELEBA = {"dataset": celeba.SOURCE.name, "samples": 50_000, "reference_split": "all", "reference_count": 202_599}


def of_celeba(**changed: Any) -> dict[str, Any]:
    given = arguments("fid", "inception")
    return given | {"metrics": given["metrics"] | CELEBA | changed}


def rows(html: str) -> list[str]:
    """The table of published results."""
    table = html.partition("<h2>Published results</h2>")[2].partition("</table>")[0]
    return [re.sub(r"<[^>]*>", " ", row) for row in table.split("<tr>")[2:]]


def test_a_run_stands_beside_published_results_of_the_same_protocol_alone() -> None:
    mine = published.Published("the same", 20.0, "x", "178", 50_000, "all", published._INCEPTION, "the last")
    others = [mine, replace(mine, model="cropped", crop="108"), replace(mine, model="silent", samples=None)]
    this, *found = rows(page.render(**of_celeba(), results=others))
    assert "this run" in this and "123.4" in this
    same, cropped, silent = (next(row for row in found if other.model in row) for other in others)
    assert "not comparable" not in same
    assert "not comparable: crop: 108" in cropped and "samples" not in cropped
    assert "not comparable: samples: not known" in silent and "crop" not in silent


def test_no_published_result_that_is_known_has_exactly_our_protocol() -> None:
    """They are shown all the same, each with what tells it apart."""
    for metrics in (of_celeba()["metrics"], of_celeba(reference_split="train", reference_count=162_770)["metrics"]):
        for other in published.PUBLISHED:
            assert published.differences(metrics, other), other
    assert len(rows(page.render(**of_celeba()))) == 1 + len(published.PUBLISHED)


@pytest.mark.parametrize("changed", [{"dataset": "drawn"}, {"image_size": 128}, {"nc": 1}])
def test_a_run_of_other_pictures_stands_beside_none(changed: dict[str, Any]) -> None:
    html = page.render(**of_celeba(**changed))
    assert "No published result uses the protocol of this run" in html and "Heusel" not in html


def test_another_network_stands_beside_none() -> None:
    given = arguments("frechet_distance", "efficientnet_lite0")
    html = page.render(**given | {"metrics": given["metrics"] | CELEBA})
    assert "No published result uses the protocol of this run" in html and "Heusel" not in html


def test_distances_while_training_are_a_curve_of_their_own() -> None:
    losses = arguments("fid", "inception")["losses"]
    assert "while training" not in page.render(**arguments("fid", "inception"))
    measured = losses.assign(quick_frechet_distance=[np.nan, 300.0, 200.0])
    assert "while training" in page.render(**arguments("fid", "inception", losses=measured))


def test_the_same_run_gives_the_same_bytes() -> None:
    assert page.render(**arguments("fid", "inception")) == page.render(**arguments("fid", "inception"))


def test_what_pictures_are_called_cannot_inject_html() -> None:
    data = arguments("fid", "inception")["data"] | {
        "attributes": {"<script>alert(1)</script>": dict.fromkeys(SPLITS, 0.5)}
    }
    data["bad"] = [{"file": "<script>alert(2)</script>.jpg", "reason": "<script>"}]
    assert "<script>" not in page.render(**arguments("fid", "inception", data=data))


def test_the_data_card_is_on_the_page() -> None:
    html = page.render(**arguments("fid", "inception"))
    for words in ("A: B. 2020", "https://example.org", "free", "50.0 %", "30.0 %", "0.125", "19.jpg", "And 5 more"):
        assert words in html, words
    assert "in more than one split: 2</strong>" in html and "20.jpg" not in html and "Bald" not in html


def test_a_data_set_without_attributes_citation_and_faults_has_a_page() -> None:
    data = arguments("fid", "inception")["data"] | {"attributes": {}, "bad": []}
    data["source"] = data["source"] | {"citation": "", "url": ""}
    data["duplicates"] = {"pictures": 0, "across_splits": 0, "groups": []}
    html = page.render(**arguments("fid", "inception", data=data))
    assert "citation" not in html and "more than one split" not in html and "0 pictures could not be used." in html


def test_the_share_of_copies_is_a_sentence() -> None:
    given = arguments("fid", "inception")
    html = " ".join(page.render(**given).split())
    assert (
        "Copies: 3.1% of 2000 generated faces are nearer to a training face than the nearest 1 % of 500 unseen real "
        "faces are (interval of 95 %: 2.0% to 5.0%; of real test faces, 1.2%). Verdict: copies." in html
    )
    far = {"copies": None, "copies_low": None, "copies_high": None, "copies_verdict": "cannot tell"}
    html = page.render(**given | {"metrics": given["metrics"] | far})
    assert "Copies:" not in html and "so far from all real faces that copies would be missed" in html


def test_what_there_were_too_few_faces_for_is_named_on_the_page() -> None:
    given = arguments("frechet_distance", "efficientnet_lite0")
    assert "Left out" not in page.render(**given | {"metrics": given["metrics"] | ALL})
    few = {key: value for key, value in given["metrics"].items() if not isinstance(value, float)}
    few |= {"reference_count": None, "scores_count": 0, "floor_count": None}
    data = given["data"] | {"faces": {"train": 0, "valid": 1, "test": 2}}
    html = page.render(**given | {"metrics": few, "data": data})
    assert "No distance was measured" in html and "since the split train has fewer than 2 faces" in html
    assert "64 faces of all splits" in html and "None" not in html
