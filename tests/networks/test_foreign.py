"""Checkpoints of other programs: `dcgan import`, and the pictures of what it makes."""

from __future__ import annotations

import argparse
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from tutorial import TutorialGenerator, tutorial

from dcgan import networks
from dcgan.__main__ import main
from dcgan.networks import Settings, foreign
from dcgan.sampling import numbered_latents, random_state, to_levels
from dcgan.system.errors import UserError
from dcgan.system.metadata import read_metadata


@cache
def trained(nz: int = 20, ngf: int = 8, nc: int = 3) -> TutorialGenerator:
    """The example's generator with initial weights as the example draws them, and statistics of some batches."""
    torch.manual_seed(nz + ngf + nc)
    network = TutorialGenerator(nz, ngf, nc)
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)
            module.momentum = None  # the mean of all batches
    list(network.parameters())[-1].data.mul_(10)  # contrast, as after a training
    with torch.no_grad():
        network(torch.randn(32, nz, 1, 1))
    return network.eval()


def under(prefix: str, state: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    return OrderedDict((f"{prefix}{name}", tensor) for name, tensor in state.items())


def converted(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


Write = Callable[[Path, dict[str, Tensor]], object]
NESTED = {"epoch": 3, "note": "x", "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 1.0}]}}
FORMS: dict[str, tuple[dict[str, int], Write, list[str]]] = {
    "plain": ({}, lambda path, state: torch.save(OrderedDict(state), path), []),
    "DataParallel": ({}, lambda path, state: torch.save(under("module.", state), path), []),
    "half": ({}, lambda path, state: torch.save(converted(state, torch.half), path), []),
    "double": ({"nz": 3}, lambda path, state: torch.save(converted(state, torch.double), path), []),
    "nested": (
        {"ngf": 16},
        lambda path, state: torch.save(
            NESTED
            | {"models": {"netG": state, "netD": tutorial()[1].state_dict()}, "other": {"weight": torch.ones(1)}},
            path,
        ),
        ["--key", "models.netG"],
    ),
    "safetensors, grey": ({"nc": 1, "ngf": 4}, lambda path, state: save_file(state, path), ["--latent", "uniform"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_imported_generator_makes_the_examples_own_pictures(tmp_path: Path, form: str) -> None:
    sizes, write, options = FORMS[form]
    theirs, path, out = trained(**sizes), tmp_path / "netG.pth", tmp_path / "new" / "generator.safetensors"
    write(path, theirs.state_dict())
    main(["import", str(path), "--out", str(out), *options])
    main(["generate", "--model", str(out), "--count", "24", "--seed", "5", "--out", str(tmp_path / "made")])

    expected = {"image_size": 64, "nz": 20, "ngf": 8, "nc": 3} | sizes
    about = read_metadata(out)["settings"]
    assert {key: about[key] for key in expected} == expected
    assert about["latent"] == ("uniform" if "--latent" in options else "normal")
    with torch.no_grad():
        latents = numbered_latents(Settings(**about), 5, slice(0, 24))
        pictures = to_levels(theirs(latents[:, :, None, None])).numpy()
    made = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "made").iterdir())])
    apart = np.abs(made.reshape(pictures.shape).astype(int) - pictures)
    assert pictures.std() > 30 and apart.max() <= (1 if form == "half" else 0)


OTHER_FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "compiled": lambda state: under("_orig_mod.", state),
    "layers wrapped": lambda state: {name.replace("main.", "main.module."): x for name, x in state.items()},
    "another name": lambda state: {name.replace("main.", "netG.layers."): x for name, x in state.items()},
    "layers alone": lambda state: {name.removeprefix("main."): x for name, x in state.items()},
    "PyTorch 0.4": lambda state: {name: x for name, x in state.items() if "num_batches" not in name},
    "parameters": lambda state: {name: nn.Parameter(x) if x.is_floating_point() else x for name, x in state.items()},
    "one in a dict": lambda state: NESTED | {"state_dict": state},
}


@pytest.mark.parametrize("form", OTHER_FORMS)
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_are_found_whatever_is_around_them(tmp_path: Path, form: str, zipped: bool) -> None:
    state, path = trained().state_dict(), tmp_path / "net.pth"
    torch.save(OTHER_FORMS[form](state), path, _use_new_zipfile_serialization=zipped)
    found = foreign.load(path).state_dict()
    assert all(torch.equal(found[name], x) for name, x in state.items() if "num_batches" not in name)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([32, 64, 128, 256]),
    st.integers(1, 30),
    st.integers(1, 5),
    st.sampled_from([1, 3]),
    st.sampled_from([torch.half, torch.bfloat16, torch.float32, torch.float64]),
    st.booleans(),
)
def test_the_settings_follow_from_the_shapes(
    tmp_path: Path, size: int, nz: int, ngf: int, nc: int, dtype: torch.dtype, safe: bool
) -> None:
    made = Settings(image_size=size, nz=nz, ngf=ngf, nc=nc, latent="uniform")
    state = converted(networks.build(made, random_state(0, "x"))[0].state_dict(), dtype)
    if safe:
        save_file(state, tmp_path / "net.pth")
    else:
        torch.save(state, tmp_path / "net.pth")
    loaded = foreign.load(tmp_path / "net.pth", latent="uniform")
    assert loaded.settings == made and not loaded.training
    assert all(torch.equal(tensor, state[name].to(tensor.dtype)) for name, tensor in loaded.state_dict().items())


class Malice:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "executed")


def changed(**tensors: Tensor) -> dict[str, Tensor]:
    """The state dict of a generator with other tensors, `__` for dots."""
    return trained().state_dict() | {name.replace("__", "."): tensor for name, tensor in tensors.items()}


def in_itself() -> dict[str, Any]:
    endless: dict[str, Any] = {}
    endless["me"] = endless
    return endless


def wider(channels: int) -> dict[str, Tensor]:
    """16 times the channels at 4x4, as many forks of the example have for 128x128 pictures."""
    state = networks.build(Settings(image_size=128, nz=6, ngf=channels), random_state(0, "x"))[0].state_dict()
    return state | {"main.0.weight": torch.zeros(6, 16 * channels, 4, 4)}


OBJECTS = r"net\.pth: it holds Python objects, such as a whole module .*torch\.save\(netG\.state_dict\(\), FILE\)"
OTHER = r"net\.pth: it is not a generator with the layers of the PyTorch DCGAN example \("
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a whole module": (lambda _: trained(), OBJECTS),
    "a module in a dict": (lambda _: {"netG": trained(), "epoch": 1}, OBJECTS),
    "options beside the weights": (lambda _: {"netG": changed(), "opt": argparse.Namespace(nz=20)}, OBJECTS),
    "code": (lambda folder: changed() | {"extra": Malice(folder / "executed")}, OBJECTS),
    "a tensor": (lambda _: torch.zeros(3), "it holds no state dict"),
    "a list": (lambda _: [changed()], "it holds no state dict"),
    "an optimizer": (lambda _: NESTED, "it holds no state dict"),
    "several": (lambda _: {"b": {"G": changed()}, "a": changed()}, r"choose one of them with --key: a, b\.G\.$"),
    "a discriminator": (lambda _: tutorial()[1].state_dict(), r"holds a discriminator; give .*netG"),
    "a tensor too many": (lambda _: changed(main__0__bias=torch.zeros(64)), OTHER + "unexpected key main.0.bias"),
    "a tensor missing": (
        lambda _: {name: tensor for name, tensor in changed().items() if name != "main.4.running_var"},
        OTHER + r"missing key main\.4\.running_var",
    ),
    "another shape": (
        lambda _: changed(main__4__bias=torch.zeros(7)),
        OTHER + r"size mismatch for main\.4\.bias: \[7\] in the checkpoint, \[32\] in the generator\); ",
    ),
    "other widths": (
        lambda _: wider(2),
        OTHER + r"size mismatch for main\.0\.weight: \[6, 32, 4, 4\] in the checkpoint, \[6, 16, 4, 4\]",
    ),
    "another size": (
        lambda _: {name: tensor for name, tensor in changed().items() if int(name.split(".")[1]) < 9},
        OTHER + "it has 3 convolutions, not 4 to 7",
    ),
    "two networks in one": (lambda _: under("a.", changed()) | under("b.", changed()), OTHER),
    "other layers": (lambda _: {"fc.weight": torch.zeros(3, 3)}, OTHER + "unexpected key fc.weight"),
    "too many channels": (
        lambda _: changed(main__12__weight=torch.zeros(8, 4, 4, 4)),
        OTHER + "its pictures have 4 channels, not 1 or 3",
    ),
    "numbers": (
        lambda _: changed(main__0__weight=torch.zeros(20, 64, 4, 4, dtype=torch.int8)),
        "not a dense floating-point tensor, but torch.int8",
    ),
    "beyond float32": (
        lambda _: changed(main__1__bias=torch.full((64,), 1e300, dtype=torch.float64)),
        r"main\.1\.bias holds NaN, infinity or a number too large for float32",
    ),
    "a dict in itself": (lambda _: in_itself(), "it holds no state dict"),
}


@pytest.mark.parametrize("form", REFUSED)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_no_generator_is_refused_in_our_own_words(
    tmp_path: Path, form: str, zipped: bool, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    make, words = REFUSED[form]
    path, out = tmp_path / "net.pth", tmp_path / "generator.safetensors"
    torch.save(make(tmp_path), path, _use_new_zipfile_serialization=zipped)
    refused(["import", str(path), "--out", str(out)], words)
    said = capsys.readouterr()
    assert not said.out + said.err and not recwarn
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]
    if form == "code":  # the attack is a real one
        torch.load(path, weights_only=False)
        assert (tmp_path / "executed").read_text() == "executed"


def refused(command: list[str], words: str) -> None:
    """Checks that a command ends in one sentence that holds `words` and nothing of torch's advice."""
    with pytest.raises(SystemExit, match=words) as error:
        main(command)
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


FILES: dict[str, bytes] = {
    "empty": b"",
    "text": b"not a checkpoint",
    "a page": b"<!DOCTYPE html><html></html>",
    "a damaged zip": b"PK\x03\x04 a damaged zip",
    "safetensors cut off": b"\x08\0\0\0\0\0\0\0{",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    refused(["import", str(path), "--out", str(tmp_path / "out")], r"net\.pth: it is damaged, or not a checkpoint")
    path.write_bytes(pickle.dumps([1, 2]))
    refused(["import", str(path), "--out", str(tmp_path / "out")], OBJECTS)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["zip", "legacy", "safetensors"]))
def test_a_damaged_checkpoint_is_named_or_loaded_and_raises_nothing_else(
    tmp_path: Path, data: st.DataObject, form: str
) -> None:
    path, whole = tmp_path / "net.pth", tmp_path / form
    if form == "safetensors" and not whole.exists():
        save_file(trained(2, 1, 1).state_dict(), whole)
    elif not whole.exists():
        torch.save(trained(2, 1, 1).state_dict(), whole, _use_new_zipfile_serialization=form == "zip")
    content = bytearray(whole.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, min(len(content), 4000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        generator = foreign.load(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and "weights_only" not in str(error)
    else:
        assert all(tensor.isfinite().all() for tensor in generator.parameters())


def test_a_key_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path, command = tmp_path / "net.pth", ["import", str(tmp_path / "net.pth"), "--out", str(tmp_path / "out")]
    torch.save({"netG": changed(), "netD": tutorial()[1].state_dict()}, path)
    refused([*command, "--key", "G"], r"--key: .*net\.pth holds no state dict G; give one of netD, netG\.$")
    refused([*command, "--key", "netD"], "holds a discriminator")
    torch.save(changed(), path)
    refused([*command, "--key", "netG"], r"holds no state dict netG; omit --key\.$")


def test_no_file_is_replaced_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "net.pth", tmp_path / "generator.safetensors"
    torch.save(changed(), path)
    out.write_bytes(b"mine")
    refused(["import", str(path), "--out", str(out)], r"generator\.safetensors: it already exists; .*--force\.$")
    refused(["import", str(tmp_path / "none.pth"), "--out", str(out), "--force"], r"none\.pth: there is no such file")
    refused(["import", str(tmp_path), "--out", str(out), "--force"], "there is no such file")
    refused(["import", str(path), "--out", str(tmp_path)], r"it already exists; give another name\.$")
    refused(["import", str(path), "--out", str(path / "out")], r"net\.pth is not a folder")
    assert out.read_bytes() == b"mine"
    main(["import", str(path), "--out", str(out), "--force"])
    assert capsys.readouterr().out == f"{out}: 64x64 pictures, nc 3, nz 20, ngf 8, latent normal\n"
    assert json.loads(json.dumps(read_metadata(out)["imported"]))["file"] == "net.pth"
    refused(["import", str(out), "--out", str(tmp_path / "again")], "this project saved it; use it as it is")
