"""The knowledge graph: three layers, one schema, a store.

schema       labels, keys, properties, edges; checked against ontology.ttl by a test
build        observations and probes, as tables -> nodes, edges
store        what a store must do (the protocol), and which stores there are
sqlite_store the default store
arrays       what learning gets: pairs x windows, and nothing else
"""
