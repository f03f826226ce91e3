"""Twenty kinds of mistake that people make in params.yaml, for the tests of the schema and of the tools."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """A change to the text of params.yaml, and words that the sentence about it must hold."""

    name: str
    apply: Callable[[str], str]
    words: tuple[str, ...]


def _value(key: str, value: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"(?m)^{key}:[^#\n]*", f"{key}: {value} ", text)


MISTAKES = [
    Mistake("negative", _value("lr", "-0.001"), ("lr", "-0.001", "above 0")),
    Mistake("zero", _value("epochs", "0"), ("epochs", "0", "at least 1")),
    Mistake("too large", _value("beta1", "1.5"), ("beta1", "1.5", "below 1")),
    Mistake("not a number", _value("lr", "fast"), ("lr", "fast", "number")),
    Mistake("nan", _value("r1_gamma", ".nan"), ("r1_gamma", "nan", "number")),
    Mistake("infinite", _value("ema_halflife_kimg", ".inf"), ("ema_halflife_kimg", "inf", "number")),
    Mistake("fraction", _value("batch_size", "64.5"), ("batch_size", "64.5", "whole number")),
    Mistake("boolean for a number", _value("ngf", "true"), ("ngf", "True", "whole number")),
    Mistake("word for a boolean", _value("augment", "maybe"), ("augment", "maybe", "true or false")),
    Mistake("list", _value("lr", "[0.001, 0.002]"), ("lr", "[0.001, 0.002]", "number")),
    Mistake("unknown choice", _value("loss", "no_such_loss"), ("loss", "no_such_loss", "bce", "relativistic")),
    Mistake("wrong case", _value("fid_network", "Inception"), ("fid_network", "Inception", "inception")),
    Mistake("no power of two", _value("image_size", "96"), ("image_size", "96", "64", "128")),
    Mistake("empty", _value("nz", ""), ("nz", "empty", "whole number")),
    Mistake("missing key", lambda text: re.sub(r"(?m)^seed:.*\n", "", text), ("seed", "missing")),
    Mistake("unknown key", lambda text: text + "learning_rate: 0.1\n", ("learning_rate", "no such parameter")),
    Mistake("batch over data", _value("batch_size", "8192"), ("batch_size", "8192", "dataset_size")),
    Mistake("crop over picture", _value("crop_size", "200"), ("crop_size", "200", "178")),
    Mistake("smoothing without labels", _value("label_smoothing", "0.1"), ("label_smoothing", "0.1", "relativistic")),
    Mistake(
        "penalties only at the end",
        lambda text: _value("r1_gamma", "0")(_value("r1_gamma_end", "0.2")(text)),
        ("r1_gamma_end", "0.2", "r1_gamma above 0"),
    ),
    Mistake("avatars without a number", _value("dataset_size", ""), ("dataset_size", "empty", "avatars")),
    Mistake("no YAML", lambda text: text.replace("lr: ", "lr 0.1: : ", 1), ("params.yaml", "YAML")),
    Mistake("key twice", lambda text: text + "lr: 0.1\n", ("params.yaml", "lr")),
    Mistake("empty file", lambda text: "", ("params.yaml", "no keys")),
]
