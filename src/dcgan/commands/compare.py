"""`dcgan compare`: settings against each other, each by the mean and the spread of its seeds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcgan.commands.common import add_command, project_root
from dcgan.system.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from dcgan.tracking.measured import Measured

_MORE = """Runs that differ in nothing but `seed` are one setting. The columns are the parameters that differ between
the settings, the number of seeds, the mean and the standard deviation (n - 1) over them, the floor if it was
measured, and the difference from the best mean with a 95 % interval. A setting is the best only if all of its
intervals exclude 0. Runs are compared only if they were measured in the same way; what is left out is named."""

_FORMATS = {"table": "simple", "markdown": "pipe"}  # names of tabulate's


def add(commands: Any) -> None:
    """Adds the command."""
    compare = add_command(
        commands,
        "compare",
        _compare,
        "compare settings by the mean of a metric over seeds, and say which differences lie beyond the seeds",
        "dcgan compare --metric sample_precision --format markdown",
        _MORE,
    )
    compare.add_argument(
        "names", nargs="*", metavar="NAME", help="experiments, commits or runs to compare; default: all that are listed"
    )
    compare.add_argument("--metric", metavar="NAME", help="a metric of reports/metrics.json; default: the distance")
    compare.add_argument(
        "--best", choices=("lowest", "highest"), help="which side of the metric is better, if its name does not tell"
    )
    compare.add_argument("--format", choices=("table", "csv", "markdown"), default="table", help="default: table")
    compare.add_argument(
        "--source",
        choices=("dvc", "mlflow"),
        default="dvc",
        help="dvc: HEAD and the experiments of `dvc exp show`; mlflow: the runs in MLflow; default: dvc",
    )
    compare.add_argument(
        "--all-commits", action="store_true", help="with DVC: all commits with their experiments, not only HEAD's"
    )


def _compare(options: argparse.Namespace) -> None:
    from dcgan.tracking import comparison, measured

    root = project_root()
    runs = measured.of_mlflow(root) if options.source == "mlflow" else measured.of_dvc(root, options.all_commits)
    runs = _chosen(runs, options.names, root)
    if not runs:
        raise UserError(f"compare: {options.source} lists no run; make some with `dvc exp run -S seed=2`.")
    result = comparison.compare(runs, options.metric, options.best)
    csv = options.format == "csv"
    about = sys.stderr if csv else sys.stdout  # so that the output is CSV alone
    print(result.title, end="\n\n", file=about)
    print(result.table.to_csv(index=False) if csv else _drawn(result.table, result.parameters, options.format), end="")
    print("", *result.verdict, *result.notes, sep="\n", file=about)


def _chosen(runs: list[Measured], names: list[str], root: Path) -> list[Measured]:
    """The runs with these names; all if there are none."""
    for name in names:
        if not any(name in (run.name, *run.aliases) for run in runs):
            raise UserError(f"{name}: it is none of the {len(runs)} runs that are listed for {root}; give their names.")
    return [run for run in runs if not names or {run.name, *run.aliases} & set(names)]


def _drawn(table: pd.DataFrame, parameters: list[str], form: str) -> str:
    """The table as text; its numbers have six significant digits, as those of metrics.json."""
    texts = table.map(lambda value: value if isinstance(value, str) else "" if value != value else f"{value:.6g}")
    sides = ["left" if name in parameters else "right" for name in table.columns]
    return str(texts.to_markdown(index=False, tablefmt=_FORMATS[form], colalign=sides, disable_numparse=True)) + "\n"
