"""The `paper` protocol: the leaky set-up of a published prototype, reproduced only to be compared, never a claim.

Ben Taarit et al., On Effectiveness of Graph Neural Network Architectures for Network Digital Twins (AI-NDT, 2025) predicts the average RTT
and the loss of a probe from nine features, two of which are that RTT and that loss, over edges drawn from how alike RTTs are.
Here the same is done beside what shows what it is worth: copying the input, and the same networks without the answer among their inputs.

    kg.arrays.PathArrays
      probe_graph  a node is a host: features with or without the answer, edges, targets (NumPy)
      networks     four networks with PyG's own layers, and how they are trained (torch)
      race         all of them over seeds: a table, the figures quoted from the paper, and a warning

Nothing here is a predictor of paths: it has no split that hides anything, and the leakage audit would refuse it.
"""
