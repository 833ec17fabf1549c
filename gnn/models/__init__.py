"""Graph encoders, one a file; everything around them is shared.

graph_predictor    the Predictor that holds an encoder: features, heads, training
typed_layers       layers of one convolution an edge type, summed
graph_transformer  attention, with edge features and a positional encoding
cheb_net           Chebyshev filters
res_gated_gcn      gates
sage               means
mlp                no graph: the ablation
ensemble           the mean of the four graph models; half of what it says of loss is boosting's
"""
