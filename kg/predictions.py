"""What models predicted of paths, written to the graph: facts of their own, about paths of their own.

A `PathPrediction` is about a `PREDICTED_TO` edge, never about a `MEASURES` one: a pair that was only predicted stays one that
was never measured.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from domain.provenance import Provenance
from kg.build import add_addresses
from kg.schema import PATH_PREDICTION
from kg.store import GraphStore


def put_predictions(store: GraphStore, predictions: pa.Table, provenance: Provenance) -> None:
    """Write predictions, also of pairs that were never measured.

    Those of several models and protocols stand side by side. One of the same path, window, model and protocol is replaced
    whole; the same table again, with the same `predicted_at`, changes nothing.

    Args:
        store: the graph.
        predictions: all columns of the fact type PathPrediction (`kg.tables.fact_schema`).
        provenance: whose word they are; whether it is synthetic each row says itself.

    Raises:
        StoreError: when a row lacks what it must have, or the graph cannot be written.
    """
    with store.transaction():
        add_addresses(store, predictions["target"])
        for synthetic in (False, True):
            part = predictions.filter(pc.equal(predictions["synthetic"], synthetic))
            if part.num_rows > 0:
                store.put_facts(PATH_PREDICTION, part, replace(provenance, synthetic=synthetic))
