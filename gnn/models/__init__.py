"""Graph encoders, one a file; everything around them is shared.

graph_predictor  the Predictor that holds an encoder: features, heads, training, calibration
sage             GraphSAGE
"""
