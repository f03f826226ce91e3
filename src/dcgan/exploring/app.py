"""The explorer's page, a marimo app. `dcgan explore` serves it; what it shows is computed by `explorer`."""

import marimo

app = marimo.App(width="medium", app_title="DCGAN explorer")


with app.setup:
    import json
    from pathlib import Path

    import marimo as mo
    import numpy as np

    from dcgan.exploring import explorer as ex
    from dcgan.exploring.projection import project
    from dcgan.system.errors import UserError
    from dcgan.system.project_files import ATTRIBUTES, DIRECTIONS, FACES, REPORTS


@app.function
def shown(picture, alt):
    """Returns a picture (H, W, C) for the page, its pixels not blurred."""
    height, width = picture.shape[:2]
    style = {"image-rendering": "pixelated", "max-width": "100%"}
    return mo.image(ex.png(picture), alt=alt, width=width, height=height, style=style)


@app.cell
def _():
    options = mo.cli_args()
    root = Path(options.get("root"))
    explorer = ex.Explorer(Path(options.get("model")), root / DIRECTIONS, root / FACES, root / REPORTS / "data.json")
    file = root / ATTRIBUTES
    scores = json.loads(file.read_text())["attributes"] if explorer.attributes and file.is_file() else {}
    mo.md(f"# Explorer\n\n{options.get('name')}, {explorer.settings.image_size}x{explorer.settings.image_size} pixels")
    return explorer, options, scores


@app.cell
def _(explorer, options, scores):
    def label(name):
        told = scores.get(name, {}).get("balanced_accuracy")
        words = f"{name.replace('_', ' ')} ({told:.2f})" if told else name
        return f'<span style="display: inline-block; width: 13em">{words}</span>'

    seed = mo.ui.number(0, 2**32 - 1, value=int(options.get("seed")), step=1, label="seed")
    reset = mo.ui.button(label="Sliders to 0")
    return label, reset, seed


@app.cell
def _(explorer, label, reset):
    reset  # noqa: B018 - a click makes the sliders anew
    sliders = mo.ui.array(
        [mo.ui.slider(-3, 3, step=0.1, value=0, label=label(name), show_value=True) for name in explorer.names]
    )
    return (sliders,)


@app.cell
def _(explorer, seed, sliders):
    latents = explorer.latents(int(seed.value or 0), sliders.value)
    faces = explorer.faces(latents)
    grid = ex.sheet(faces)
    return faces, grid, latents


@app.cell
def _(explorer, grid, reset, seed, sliders):
    split = len(explorer.attributes)
    groups = []
    if split:
        groups.append(mo.md("**attributes** (balanced accuracy of the probe)"))
        groups += [sliders[number] for number in range(split)]
    groups.append(mo.md("**principal directions** of the first layer"))
    groups += [sliders[number] for number in range(split, len(explorer.names))]
    save = mo.download(ex.png(grid), filename="faces.png", mimetype="image/png", label="PNG")
    left = mo.vstack([mo.hstack([seed, reset, save], justify="start"), shown(grid, "16 generated faces")])
    mo.hstack([left, mo.vstack(groups, gap=0.2)], justify="start", align="start", gap=2)
    return


@app.cell
def _():
    numbers = {f"face {number + 1}": number for number in range(ex.FACES)}
    start = mo.ui.dropdown(numbers, value="face 1", label="from")
    end = mo.ui.dropdown(numbers, value="face 2", label="to")
    one = mo.ui.dropdown(numbers, value="face 1", label="nearest to")
    search = mo.ui.run_button(label="Search")
    return end, one, search, start


@app.cell
def _(end, explorer, latents, start):
    ends = latents[start.value], latents[end.value]
    strip = ex.sheet(explorer.walk(*ends, steps=7), 7)
    animation = mo.download(
        lambda: ex.gif(ex.enlarged(explorer.walk(*ends))), filename="walk.gif", mimetype="image/gif", label="GIF"
    )
    save_strip = mo.download(ex.png(strip), filename="walk.png", mimetype="image/png", label="PNG")
    mo.vstack(
        [
            mo.md("## A walk between two faces"),
            mo.hstack([start, end, save_strip, animation], justify="start"),
            shown(strip, "faces on the way from one face to another"),
        ]
    )
    return


@app.cell
def _(explorer, faces, one, search):
    def near():
        if not search.value:
            return mo.md("The faces of the training set that look most like it; the first search takes longer.")
        try:
            found, apart = explorer.nearest(faces[one.value])
        except UserError as error:
            return mo.callout(str(error), kind="warn")
        both = np.concatenate([faces[one.value][None], found])
        told = ", ".join(f"{value:.2f}" for value in apart)
        return mo.vstack(
            [shown(ex.sheet(both, len(both)), "a face and its nearest training faces"), mo.md(f"distances: {told}")]
        )

    mo.vstack([mo.md("## Nearest training faces"), mo.hstack([one, search], justify="start"), near()])
    return


@app.cell
def _():
    upload = mo.ui.file(kind="area", label="Drop a picture here, or click to choose one", max_size=50_000_000)
    first_layer = mo.ui.checkbox(label="also adjust the first layer (closer, but no latent gives exactly this face)")
    mo.vstack([mo.md("## Find my face"), upload, first_layer])
    return first_layer, upload


@app.cell
def _(explorer, first_layer, upload):
    def find():
        if not upload.value:
            return mo.md(
                "The picture is cropped as the pipeline crops, and a latent is searched whose face is nearest."
            )
        try:
            picture = explorer.read(upload.name(), upload.contents())
        except UserError as error:
            return mo.callout(str(error), kind="warn")
        with mo.status.progress_bar(total=100, title="Searching", remove_on_exit=True) as bar:
            done = 0

            def on_step(step, steps):
                nonlocal done
                now = 100 * step // steps
                if now > done:
                    bar.update(now - done)
                    done = now

            found = project(explorer.generator, picture, first_layer=first_layer.value, on_step=on_step)
        both = np.stack([picture, found.picture])
        save = mo.download(ex.png(ex.sheet(both, 2)), filename="found.png", mimetype="image/png", label="PNG")
        told = f"mean error {found.error:.1f} of 255 levels, after {found.steps} steps"
        return mo.vstack([shown(ex.sheet(both, 2), "the picture, and the nearest face found"), mo.md(told), save])

    find()
    return


if __name__ == "__main__":
    app.run()
