"""Compares settings by a metric: runs that differ in their seed alone are a setting, and their spread is its noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from dcgan.metrics.names import FID, FRECHET_DISTANCE, SCORES
from dcgan.system.errors import UserError
from dcgan.tracking.measured import FINISHED, Measured
from dcgan.tracking.metric_groups import plain

CONFIDENCE = 0.95
Best = Literal["lowest", "highest"]
# By the first words of a metric's name. Others, such as `copies`, which should be 0.01, have no better side.
_BEST: dict[str, Best] = {
    FID: "lowest",
    FRECHET_DISTANCE: "lowest",
    "kid": "lowest",
    "kernel_distance": "lowest",
    **dict.fromkeys(SCORES, "highest"),
}
_LISTED = 12  # names in a sentence


@dataclass(frozen=True)
class Comparison:
    """The settings, the best first, and sentences about them.

    `table` has a column for each parameter that differs, then `seeds`, `mean`, `std` (NaN of one seed), `floor` if it
    was measured, and if there are several settings `difference` from the best mean with its interval `low`, `high`.
    """

    table: pd.DataFrame
    parameters: list[str]  # the columns of the parameters that differ
    title: str
    verdict: list[str]
    notes: list[str]  # what was not counted


def compare(runs: Sequence[Measured], metric: str | None = None, best: Best | None = None) -> Comparison:
    """Compares the settings of runs by a metric.

    Args:
        runs: the runs, oldest first.
        metric: its name, with or without its group in MLflow; None: the distance, whichever name it has.
        best: which side of the metric is better; None: as known from its name.

    Raises:
        UserError: no run has the metric, or it is not known which side is better.
    """
    metric = plain(metric) if metric else None
    kept, notes = _finished(runs)
    measured = [run for run in kept if _name(run, metric) in run.metrics]
    wanted = metric or "the distance"
    if missing := [run.name for run in kept if _name(run, metric) not in run.metrics]:
        notes.append(f"Not counted, since {wanted} was not measured: {_list(missing)}.")
    if not measured:
        raise UserError(f"{wanted}: none of the {len(runs)} runs has it. {' '.join(notes)}".strip())
    measured, others = _of_one_protocol(measured)
    name = _name(measured[0], metric)
    better = best or next((side for word, side in _BEST.items() if (name + "_").startswith(word + "_")), None)
    if better is None:
        raise UserError(f"{name}: it is not known which side is better; add --best lowest, or --best highest.")
    measured, repeated = _once_a_seed(measured)
    table, parameters = _settings(measured, name, better)
    verdict = _judge(table, parameters, [run.metrics[name] for run in measured], name, better)
    how = ", ".join(f"{key} {_short(how[key])}" for how in [measured[0].protocol] for key in _SHOWN if key in how)
    title = f"{name} ({better} is best): {_count(len(measured), 'run')}, {_count(len(table), 'setting')}; {how}"
    drop = ["runs"] + (["difference", "low", "high"] if len(table) == 1 else [])
    drop += ["floor"] if table["floor"].isna().all() else []
    return Comparison(
        table.drop(columns=drop), parameters, title.removesuffix("; "), verdict, notes + others + repeated
    )


_SHOWN = ("network", "weights_sha256", "samples", "reference_split", "reference_count")


def _name(run: Measured, metric: str | None) -> str:
    return metric or (FID if FID in run.metrics else FRECHET_DISTANCE)


def _finished(runs: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """The finished runs, and a sentence for each other state."""
    states: dict[str, list[str]] = {}
    for run in runs:
        states.setdefault(run.state, []).append(run.name)
    finished = [run for run in runs if run.state == FINISHED]
    return finished, [
        f"Not counted: {len(n)} {state} ({_list(n)})." for state, n in states.items() if state != FINISHED
    ]


def _of_one_protocol(runs: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """The runs that most were measured like, the newest if equally many; and a sentence about the others."""
    kinds: dict[frozenset[tuple[str, str]], list[Measured]] = {}
    for run in runs:
        kinds.setdefault(frozenset(run.protocol.items()), []).append(run)
    chosen = max(reversed(kinds.values()), key=len)
    others = [
        f"{_list([run.name for run in kind])} ({_against(kind[0].protocol, chosen[0].protocol)})"
        for kind in kinds.values()
        if kind is not chosen
    ]
    note = f"Not compared, since measured otherwise than the other {len(chosen)}: {_list(others, '; ')}."
    return chosen, [note] if others else []


def _against(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """How a protocol differs from ours."""
    keys = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
    return ", ".join(f"{key} {_short(theirs.get(key))}, not {_short(ours.get(key))}" for key in keys)


def _short(value: str | None) -> str:
    """A value in a sentence; a hash by its first digits."""
    if value is None:
        return "unknown"
    return value[:7] if len(value) >= 32 and " " not in value else value


def _once_a_seed(runs: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """The newest run of each setting and seed, since a seed that is repeated says nothing of the spread.

    They are sorted by seed, so that rounding does not depend on the order in which they are listed.
    """
    newest = {(frozenset(run.settings.items()), run.seed): run for run in runs}
    kept = sorted(newest.values(), key=lambda run: (len(run.seed), run.seed))
    left = [run.name for run in runs if not any(run is each for each in kept)]
    note = f"Counted once, since another run has the same settings and seed: {_list(left)}."
    return kept, [note] if left else []


def _settings(runs: Sequence[Measured], metric: str, best: Best) -> tuple[pd.DataFrame, list[str]]:
    """The table of `Comparison`, its intervals still empty, with the rows of `runs` in each setting as `runs`."""
    names = set().union(*(run.settings for run in runs))
    differing = [name for name in sorted(names) if len({run.settings.get(name) for run in runs}) > 1]
    frame = pd.DataFrame([[run.settings.get(name, "") for name in differing] for run in runs], columns=differing)
    by = frame.groupby(differing, sort=False).ngroup() if differing else pd.Series(0, frame.index)
    values = pd.Series([run.metrics[metric] for run in runs])
    floors = pd.Series([run.metrics.get(f"{metric}_floor", math.nan) for run in runs])
    table = frame.groupby(by).first() if differing else pd.DataFrame(index=[0])
    table = table.assign(
        runs=pd.Series(by.groupby(by).groups),
        seeds=values.groupby(by).count(),
        mean=values.groupby(by).mean(),
        std=values.groupby(by).std(),
        floor=floors.groupby(by).mean(),
        difference=math.nan,
        low=math.nan,
        high=math.nan,
    )
    return table.sort_values("mean", ascending=best == "lowest", kind="stable", ignore_index=True), differing


def _judge(table: pd.DataFrame, parameters: list[str], values: list[float], metric: str, best: Best) -> list[str]:
    """Fills in the differences from the best mean with their intervals, and says what follows."""
    if len(table) == 1:
        return []
    labels = [", ".join(f"{name} {row[name] or 'empty'}" for name in parameters) for _, row in table.iterrows()]
    several = table.index[table["seeds"] > 1]
    leader = several[0] if len(several) else 0  # one seed may be the best by luck
    table["difference"] = table["mean"] - table["mean"][leader]
    runs = [[values[i] for i in rows] for rows in table["runs"]]
    for row in several[several != leader]:
        table.loc[row, ["low", "high"]] = interval(runs[row], runs[leader], len(several))
    judged = table["low"].notna()
    beyond = table["low"] > 0 if best == "lowest" else table["high"] < 0
    worse, equal = ([labels[row] for row in table.index[judged & which]] for which in (beyond, ~beyond))
    others = [labels[row] for row in table.index[~judged] if row != leader]
    unjudged = [f"No interval, which takes two seeds of different results: {_list(others, '; ')}."] if others else []
    if not judged.any():
        return unjudged
    if not equal:
        those = _list(worse, "; ") if others else "every other setting"
        verdict = f"Best: {labels[leader]}; its {metric} differs from that of {those} by more than the seeds explain."
    elif not worse:
        verdict = "No difference beyond the seeds."
    else:
        verdict = (
            f"No winner: no difference beyond the seeds between {labels[leader]} and {_list(equal, '; ')}. "
            f"Worse than {labels[leader]}: {_list(worse, '; ')}."
        )
    return [verdict, _ABOUT[len(several) > 2].format(len(several)), *unjudged]


_ABOUT = (
    "The interval is Welch's, 95 %.",
    "The intervals are Welch's with the quantile of Games and Howell: with 95 % they hold for all pairs of the {} "
    "settings at once, so that choosing the best by the same runs does no harm.",
)


def interval(values: Sequence[float], of_best: Sequence[float], settings: int) -> tuple[float, float]:
    """The interval of the difference of two means that holds for all pairs of `settings` settings at once.

    Of two settings it is Welch's t interval. Of more it is that of Games and Howell 1976, with the standard error and
    the degrees of freedom of Welch's, and the quantile of the studentised range.

    Args:
        values: at least two values of a setting.
        of_best: at least two values of the setting that is subtracted.

    Returns:
        Its ends; NaN if neither setting has a spread.
    """
    from scipy.stats import studentized_range, t, ttest_ind

    if len(set(values)) == len(set(of_best)) == 1:
        return math.nan, math.nan
    welch, level = ttest_ind(values, of_best, equal_var=False), CONFIDENCE
    if settings > 2:  # the level at which t has the quantile of the studentised range
        quantile = studentized_range.ppf(CONFIDENCE, settings, welch.df) / math.sqrt(2)
        level = 1 - 2 * t.sf(quantile, welch.df)
    ends = welch.confidence_interval(level)
    return float(ends.low), float(ends.high)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _list(names: Sequence[str], between: str = ", ") -> str:
    more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return between.join([*names[:_LISTED], *more])
