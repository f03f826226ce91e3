"""Checks what dvc.lock says against the lineage files of the outs that are here.

This is not a stage; `python -m dcgan check` runs it.
"""

from dcgan.params import Section
from pipeline.support.dvc_files import stages
from pipeline.support.lineage import check
from pipeline.support.stage import run


def main(params: Section) -> None:
    check(stages())


if __name__ == "__main__":
    run(Section, main)
