"""One sentence on what a run came to: its distance beside what an untrained generator and real faces have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from dcgan.metrics.names import distance_name
from dcgan.report.pictures import Variety

NEAR = 1.5  # times the floor: real faces of another split vary by less, and generators of this kind rarely come so near
AS_POOR = 0.95  # share of the untrained generator's distance: no training ends so close to it unless it failed
COLLAPSED = 0.5  # share of the spread of real faces, as `training.diversity` warns of while training
REPEATED = 0.3  # share of their distance to the nearest other; a good generator has 0.8 to 1.2, copies with noise 0.2

Kind = Literal["failed", "poor", "learnt", "near", "unmeasured"]


class Judgement(NamedTuple):
    """What a run came to: a kind to colour it by, the verdict, and what it follows from."""

    kind: Kind
    verdict: str
    because: str

    @property
    def sentence(self) -> str:
        return f"{self.verdict}: {self.because}."


def judge(metrics: Mapping[str, Any], variety: Variety) -> Judgement:
    """Judges a run.

    Args:
        metrics: contents of reports/metrics.json.
        variety: variety of the generated faces.
    """
    name = distance_name(metrics)
    alike = _alike(variety)
    if metrics.get(name) is None:
        unmeasured = "there are too few real faces"
        return (
            _failed("Collapsed", *alike) if alike else Judgement("unmeasured", "No distance was measured", unmeasured)
        )
    distance, untrained, grey = metrics[name], metrics[f"{name}_untrained"], metrics[f"{name}_grey"]
    if distance >= untrained:
        worse = f"the distance is above the {number(untrained)} of the same generator before training"
        return _failed("Collapsed and worse than untrained" if alike else "Worse than untrained", *alike, worse)
    if alike:
        return _failed("Collapsed", *alike)
    if distance >= AS_POOR * untrained:
        return _failed("No better than untrained", f"the same generator before training has {number(untrained)}")
    if distance >= grey:
        return Judgement(
            "poor", "Poor", f"plain grey pictures are nearer to real faces, with a distance of {number(grey)}"
        )
    return _trained(metrics, name, distance / untrained)


def _alike(variety: Variety) -> list[str]:
    if variety.spread < COLLAPSED:
        return [f"its faces have {variety.spread:.0%} of the variety of real faces"]
    if variety.apart < REPEATED:
        return [f"it repeats a few faces, which are {variety.apart:.0%} as far from the next as real faces are"]
    return []


def _trained(metrics: Mapping[str, Any], name: str, share: float) -> Judgement:
    floor, faces = metrics.get(f"{name}_floor"), metrics.get(f"{name}_at_floor_count")
    copies = " but it copies training faces" if metrics.get("copies_verdict") == "copies" else ""
    below = f"the distance is {share:.0%} of the untrained generator's"
    if not floor or faces is None:
        return Judgement("poor" if copies else "learnt", f"Better than untrained{copies}", below)
    if faces <= NEAR * floor:
        near = f"the distance is {number(faces)}, and that of as many real faces {number(floor)}"
        return Judgement("poor" if copies else "near", f"Near the floor{copies}", near)
    above = f"{faces / floor:.1f} times that of real faces, the floor"
    return Judgement("poor" if copies else "learnt", f"Learnt{copies or ', but not yet real'}", f"{below}, and {above}")


def number(value: float) -> str:
    """A distance to read: four significant digits, thousands separated."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _failed(verdict: str, *because: str) -> Judgement:
    return Judgement("failed", verdict, ", and ".join(because))
