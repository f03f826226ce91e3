"""`make gpu` as a whole, small and on the CPU; the roofline of known operations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from roofline import Rates, Roofline, rates

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_make_gpu_runs_the_pipeline_compares_bytes_and_writes_its_table(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--small", "--out", str(tmp_path)]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert list(found["seconds"])[-1] == "report" and found["metrics"]["frechet_distance"] > 0
    assert found["same bytes"] == dict.fromkeys(("again", "without CUDA graphs", "killed by SIGKILL and resumed"), True)
    ((name, speed),) = found["speed"].items()
    assert name.startswith("small") and 0 < speed["share_of_least"] < 1 and speed["ratio_to_tutorial"] > 0
    page = (tmp_path / "gpu.md").read_text()
    assert "| again | yes |" in page and f"| {name} |" in page


def test_the_roofline_of_a_product_and_of_a_copy_is_arithmetic_and_bytes() -> None:
    a, b = torch.ones(30, 40), torch.ones(40, 50)
    with Roofline(Rates(bf16=1, tf32=1e6, fp32=1e6, copy=1e12)) as product:
        a @ b
    assert product.flop == 2 * 30 * 40 * 50 and product.bytes == 4 * (30 * 40 + 40 * 50 + 30 * 50)
    assert product.seconds == pytest.approx(product.flop / 1e6)
    with Roofline(Rates(1, 1, 1, copy=100)) as copied:
        a.t().contiguous()
    assert copied.flop == 0 and copied.seconds == pytest.approx(2 * a.nbytes / 100)


def test_the_roofline_counts_a_convolution_forward_and_backward() -> None:
    layer, maps = torch.nn.Conv2d(3, 5, 4, 2, 1, bias=False), torch.ones(2, 3, 8, 8)
    forward = 2 * 2 * 5 * 4 * 4 * 3 * 4 * 4  # twice N D H W C 4 4
    with Roofline(Rates(1, 1, 1, 1)) as roof:
        result = layer(maps)
    assert roof.flop == forward
    with Roofline(Rates(1, 1, 1, 1)) as backward:
        result.sum().backward()  # the weight's gradient alone
    assert backward.flop == forward


def test_rates_are_measured() -> None:
    found = rates(torch.device("cpu"), side=32)
    assert min(found.bf16, found.tf32, found.fp32, found.copy) > 0
