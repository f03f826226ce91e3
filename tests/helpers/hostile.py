"""Pictures and archives with mutated bytes, each of which must become a face or be named.

`python tests/helpers/hostile.py 10000 [SEED]` tries that many, in limited memory, and prints what became of them.
"""

from __future__ import annotations

import collections
import io
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mutations import CHANGES, Change, changed
from pictures import drawn, encoded
from PIL import Image

from dcgan.data import decoding
from dcgan.data.archives import Archive

MEMORY = 2 << 30  # bytes, beside those of the imported packages
_KINDS: list[tuple[str, str, dict[str, object]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "L", {"restart_marker_blocks": 1}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "I;16", {}),
    ("WebP", "RGB", {}),
    ("WebP", "RGBA", {"lossless": True}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("GIF", "P", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "I;16", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "RGBA", {"compression": "tiff_deflate"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("AVIF", "RGBA", {}),
    ("HEIF", "RGB", {}),
    ("JPEG2000", "RGB", {}),
    ("PPM", "RGB", {}),
]


def _picture(form: str, mode: str, options: dict[str, object]) -> bytes:
    if form in ("JPEG", "PNG", "WebP", "TIFF"):
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif, **options}
    return encoded(drawn(mode, 24, 20, 1), form, **options)


def _archive(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name in ("a.jpg", "ü/b.jpg"):
            archive.writestr(zipfile.ZipInfo(name), name.encode() * 30, method)
    return out.getvalue()


SAMPLES = {f"{form} {mode} {options}": _picture(form, mode, options) for form, mode, options in _KINDS}
SAMPLES |= {f"zip {method}": _archive(method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)}
MUTATED = st.tuples(st.sampled_from(sorted(SAMPLES)), CHANGES)


def outcome(kind: str, changes: list[Change]) -> str:
    """Returns `used`, or why it is not; raises what no user should see."""
    data = changed(SAMPLES[kind], changes)
    if not kind.startswith("zip"):
        return _named_or_used(data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zip"
        path.write_bytes(data)
        try:
            archive = Archive(path)
            with zipfile.ZipFile(path) as opened:
                names = opened.namelist()
        except zipfile.BadZipFile:
            return "it is not a zip file"
        for name in names:
            try:
                archive.read(name)
            except ValueError as error:
                return str(error)
    return "used"


def _named_or_used(data: bytes) -> str:
    try:
        face = decoding.face(data, None, 32, 3)
    except ValueError as error:
        words = str(error)
        assert words and "\n" not in words and " at 0x" not in words and len(words) < 200
        return words
    assert face.shape == (32, 32, 3) and face.dtype == np.uint8
    return "used"


def main(count: int, number: int) -> None:
    outcomes: collections.Counter[str] = collections.Counter()
    warnings.simplefilter("ignore")
    slowest = (0.0, "")

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(MUTATED)
    def run(mutated: tuple[str, list[Change]]) -> None:
        nonlocal slowest
        begin = time.perf_counter()
        outcomes[outcome(*mutated)] += 1
        slowest = max(slowest, (time.perf_counter() - begin, mutated[0]))

    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    run()
    print(f"{sum(outcomes.values())} tried, {outcomes['used']} used, the slowest in {slowest[0]:.1f} s: {slowest[1]}")
    for words, times in outcomes.most_common(40):
        print(f"{times:6} {words}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
