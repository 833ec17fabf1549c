"""The faces of the twin: parse, one call, print.

cli        the command line; the only module that prints or exits
config     qoetwin.toml: which sources, when
jobs       what a job of the schedule does when it runs
scheduler  what runs the jobs, until told to stop or once
status     how the schedule is doing, as rows
schedule_state  what the schedule remembers, and who runs what
settings   where the home is, which secrets the environment holds
output     rows as table, json, csv, ndjson
progress   bars with an ETA on a terminal, lines now and then elsewhere; on stderr
figures    figures of a comparison, as people read them
demo_page  the demo as rows and as an HTML page
manual     the manual of the command line, made from it
"""
