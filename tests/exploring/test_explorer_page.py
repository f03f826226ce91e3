"""The explorer in a real browser, served as `make explore` serves it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, need_browser
from conftest import made_once
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from project import ROOT, Project
from servers import free_port, running

from dcgan.exploring import direction_file
from dcgan.exploring.principal import principal_directions
from dcgan.networks import Settings, build, save
from dcgan.sampling import random_state, refresh_batch_norm
from dcgan.system.files import sha256

pytestmark = pytest.mark.long
TIMEOUT = 120_000  # milliseconds
GRID = "16 generated faces"


@pytest.fixture(scope="module")
def packages(shared: Path) -> str:
    """A folder with the packages that `make explore` installs; empty if they are installed here."""
    if importlib.util.find_spec("marimo"):
        return ""

    def install(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, "-r", str(ROOT / "requirements-explore.txt")], check=True)

    return str(made_once(shared / "explorer", install))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Project:
    """A project with a generator, one named direction, and training faces."""
    project = Project.create(tmp_path_factory.mktemp("explorer") / "project")
    settings = Settings(nz=8, ngf=4, ndf=4)
    generator = build(settings, random_state(1, "weights"))[0]
    refresh_batch_norm(generator, 1, batches=1)
    model = project.folder / "models" / "generator.safetensors"
    save(model, generator.eval(), settings, {"train_split": "train"})
    vectors = principal_directions(generator, 3)[0]
    named = direction_file.Directions(["Wearing_Hat"], vectors[2:], vectors[:2])
    direction_file.save(model.with_name("directions.safetensors"), named, sha256(model))
    scores = {"attributes": {"Wearing_Hat": {"balanced_accuracy": 0.876}}}
    (project.folder / "reports" / "attributes.json").write_text(json.dumps(scores))
    shutil.copytree(faces, project.folder / "data" / "faces")
    return project


@pytest.fixture(scope="module")
def address(project: Project, packages: str) -> Iterator[str]:
    need_browser()
    port = free_port()
    environment = [f"VENV={Path(sys.executable).parent.parent}", "INSTALLED=", "EXPLORER="]
    env = project.env | {"PYTHONPATH": os.pathsep.join(filter(None, [project.env["PYTHONPATH"], packages]))}
    command = ["make", "explore", f"PORT={port}", *environment]
    if packages:  # make's PYTHONPATH is the project's alone
        command = [sys.executable, "-m", "dcgan", "explore", "--port", str(port)]
    with running(command, f"http://127.0.0.1:{port}/health", project.folder, env):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1300, "height": 1800})
        page.set_default_timeout(TIMEOUT)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address, wait_until="commit")
        expect(page.get_by_alt_text(GRID)).to_be_visible(timeout=TIMEOUT)
        yield page


asked: list[str] = []  # addresses that the page has requested


# A picture that another is about to take the place of has no address any more.
_DIGEST = """async alt => {
    const image = document.querySelector(`img[alt="${alt}"]`);
    const answer = await fetch(image.src).catch(() => null);
    if (!answer || !answer.ok) return "";
    const digest = await crypto.subtle.digest("SHA-256", await answer.arrayBuffer());
    return Array.from(new Uint8Array(digest)).join(" ");
}"""


def shown(page: Page) -> str:
    """A hash of the picture of the grid, whose address is another each time."""
    return str(page.wait_for_function(_DIGEST, arg=GRID).json_value())


def wait_for(page: Page, picture: str, other: bool = False) -> None:
    """Waits until the grid shows the picture with this hash, or another one."""
    page.wait_for_function(
        f"""async ([alt, picture, other]) => {{
            const now = await ({_DIGEST})(alt);
            return now !== "" && (now === picture) !== other;
        }}""",
        arg=[GRID, picture, other],
    )


def pixels(image: Locator, page: Page, tmp_path: Path) -> np.ndarray:
    """The pixels of an image on the page, whatever its address."""
    data = image.evaluate("""async image => Array.from(new Uint8Array(await (await fetch(image.src)).arrayBuffer()))""")
    path = tmp_path / "picture.png"
    path.write_bytes(bytes(data))
    return np.asarray(Image.open(path))


def upload(page: Page, path: Path) -> None:
    page.locator("input[type=file]").set_input_files(path)


def test_the_grid_shows_the_faces_of_dcgan_generate(page: Page, project: Project, tmp_path: Path) -> None:
    project.run("dcgan", "generate", "--count", "16", "--out", str(tmp_path / "faces"), check=True)
    picture = pixels(page.get_by_alt_text(GRID), page, tmp_path)
    for number, path in enumerate(sorted((tmp_path / "faces").iterdir())):
        top, left = 2 + number // 4 * 66, 2 + number % 4 * 66
        assert np.array_equal(picture[top : top + 64, left : left + 64], np.asarray(Image.open(path)))


def test_a_slider_changes_the_faces_and_back(page: Page) -> None:
    expect(page.get_by_text("Wearing Hat (0.88)").filter(visible=True)).to_have_count(1)
    before = shown(page)
    slider = page.get_by_role("slider").first
    slider.press("ArrowRight")
    wait_for(page, before, other=True)
    slider.press("ArrowLeft")
    wait_for(page, before)


def test_another_seed_gives_other_faces_and_the_same_seed_the_same(page: Page) -> None:
    before = shown(page)
    seed = page.get_by_role("textbox", name="seed")
    for value, other in (("7", True), ("1", False)):
        seed.fill(value)
        seed.press("Enter")
        wait_for(page, before, other)


def test_pictures_can_be_saved(page: Page, tmp_path: Path) -> None:
    for name, kind in (("PNG", "PNG"), ("GIF", "GIF")):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).or_(page.get_by_role("button", name=name)).first.click()
        download.value.save_as(tmp_path / name)
        assert Image.open(tmp_path / name).format == kind


def test_the_nearest_training_faces_are_shown(page: Page) -> None:
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_alt_text("a face and its nearest training faces")).to_be_visible(timeout=TIMEOUT)


def test_a_picture_is_found_and_shown_beside_with_its_error(page: Page, tmp_path: Path) -> None:
    picture = tmp_path / "me.png"
    Image.new("RGB", (80, 100), "grey").save(picture)
    upload(page, picture)
    expect(page.get_by_alt_text("the picture, and the nearest face found")).to_be_visible(timeout=TIMEOUT)
    expect(page.get_by_text("mean error")).to_be_visible()


def test_what_is_no_picture_gets_a_sentence(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "me.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 cut off")
    upload(page, broken)
    expect(page.get_by_text("me.jpg: ")).to_be_visible(timeout=TIMEOUT)
    expect(page.get_by_text("; give another picture.")).to_be_visible()
    expect(page.get_by_alt_text(GRID)).to_be_visible()


def test_nothing_is_asked_of_other_machines(page: Page, address: str) -> None:
    assert asked and not [url for url in asked if not url.startswith((address, "data:", "blob:"))]


def test_it_listens_on_this_machine_alone(address: str) -> None:
    port = f"{int(address.rpartition(':')[2]):04X}"
    listening = [
        line.split()[1]
        for file in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(file).exists()
        for line in Path(file).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert [place for place in listening if place.endswith(f":{port}")] in ([f"0100007F:{port}"], [])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "none.safetensors"], "none.safetensors: there is no such file"),
        (["--model", "params.yaml"], "it does not hold a network that this project saved"),
        (["--model", "models:/none@champion"], "models:/none@champion: the store has no such generator"),
        (["--port", "70000"], "port 70000: it is in use, or not allowed"),
    ],
)
def test_mistakes_get_a_sentence(project: Project, packages: str, words: list[str], sentence: str) -> None:
    path = os.pathsep.join(filter(None, [project.env["PYTHONPATH"], packages]))
    result = project.run(sys.executable, "-m", "dcgan", "explore", *words, PYTHONPATH=path)
    assert result.returncode == 1 and sentence in result.stdout and "Traceback" not in result.stdout
