"""Which predictors there are. A model is added in one file and one line here.

Entries are import paths, so that a baseline is had without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from domain.errors import UnknownNameError
from gnn.predictor import Predictor

PREDICTORS: Mapping[str, str] = MappingProxyType(
    {
        "last-value": "gnn.baselines.last_value:LastValue",
        "ewma": "gnn.baselines.ewma:Ewma",
        "rolling-median": "gnn.baselines.rolling_median:RollingMedian",
        "seasonal-median": "gnn.baselines.seasonal_median:SeasonalMedian",
        "fibre-distance": "gnn.baselines.fibre_distance:FibreDistance",
        "node-effects": "gnn.baselines.node_effects:NodeEffects",
        "low-rank": "gnn.baselines.low_rank:LowRank",
        "vivaldi": "gnn.baselines.vivaldi:Vivaldi",
        "nearest-places": "gnn.baselines.nearest_places:NearestPlaces",
        "nearest-profiles": "gnn.baselines.nearest_profiles:NearestProfiles",
        "boosting": "gnn.baselines.boosting:Boosting",
        "boosting-around": "gnn.baselines.boosting_around:BoostingAround",
        "stack": "gnn.baselines.stack:Stack",
        "sage": "gnn.models.sage:Sage",
    }
)
"""Name -> module:class."""


def predictor_class(name: str) -> type[Predictor]:
    """The class of the predictor of that name.

    Raises:
        UnknownNameError: when there is none.
    """
    if name not in PREDICTORS:
        raise UnknownNameError("no such model", found=repr(name), expected=" or ".join(sorted(PREDICTORS)))
    module, _, attribute = PREDICTORS[name].partition(":")
    found: type[Predictor] = getattr(import_module(module), attribute)
    return found


def predictor_named(name: str) -> Predictor:
    """A new, unfitted predictor of that name, with its default settings.

    Raises:
        UnknownNameError: when there is none.
    """
    return predictor_class(name)()
