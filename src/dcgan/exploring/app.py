"""The explorer's page, a marimo app. `dcgan explore` serves it; what it shows is computed by `explorer`."""

import marimo

app = marimo.App(width="medium", app_title="DCGAN explorer")


with app.setup:
    import json
    from pathlib import Path

    import marimo as mo
    import numpy as np

    from dcgan.data.images import grid
    from dcgan.exploring import explorer as ex
    from dcgan.exploring.projection import project
    from dcgan.system.errors import UserError
    from dcgan.system.project_files import ATTRIBUTES, DIRECTIONS, FACES, REPORTS


@app.cell
def _():
    options = mo.cli_args()
    root = Path(options.get("root"))
    explorer = ex.Explorer(Path(options.get("model")), root / DIRECTIONS, root / FACES, root / REPORTS / "data.json")
    file = root / ATTRIBUTES
    scores = json.loads(file.read_text())["attributes"] if explorer.attributes and file.is_file() else {}

    def shown(picture, alt):
        """A picture (H, W, C) on the page, enlarged by the browser."""
        style = {"image-rendering": "pixelated", "max-width": "100%", "height": "auto"}
        return mo.image(ex.png(picture), alt=alt, width=explorer.zoom * picture.shape[1], style=style)

    def saved(make, name, kind):
        """A button that saves what `make` returns; it is computed only then."""
        return mo.download(make, filename=f"{name}.{kind}", mimetype=f"image/{kind}", label=kind.upper())

    side = explorer.settings.image_size
    mo.md(f"# Explorer\n\n{options.get('name')}, {side}x{side} pixels")
    return explorer, options, saved, scores, shown


@app.cell
def _(options):
    seed = mo.ui.number(0, 2**32 - 1, value=int(options.get("seed")), step=1, label="seed")
    reset = mo.ui.button(label="Sliders to 0")
    mo.hstack([seed, reset], justify="start")
    return reset, seed


@app.cell
def _(explorer, reset, scores):
    reset  # noqa: B018 - a click makes the sliders anew

    def label(name):
        told = scores.get(name, {}).get("balanced_accuracy")
        words = f"{name.replace('_', ' ')} ({told:.2f})" if told else name
        return f'<span style="display: inline-block; width: 13em">{words}</span>'

    sliders = mo.ui.array(
        [mo.ui.slider(-3, 3, step=0.1, value=0, label=label(name), show_value=True) for name in explorer.names]
    )
    return (sliders,)


@app.cell
def _(explorer, sliders):
    split = len(explorer.attributes)
    groups = []
    if split:
        groups.append(mo.md("**attributes** (balanced accuracy of the probe)"))
        groups += [sliders[number] for number in range(split)]
    groups.append(mo.md("**principal directions** of the first layer"))
    groups += [sliders[number] for number in range(split, len(explorer.names))]
    mo.sidebar(mo.vstack(groups, gap=0.2), width="26rem")
    return


@app.cell
def _(explorer, seed, sliders):
    latents = explorer.latents(int(seed.value or 0), sliders.value)
    faces = explorer.faces(latents)
    return faces, latents


@app.cell
def _(faces, shown):
    shown(grid(faces, ex.COLUMNS), "16 generated faces")
    return


@app.cell
def _(faces, saved):
    saved(lambda: ex.png(grid(faces, ex.COLUMNS)), "faces", "png")
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
def _(end, explorer, latents, saved, shown, start):
    ends = latents[start.value], latents[end.value]
    strip = grid(explorer.walk(*ends, steps=7), 7)
    save_strip = saved(lambda: ex.png(strip), "walk", "png")
    animation = saved(lambda: ex.gif(explorer.walk(*ends)), "walk", "gif")
    mo.vstack(
        [
            mo.md("## A walk between two faces"),
            mo.hstack([start, end, save_strip, animation], justify="start"),
            shown(strip, "faces on the way from one face to another"),
        ]
    )
    return


@app.cell
def _(explorer, faces, one, search, shown):
    def near():
        if not search.value:
            return mo.md("The faces of the training set that look most like it; the first search takes longer.")
        try:
            found, apart = explorer.nearest(faces[one.value])
        except UserError as error:
            return mo.callout(str(error), kind="warn")
        both = np.concatenate([faces[one.value][None], found])
        told = ", ".join(f"{value:.2f}" for value in apart)
        picture = shown(grid(both, len(both)), "a face and its nearest training faces")
        return mo.vstack([picture, mo.md(f"distances: {told}")])

    mo.vstack([mo.md("## Nearest training faces"), mo.hstack([one, search], justify="start"), near()])
    return


@app.cell
def _():
    upload = mo.ui.file(kind="area", label="Drop a picture here, or click to choose one", max_size=50_000_000)
    first_layer = mo.ui.checkbox(label="also adjust the first layer (closer, but no latent gives exactly this face)")
    mo.vstack([mo.md("## Find my face"), upload, first_layer])
    return first_layer, upload


@app.cell
def _(explorer, first_layer, saved, shown, upload):
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
        both = grid(np.stack([picture, found.picture]), 2)
        told = f"mean error {found.error:.1f} of 255 levels, after {found.steps} steps"
        picture = shown(both, "the picture, and the nearest face found")
        return mo.vstack([picture, mo.md(told), saved(lambda: ex.png(both), "found", "png")])

    find()
    return


if __name__ == "__main__":
    app.run()
