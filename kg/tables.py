"""Arrow types of what the graph keeps, derived from the schema and the domain classes."""

from __future__ import annotations

from typing import get_type_hints

import pyarrow as pa

from domain.path_state import PathState
from kg.schema import SCORE_COSTS, SCORE_KEY, SCORE_VALUES, STATE_KEY, Datatype

TIME = pa.timestamp("us", tz="UTC")

_ARROW = {
    Datatype.INTEGER: pa.int64(),
    Datatype.DOUBLE: pa.float64(),
    Datatype.STRING: pa.string(),
    Datatype.BOOLEAN: pa.bool_(),
    Datatype.DATETIME: TIME,
}

_PYTHON = {
    "int": Datatype.INTEGER,
    "float": Datatype.DOUBLE,
    "str": Datatype.STRING,
    "bool": Datatype.BOOLEAN,
    "datetime": Datatype.DATETIME,
}


def arrow_type(datatype: Datatype) -> pa.DataType:
    """The Arrow type of a property."""
    return _ARROW[datatype]


def field_datatypes(owner: type) -> dict[str, Datatype]:
    """Datatype of each field of a domain dataclass; `X | None` is an X that may be unknown."""
    hints = get_type_hints(owner)
    return {name: _PYTHON[str(getattr(_known(hint), "__name__", hint))] for name, hint in hints.items()}


def _known(hint: object) -> object:
    options = [option for option in getattr(hint, "__args__", (hint,)) if option is not type(None)]
    return options[0]


STATE_TYPES: dict[str, pa.DataType] = {
    name: _ARROW[datatype] for name, datatype in field_datatypes(PathState).items()
}
"""Column -> type of a table of path states."""

SCORE_TYPES: dict[str, pa.DataType] = {
    **{name: STATE_TYPES[name] for name in STATE_KEY},
    **{name: pa.string() for name in (*SCORE_KEY[len(STATE_KEY) :], *SCORE_VALUES)},
    **{name: pa.float64() for name in ("score", *SCORE_COSTS)},
}
"""Column -> type of a table of scores."""
