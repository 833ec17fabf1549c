"""Learning: from path arrays to predictions of RTT, loss and jitter, with intervals.

The data's way through this package:

    kg.arrays.PathArrays          pairs x windows; all that learning ever sees
      protocols                   who is hidden from whom: a Split of four Questions
      history                     the past of each pair that may be seen
      neighbours, mates           whom a pair hears, and what pairs with a common end tell of it
      path_graph                  node inputs, edges and candidate values, as NumPy (Inputs)
      audit, split_audit          hidden values are changed; nothing in Inputs may move
      statistical_audit           errors below the noise of the measurement; skill where there is nothing to find
      tensors                     Inputs -> torch_geometric HeteroData
      models, heads, pointer, training    one file a convolution; heads and optimiser are shared
      settings                    what a predictor is made with, in its range
      conformal, adaptation       intervals that cover what they say, and follow how they did
      predictor, row_memory       the contract: physical units outside, normalised inside
      registry                    which predictors there are
      scoring, difference         how good, and whether better
      comparison, jobs, kept_jobs, report    every predictor over splits and seeds, as one document
      reach                       what a predictor learned from, and what is out of it
      paper                       the leaky set-up of the published prototype, reproduced to be compared
      artefact                    a fitted predictor on disk: safetensors and JSON

Only `tensors`, `models`, `heads`, `pointer` and `training` import torch; the rest is NumPy and stays quick to import.
"""
