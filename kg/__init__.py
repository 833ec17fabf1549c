"""The knowledge graph: three layers, one schema, a store.

schema       labels, keys, properties, edges; checked against ontology.ttl by a test
build        what was ingested, as tables -> nodes, edges, facts
centrality   degree, betweenness, closeness … of addresses and ASes
scope        which addresses are the same machine everywhere, and which are local
store        what a store must do (the protocol), and which stores there are
sqlite_store the default store
arrays       what learning gets: pairs x windows, and nothing else
"""
