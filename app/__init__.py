"""The faces of the twin: parse, one call, print.

cli        the command line; the only module that prints or exits
settings   where the home is, which secrets the environment holds
output     rows as table, json, csv, ndjson
progress   bars with an ETA on a terminal, lines elsewhere; on stderr
demo       the whole way on the testbed, and the page that shows it
"""
