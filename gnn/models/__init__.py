"""Graph encoders, one a file; everything around them is shared.

graph_predictor    the Predictor that holds an encoder: features, heads, training
typed_layers       layers of one convolution an edge type, summed
graph_transformer  attention
cheb_net           polynomials of the Laplacian
res_gated_gcn      gates
sage               GraphSAGE, the mean
mlp                no graph
"""
