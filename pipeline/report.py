"""Writes one HTML page about a run: numbers, pictures, curves and data."""

import json
from functools import partial

from dcgan.params import Section
from dcgan.system.project_files import GENERATOR, METRICS, NEIGHBOURS, REPORTS
from pipeline.support.outs import outs
from pipeline.support.record import describe_evaluation, record
from pipeline.support.stage import DATA_PICTURES, PICTURES, run


def main(params: Section) -> None:
    import pandas as pd

    from dcgan.report import page
    from dcgan.system.metadata import read_metadata

    html = page.render(
        metrics=json.loads(METRICS.read_text()),
        data=json.loads((REPORTS / "data.json").read_text()),
        model=read_metadata(GENERATOR),
        losses=pd.read_csv(REPORTS / "losses.csv"),
        pictures={name: (REPORTS / name).read_bytes() for name in (*PICTURES, *DATA_PICTURES, NEIGHBOURS.name)},
    )
    with outs() as new:
        new(REPORTS / "report.html").write_text(html)
    record("the evaluation", partial(describe_evaluation, "report"))


if __name__ == "__main__":
    run(Section, main)
