"""MLflow's UI, opened in a real browser on the run of a real `dvc repro`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from browser import chromium, need_browser
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from project import Project, runs
from servers import free_port, running

from dcgan.commands import ui as ui_command

TIMEOUT = 60_000  # milliseconds
DISTANCE = "distance/frechet_distance"


@pytest.fixture(scope="module")
def ui(reproduced: Project) -> Iterator[str]:
    """The address of `make ui` on a free port."""
    need_browser()
    port = free_port()
    command = ["make", "ui", f"PORT={port}", f"VENV={Path(sys.executable).parent.parent}", "INSTALLED="]
    address = f"http://127.0.0.1:{port}"
    with running(command, f"{address}/health", reproduced.folder, reproduced.env):
        yield address


@pytest.fixture(scope="module")
def page(ui: str) -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        page.set_default_timeout(TIMEOUT)
        yield page


@pytest.fixture(scope="module")
def run(reproduced: Project) -> mlflow.entities.Run:
    return runs(reproduced)[0]


def test_the_runs_table_lists_the_run(ui: str, page: Page, run: mlflow.entities.Run) -> None:
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs")
    expect(page.get_by_role("link", name=run.info.run_name)).to_be_visible(timeout=TIMEOUT)


def test_the_run_shows_its_parameters_and_metrics(
    ui: str, page: Page, run: mlflow.entities.Run, reproduced: Project
) -> None:
    distance = json.loads(reproduced.read("reports/metrics.json"))["frechet_distance"]
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    expect(page.get_by_text("distance/frechet_distance", exact=True).first).to_be_visible(timeout=TIMEOUT)
    expect(page.get_by_text(f"{distance:g}").first).to_be_visible()
    expect(page.get_by_text("ema_halflife_kimg").first).to_be_visible()


def test_the_run_draws_its_curves(ui: str, page: Page, run: mlflow.entities.Run) -> None:
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/model-metrics")
    for name in ("loss/d_loss", "loss/g_loss"):
        page.get_by_placeholder("Search metric charts").fill(name)
        expect(page.get_by_text(f"{run.info.run_name} ({name})").first).to_be_visible(timeout=TIMEOUT)


def test_the_run_shows_its_samples(ui: str, page: Page, run: mlflow.entities.Run) -> None:
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/samples.png")
    picture = page.locator("img[src^='blob:'], img[src*='get-artifact']").first
    expect(picture).to_be_visible(timeout=TIMEOUT)
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 8 * 34 + 2


def test_the_table_shows_parameters_and_distances_as_columns(
    ui: str, page: Page, run: mlflow.entities.Run, reproduced: Project
) -> None:
    distance = json.loads(reproduced.read("reports/metrics.json"))["frechet_distance"]
    page.set_viewport_size({"width": 2600, "height": 1200})  # the table draws those columns alone that can be seen
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs")
    expect(page.get_by_role("link", name=run.info.run_name)).to_be_visible(timeout=TIMEOUT)  # then columns are known
    for column, value in (("lr", "0.001"), (DISTANCE, f"{distance:g}")):
        header, search = page.get_by_test_id(f"sort-header-{column}"), page.get_by_placeholder("Search columns")
        while not header.is_visible():  # a click is lost where the list is drawn anew under it
            if not search.is_visible():
                page.get_by_role("button", name="Columns").click()
            search.fill(column)
            page.get_by_text(column, exact=True).first.click()
            with contextlib.suppress(PlaywrightTimeout):
                header.wait_for(timeout=5000)
        expect(page.get_by_text(value, exact=True).first).to_be_visible(timeout=TIMEOUT)


def test_the_view_that_it_keeps_shows_the_runs_with_the_smallest_distance_first(
    ui: str, page: Page, run: mlflow.entities.Run
) -> None:
    link = ui_command.link(int(ui.rpartition(":")[2]), run.info.experiment_id)
    assert link.startswith(ui)
    page.set_viewport_size({"width": 1400, "height": 900})  # of a laptop, with MLflow's assistant open beside the table
    page.goto(link)
    expect(page.get_by_role("link", name=run.info.run_name)).to_be_visible(timeout=TIMEOUT)
    for column in (DISTANCE, "lr", "loss"):
        expect(page.get_by_test_id(f"sort-header-{column}")).to_be_visible()
    expect(page.get_by_test_id("sort-header-nz")).to_have_count(0)
    expect(page.get_by_role("button", name=f"Sort: {DISTANCE}")).to_be_visible()
    assert "orderByAsc=true" in page.url


def test_the_description_tells_the_run_apart_and_shows_its_faces(ui: str, page: Page, run: mlflow.entities.Run) -> None:
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    page.get_by_text("Show more").click(timeout=TIMEOUT)
    expect(page.get_by_text("Parameters as committed.")).to_be_visible()
    expect(page.get_by_text(f"dcgan reproduce {run.info.run_id}")).to_be_visible()
    picture = page.locator("img[src*='get-artifact'][src*='samples.png']")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 8 * 34 + 2


def test_the_slider_shows_the_fixed_latents_by_step(ui: str, page: Page, run: mlflow.entities.Run) -> None:
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("fixed_latents")
    slider = page.get_by_role("slider")
    for step in (0, 3, 6):  # two epochs of three steps
        if step:
            slider.press("ArrowRight")
        picture = page.locator(f"img[src*='fixed_latents%2Bstep%2B{step}%2B']")
        expect(picture).to_be_visible(timeout=TIMEOUT)
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_the_slider_moves_by_mouse_and_shows_faces_of_at_least_100_pixels(
    ui: str, page: Page, run: mlflow.entities.Run
) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("fixed_latents")
    page.locator("button[data-component-id*='fullscreen']").first.click(timeout=TIMEOUT)
    shown = page.get_by_role("dialog")
    track = shown.locator("[data-orientation=horizontal]").first
    expect(track).to_be_visible(timeout=TIMEOUT)
    for step in (0, 6, 0):
        line = track.bounding_box()
        assert line and line["y"] + line["height"] < 800
        page.mouse.click(line["x"] + (line["width"] - 2 if step else 2), line["y"] + line["height"] / 2)
        picture = shown.locator(f"img[src*='fixed_latents%2Bstep%2B{step}%2B']")
        expect(picture).to_be_visible(timeout=TIMEOUT)
        box = picture.bounding_box()
        assert box and box["width"] / 8 >= 100 and box["y"] + box["width"] / 8 < line["y"]  # of eight faces in a row


def test_the_registered_model_has_a_champion_and_a_card(ui: str, page: Page) -> None:
    page.goto(f"{ui}/#/models/dcgan-avatars")
    expect(page.get_by_text("@ champion")).to_be_visible(timeout=TIMEOUT)
    page.get_by_role("link", name="Version 1").click()
    expect(page.get_by_text("Evaluation results")).to_be_visible(timeout=TIMEOUT)
