# make demo     the whole way on a synthetic Internet, then says what to look at; STORE=neo4j keeps its graph in Neo4j
# make test     all tests, on up to four cores; ARGS="-n 0 tests/kg" some, in one process
# make check    format, lint, types, import rules
# make neo4j    a Neo4j server without Docker, in .neo4j/ (Java 17; Maven the first time); Ctrl-C stops it
# make bench    figures as JSON, on recorded measurements where there are some
# make soak     ingestion killed 200 times, and all else that writes lake and graph 30 times each; an hour of the schedule with every fault; 100,000 damaged records; files of 2 GB in a few KB; three recorded weeks from SQLite to RDF, to Neo4j, and back
# make docs     docs/commands.md from the command line itself, docs/graph.md from the ontology
# make clean    remove what was made here

PYTHON ?= python3
VENV   ?= .venv
DEMO_HOME ?= demo-home
# A file of tests stays in one process, and so does all that empties a database which NEO4J_URI names.
SHARED := $(if $(NEO4J_URI),,--numprocesses logical --maxprocesses 4 --dist loadfile)
BIN := $(VENV)/bin

.PHONY: demo test check neo4j bench soak docs clean install

demo: $(VENV)/installed
	$(if $(filter neo4j,$(STORE)),$(BIN)/python -m tests.neo4j) $(BIN)/qoetwin demo --home $(DEMO_HOME)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(SHARED) $(ARGS)

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

neo4j: $(VENV)/installed-dev
	$(BIN)/python -m tests.neo4j

bench: $(VENV)/installed-dev
	$(BIN)/python -m bench.archive
	$(BIN)/python -m bench.parsing
	$(BIN)/python -m bench.whole_way
	$(BIN)/python -m bench.graph
	$(BIN)/python -m bench.learning

soak: $(VENV)/installed-dev
	$(BIN)/python -m bench.kills
	$(BIN)/python -m bench.hour
	$(BIN)/python -m bench.mutations
	$(BIN)/python -m bench.bombs
	$(BIN)/python -m bench.round_trip

docs: $(VENV)/installed
	$(BIN)/python -c "from pathlib import Path; from app.manual import manual; Path('docs/commands.md').write_text(manual())"
	$(BIN)/python -c "from pathlib import Path; from kg.reference import reference; Path('docs/graph.md').write_text(reference())"

install: $(VENV)/installed

# uv is installed into the environment itself, and installs the rest four times as fast as pip. CPU only: install torch's
# CPU wheel first, as PyTorch's page says; what is there and fits the pins is kept.
$(VENV)/bin/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "qoetwin needs Python 3.11 or later, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/installed: $(VENV)/bin/uv pyproject.toml constraints.txt hatch_build.py $(wildcard ingest/ordinary/Cargo.* ingest/ordinary/src/*.rs)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable .
	@$(BIN)/python -c "from ingest.ordinary import library; print('parser: with its library' if library() else 'parser: without its library, so more slowly (no cargo when it was installed)')"
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_HOME) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
