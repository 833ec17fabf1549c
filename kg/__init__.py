"""The knowledge graph: three layers, one ontology, a store.

ontology.ttl what there is: labels, keys, properties, units, edges, facts. Everything else follows it
shapes.ttl   what must hold of it (SHACL); `check` holds a graph against it
schema       the ontology, for code
build        what was ingested, as tables -> nodes, edges, facts
predictions  what models predicted, as facts of their own
store        what a store must do (the protocol), and which stores there are
sqlite_store the default store; sqlite_layout and sqlite_migrations are its tables
neo4j_store  the store of many; neo4j_query answers Cypher
exchange     to and from turtle, nquads, jsonld, graphml, iyp-csv
sparql       questions to the graph in RDF
history      the graph as it was, and what changed
arrays       what learning gets: pairs x windows, and nothing else
"""
