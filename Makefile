# Two commands do everything on a machine with Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# The hundreds of programs that the tests start import what was compiled once.
unexport PYTHONDONTWRITEBYTECODE
BOTH := tests/instrumentation tests/exporters

.PHONY: env demo test lint test-debian test-long test-matrix test-matrix-fast bench-hot bench-exporter bench-queries bench-slo bench-archive bench-scrape docs lock clean

env: $(READY)

demo: $(READY)
	$(BIN)/python examples/downloader/demo.py

# The default provider of spans, then the SDK's own, on which the hooks and the exporter promise the same.
test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not long and not debian"
	RETROSPAN_FAST_SPANS=0 $(BIN)/python -m pytest -n 3 --dist loadfile -m "not long and not debian" $(BOTH)

test-debian: $(READY)
	$(BIN)/python -m pytest -m debian

test-long: $(READY)
	$(BIN)/python -m pytest --hypothesis-profile=long
	RETROSPAN_FAST_SPANS=0 $(BIN)/python -m pytest --hypothesis-profile=long $(BOTH)

# Pythons are those that the machine has; uv finds them.
test-matrix: $(READY)
	$(BIN)/nox

test-matrix-fast: $(READY)
	$(BIN)/nox -t fast

bench-hot: $(READY)
	$(BIN)/python benchmarks/hot_path.py

bench-exporter: $(READY)
	$(BIN)/python benchmarks/exporter.py

bench-queries: $(READY)
	$(BIN)/python benchmarks/queries.py

bench-slo: $(READY)
	$(BIN)/python benchmarks/slo.py

bench-scrape: $(READY)
	$(BIN)/python benchmarks/scrape.py

bench-archive: $(READY)
	$(BIN)/python benchmarks/archive.py $(ROWS)

docs: $(READY)
	$(BIN)/python docs/generate.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# uv installs what the lock says and nothing else; the lock has a hash for every file of every platform.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Retrospan needs Python 3.11 or newer; say make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

lock: $(READY)
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url pyproject.toml --all-extras --group dev --output-file requirements.lock

clean:
	rm -rf .venv demo-out dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
