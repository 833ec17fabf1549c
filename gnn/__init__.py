"""Learning: from path arrays to predictions of RTT, loss and jitter, with intervals.

The data's way through this package:

    kg.arrays.PathArrays          pairs x windows; all that learning ever sees
      protocols                   who is hidden from whom: a Split of four Questions
      history                     the past of each pair that may be seen
      neighbours, mates           whom a pair hears, and what pairs with a common end tell of it
      path_graph                  node inputs, edges and candidate values, as NumPy
      inputs                      all of that by name; a predictor sees nothing else
      audit, split_audit          hidden values are changed; nothing in Inputs may move
      statistical_audit           errors below the noise of the measurement; skill where there is nothing to find
      tensors                     Inputs -> torch_geometric HeteroData
      models                      one file a convolution; the ensemble of them
      heads, pointer              what all of them end in: quantiles and loss; RTT pointed at among known values
      hearing, blocks             what nodes take from those they hear, with fast gradients, in bounded memory
      training, checkpoint        the optimiser and when it stops; a training that was interrupted goes on
      device                      a GPU where there is one, and how many cores
      baselines                   what every model is shown next to
      of_members                  what is made of fitted predictors
      prediction                  what is said of each pair, in ms and ratios
      conformal, adaptation       intervals that cover what they say, and follow how they did
      predictor, row_memory       the contract: physical units outside, normalised inside; nothing is worked out twice
      shared_work                 nor for two models; and the clock by which each takes as long as it would alone
      registry, settings          which predictors there are, and what they are made with, in its range
      reach                       what a predictor learned from, and what is out of it
      scoring, difference         how good, and whether better
      comparison, jobs, kept_jobs, report    every predictor over splits and seeds, as one document
      artefact, state             a fitted predictor on disk, safetensors and JSON, checked when it is read
      fingerprint, whole_files    which data it was; files that are written whole
      export                      the knowledge graph as PyTorch Geometric's, for others
      paper                       the leaky set-up of the published prototype, reproduced to be compared

Only `tensors`, `models`, `heads`, `pointer`, `hearing`, `blocks`, `training`, `device` and `paper` import torch; the rest is NumPy
and stays quick to import.
"""
