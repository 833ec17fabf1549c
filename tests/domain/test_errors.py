"""The error tree is the one its docstring draws, and an error is one line whatever is in it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from domain import errors
from domain.errors import QoetwinError


def drawn() -> dict[str, str]:
    """Error -> its parent, from the drawing."""
    assert errors.__doc__ is not None
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([ │├└─]*)([A-Z]\w+Error)\b", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        while above and above[-1][0] >= depth:
            above.pop()
        parents[name] = above[-1][1] if above else "Exception"
        above.append((depth, name))
    return parents


def test_the_drawing_is_the_tree() -> None:
    tree = {
        name: kind.__base__.__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, QoetwinError)
    }
    assert drawn() == tree


@given(st.lists(st.text(), min_size=5, max_size=5))
def test_an_error_is_one_line_that_says_everything(parts: list[str]) -> None:
    what, where, found, expected, next_step = parts
    error = QoetwinError(what, where=where, found=found, expected=expected, next_step=next_step)
    assert len(error.line().splitlines()) <= 1
    assert error.line().isprintable()
    for part in parts:
        if part.isprintable():
            assert " ".join(part.split()) in error.line()
    assert str(error) == error.line()
