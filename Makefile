# Everything runs in .venv, made on first use with nothing but python3 and pip.
PYTHON ?= python3
BIN := .venv/bin
# Made again whenever the list of dependencies changes; one stamp per set of extras.
STAMP := .venv/.installed-

.PHONY: demo test test-examples lint types docs numerics bench clean
.DELETE_ON_ERROR:

demo: $(STAMP)plot  ## fit Old Faithful, print the fit, draw it to out/faithful.png
	$(BIN)/python examples/quickstart.py

test: test-float32 test-float64 test-examples  ## the whole suite, in both dtypes, and every example in README and docs

# Nearly all of their time goes into compiling, most of that into optimised machine code and into XLA's newer way to emit
# fused loops; the gallery of the documentation is run with both, as users have them. Nothing is kept on disk: two
# processes that share JAX's persistent cache read each other's unfinished files, and a program from there was seen to
# compute other numbers.
QUICK := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1
test-float32 test-float64: test-float%: $(STAMP)test
	JAX_ENABLE_X64=$(if $(filter 64,$*),1,0) XLA_FLAGS="$(QUICK)" \
		$(BIN)/python -m pytest -q -n auto --dist loadfile tests

# The examples of one document share their names, so they run in order.
test-examples: $(STAMP)test
	XLA_FLAGS="$(QUICK)" $(BIN)/python -m pytest -q -n auto --dist loadfile README.md docs jaxgmm

lint: $(STAMP)lint  ## style, and that lower layers never import upper ones
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)lint
	$(BIN)/mypy

# The examples are run for it, which GALLERY=0 leaves out.
docs: $(STAMP)docs,examples,cli  ## the documentation, warnings as errors, to docs/_build/html
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

numerics: $(STAMP)numerics  ## run the numerical experiments and write their tables into docs/numerics.md
	$(BIN)/python numerics/tables.py

# The peers live apart, so that none of them decides over the library's versions. torch comes first, so that none of
# them pulls another one.
bench: benchmarks/.venv/.installed  ## measure beside the peers, all cases or CASES="grid memory", and write docs/benchmarks.md
	benchmarks/.venv/bin/python -m benchmarks.run $(if $(CASES),--cases $(CASES))

benchmarks/.venv/.installed: benchmarks/requirements.txt pyproject.toml
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep ^torch $<)"
	benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(STAMP)%: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	@touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv benchmarks/.venv out docs/_build docs/gallery
