"""Warnings advise what is not set already."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from project import ROOT

from dcgan.params import load
from dcgan.schema import Params
from dcgan.training.diversity import Collapse
from pipeline.support.advice import Advice

DEFAULT = load(ROOT / "presets" / "avatars.yaml")


@pytest.mark.parametrize(
    ("changed", "advised"),
    [
        ({"loss": "bce", "r1_gamma": 0.0}, "loss: relativistic with r1_gamma above 0, augment: true, or a lower lr"),
        ({"r1_gamma": 0.0}, "loss: relativistic with r1_gamma above 0, augment: true, or a lower lr"),
        ({}, "augment: true, or a lower lr"),
        ({"loss": "bce", "augment": True}, "loss: relativistic with r1_gamma above 0, or a lower lr"),
        ({"augment": True}, "a lower lr"),
    ],
)
def test_a_collapse_advises_what_is_not_set_already(
    changed: dict[str, Any], advised: str, caplog: pytest.LogCaptureFixture
) -> None:
    params = Params(**(DEFAULT.model_dump() | changed))
    caplog.handler.addFilter(filtered := Advice(lambda: params))
    try:
        faces = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
        Collapse(faces, 1).look(np.zeros_like(faces), epoch=3, warn=True)
        logging.getLogger("dcgan.other").warning("no advice; try it")
    finally:
        caplog.handler.removeFilter(filtered)
    collapsed, other = caplog.messages
    assert collapsed.startswith("the generator has collapsed: after epoch 3 its pictures have 0 % of ")
    assert collapsed.endswith(f"; try {advised}") and other == "no advice; try it"
