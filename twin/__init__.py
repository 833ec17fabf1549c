"""The questions, and the line that leads to their answers.

pipeline   the data's way on one page: start here
ingestion  outside -> lake
building   lake -> graph
refresh    lake -> graph, where the lake has changed
learning   graph -> predictor beside its baselines
scoring    states of the graph -> scores of the graph
qoe        how good is an application, from where, to where, when
"""
