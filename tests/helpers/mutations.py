"""Changes to the bytes of a file, as damage and malice make them."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st


class Change(NamedTuple):
    """One change; `where` is a share of the file's length."""

    kind: str
    where: float
    value: bytes


_NUMBERS = [0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]
_FIELDS = [
    n.to_bytes(size, order) for n in _NUMBERS for size in (1, 2, 4) for order in ("big", "little") if n < 256**size
]

# Headers are at the start, those of a zip at the end, and more depends on their bytes than on the others.
_PLACES = st.one_of(st.floats(0, 1), st.floats(0.02, 0.98), st.floats(0.02, 0.2), st.floats(0.9, 1))
CHANGES = st.lists(
    st.one_of(
        st.builds(Change, st.just("flip"), _PLACES, st.sampled_from([bytes([1 << bit]) for bit in range(8)])),
        st.builds(Change, st.just("overwrite"), _PLACES, st.sampled_from(_FIELDS) | st.binary(max_size=8)),
        st.builds(Change, st.just("insert"), _PLACES, st.binary(max_size=40)),
        st.builds(Change, st.just("delete"), _PLACES, st.binary(max_size=40)),
        st.builds(Change, st.just("repeat"), _PLACES, st.binary(max_size=40)),
        st.builds(Change, st.just("truncate"), st.floats(0.1, 1), st.just(b"")),
    ),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, changes: list[Change]) -> bytes:
    """Returns `data` with the changes made one after the other."""
    for kind, where, value in changes:
        at, size = int(where * len(data)), len(value)
        before, rest = data[:at], data[at:]
        if kind == "flip":
            flipped = int.from_bytes(rest[:size]) ^ int.from_bytes(value[: len(rest)])
            rest = flipped.to_bytes(min(size, len(rest))) + rest[size:]
        elif kind == "overwrite":
            rest = value + rest[size:]
        elif kind == "insert":
            rest = value + rest
        elif kind == "delete":
            rest = rest[size:]
        elif kind == "repeat":
            rest = rest[:size] + rest
        else:
            rest = b""
        data = before + rest
    return data
