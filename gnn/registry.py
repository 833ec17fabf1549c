"""Which predictors there are. A model is added in one file and one line here.

Entries are import paths, so that a baseline is had without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from domain.errors import UnknownNameError
from gnn.predictor import Kind, Predictor

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
        "graph-transformer": "gnn.models.graph_transformer:GraphTransformer",
        "cheb-net": "gnn.models.cheb_net:ChebNet",
        "res-gated-gcn": "gnn.models.res_gated_gcn:ResGatedGcn",
        "sage": "gnn.models.sage:Sage",
        "mlp": "gnn.models.mlp:Mlp",
        "ensemble": "gnn.models.ensemble:Ensemble",
    }
)
"""Name -> module:class."""


VARIANTS: Mapping[str, Mapping[str, int | float]] = MappingProxyType(
    {
        "plain": {"pointer": False},
        "direct": {"pointer": False, "residual": False},
    }
)
"""What a graph model may be asked for as, after its name and a slash: settings that differ.

plain    RTT is regressed, as a difference from the base, in place of being pointed at
direct   RTT is regressed itself: what a difference of nothing would say is not there
"""


def require_model(name: str) -> None:
    """Refuse a name that no model has, without importing any.

    Raises:
        UnknownNameError: when there is none.
    """
    own, _, variant = name.partition("/")
    if own not in PREDICTORS or (variant and variant not in VARIANTS):
        raise UnknownNameError(
            "no such model",
            found=repr(name),
            expected=f"{' or '.join(sorted(PREDICTORS))}; graph models also as NAME/{' or NAME/'.join(VARIANTS)}",
        )


def predictor_class(name: str) -> type[Predictor]:
    """The class of the predictor of that name; a variant has the class of its model.

    Raises:
        UnknownNameError: when there is none.
    """
    require_model(name)
    own, _, variant = name.partition("/")
    module, _, attribute = PREDICTORS[own].partition(":")
    found: type[Predictor] = getattr(import_module(module), attribute)
    if variant and not VARIANTS[variant].keys() <= found().config().keys():
        raise UnknownNameError("a model without that variant", found=repr(name), expected=own)
    return found


def predictor_named(
    name: str, protocol: str | None = None, overrides: Mapping[str, int | float] = MappingProxyType({})
) -> Predictor:
    """A new, unfitted predictor of that name.

    Args:
        name: of a model or baseline, or of a variant of a model.
        protocol: it is to serve; models have settings that differ by it.
        overrides: settings that differ, of those that the predictor has.

    Raises:
        UnknownNameError: when there is none.
    """
    kind = predictor_class(name)
    usual = kind().config()
    changed = {**kind.settings_under(protocol), **VARIANTS.get(name.partition("/")[2], {}), **overrides}
    return kind.configured({**usual, **{key: value for key, value in changed.items() if key in usual}})


def stated(name: str) -> str | None:
    """What is said of a model in a report: what its RTT is made of."""
    kind = predictor_class(name).kind
    if kind is Kind.MLP:
        return "points at past values, what simple fits say of pairs that need not have been met, or near the base"
    if kind is not Kind.GNN:
        return None
    return {
        "": "points at past values, at what mates tell, at what simple fits say of pairs that need not have been met, or near the base",
        "plain": "a difference from the base: the last value, or what mates tell",
        "direct": "RTT itself, no difference from a base",
    }[name.partition("/")[2]]
