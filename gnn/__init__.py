"""Learning: from path arrays to predictions of RTT, loss and jitter, with intervals.

The data's way through this package:

    kg.arrays.PathArrays          pairs x windows; all that learning ever sees
      protocols   who is hidden from whom: a Split of four Questions
      history     the visible past of each pair
      path_graph  node inputs and typed edges, as NumPy (Inputs)
      audit       hidden values are changed; nothing in Inputs may move
      split_audit what of a Split leaks by itself: hosts under other names, ways back, later windows
      statistical_audit             errors below the noise of the measurement; skill where there is nothing to find
      tensors     Inputs -> torch_geometric HeteroData
      models, heads, training       one file an encoder; heads and optimiser are shared
      settings    what a predictor is made with, in its range
      conformal   intervals that cover what they say, on windows kept for that
      predictor   the contract: physical units outside, normalised inside
      registry    which predictors there are
      evaluation  every predictor on the same cells, next to the best baseline
      artefact    a fitted predictor on disk: safetensors and JSON

Only `tensors`, `models`, `heads` and `training` import torch; the rest is NumPy and stays quick to import.
"""
