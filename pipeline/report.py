"""Writes one HTML page about the run: its result, settings, pictures, curves, scores and data."""

import json
from functools import partial

from dcgan.params import load_preset, preset_names
from dcgan.schema import ReportParams
from dcgan.system.project_files import DISTANCES, GENERATOR, LOSSES, METRICS, NEIGHBOURS, PRESETS, REPORT, REPORTS
from pipeline.support.dvc_files import stages
from pipeline.support.outs import outs
from pipeline.support.record import describe_evaluation, record
from pipeline.support.stage import run
from pipeline.support.summary import summary

PICTURES = ("samples.png", "interpolation.png", "sheet.png", "real.png", "mean.png", NEIGHBOURS.name)


def main(params: ReportParams) -> None:
    import pandas as pd

    from dcgan.report import distances, page
    from dcgan.system.files import sha256
    from dcgan.system.metadata import read_metadata

    inputs = page.Inputs(
        metrics=json.loads(METRICS.read_text()),
        data=json.loads((REPORTS / "data.json").read_text()),
        model=read_metadata(GENERATOR),
        generator=sha256(GENERATOR),
        faces=json.loads((REPORTS / "lineage" / "train.json").read_text())["deps"].get("data/faces", "not recorded"),
        params={key: getattr(params, key) for key in stages()["report"]["params"]},  # in the order of params.yaml
        presets={name: load_preset(PRESETS, name).model_dump() for name in preset_names(PRESETS)},
        losses=pd.read_csv(LOSSES),
        pictures={name: (REPORTS / name).read_bytes() for name in PICTURES},
        progress=[path.read_bytes() for path in sorted((REPORTS / "progress").glob("*.png"))],
    )
    with outs() as new:
        new(REPORT).write_text(page.render(inputs))
        distances.table(inputs.metrics, inputs.losses).to_csv(new(DISTANCES), index=False)
    record("the evaluation", partial(describe_evaluation, "report"))
    summary()


if __name__ == "__main__":
    run(ReportParams, main)
