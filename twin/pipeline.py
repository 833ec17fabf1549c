"""The data's way, on one page. A stranger starts here.

    Atlas result --parse--> observation --land--> lake --summarise--> path state --upsert--> knowledge graph
    knowledge graph --score--> QoE per application --answer--> `twin.qoe`
    knowledge graph --export--> path arrays --learn--> predictor beside its baselines

Each step is a function; what passes between two steps is one named type. Only the first three know the lake: from
the graph on, everything comes from the graph alone.

    twin.ingestion    outside -> lake        a source gives `Parsed` batches; `Ingested` says what became of them
    twin.building     lake -> graph          `summarise_lake` makes a `Summary` of the lake, `build_graph` puts it into the graph
    twin.learning     graph -> predictor     `export` makes `PathArrays` of the graph, `train` compares and saves
    twin.refresh      lake -> graph, again   only the windows that changed
    twin.scoring      path state -> scores
    twin.qoe          the answers
"""

from __future__ import annotations

from twin.building import (
    Built,
    Origins,
    Summary,
    build_graph,
    prune_graph,
    read_origins,
    summarise_lake,
    whole_windows,
)
from twin.ingestion import (
    Ingested,
    IngestedTable,
    ingest,
    ingest_atlas,
    ingest_files,
    ingest_latest,
    ingest_table,
    load_probes,
    retry_quarantine,
    sync_probes,
)
from twin.learning import Exported, Trained, export, train

__all__ = [
    "Built",
    "Exported",
    "Ingested",
    "IngestedTable",
    "Origins",
    "Summary",
    "Trained",
    "build_graph",
    "export",
    "ingest",
    "ingest_atlas",
    "ingest_files",
    "ingest_latest",
    "ingest_table",
    "load_probes",
    "prune_graph",
    "read_origins",
    "retry_quarantine",
    "summarise_lake",
    "sync_probes",
    "train",
    "whole_windows",
]
