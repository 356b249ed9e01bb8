# Everything runs in a virtual environment, made on first use with nothing but python3 and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Made again whenever the list of dependencies changes; one stamp per set of extras.
STAMP := $(VENV)/.installed-

.PHONY: demo installed test test-examples test-newest test-perturbed lint types docs numerics bench stress clean
.DELETE_ON_ERROR:

demo: $(STAMP)plot  ## fit Old Faithful, print the fit, draw it to out/faithful.png
	$(BIN)/python examples/quickstart.py

installed: $(STAMP)plot $(STAMP)lint $(STAMP)docs,examples,cli $(STAMP)test  ## what all of these need, at once

test: test-float32 test-float64 test-examples  ## the whole suite, in both dtypes, and every example in README and docs

# Nearly all of their time goes into compiling, most of that into optimised machine code and, where this jaxlib still has
# the choice, into XLA's newer way to emit fused loops; the gallery of the documentation is run with both, as users have
# them. Nothing is kept on disk, so that what a test compiles does not depend on what ran before.
OLD_LOOPS := --xla_cpu_use_fusion_emitters=false
HAS_OLD_LOOPS = $(shell ulimit -c 0; XLA_FLAGS="$(OLD_LOOPS)" $(BIN)/python -c "import jax; jax.devices()" 2>/dev/null || echo no)
CHEAP = --xla_cpu_parallel_codegen_split_count=1 $(if $(HAS_OLD_LOOPS),,$(OLD_LOOPS))
QUICK = --xla_backend_optimization_level=0 $(CHEAP)
PYTEST = $(BIN)/python -m pytest -n auto
test-float32 test-float64: test-float%: $(STAMP)test
	JAX_ENABLE_X64=$(if $(filter 64,$*),1,0) XLA_FLAGS="$(QUICK)" $(PYTEST) --dist worksteal $(or $(TESTS),tests)

# The examples of one document share their names, so they run in order.
test-examples: $(STAMP)test
	XLA_FLAGS="$(QUICK)" $(PYTEST) --dist loadfile README.md docs jaxgmm

# pyenv keeps its versions off the path.
NEWEST = $(shell for name in python3.13 python3.12; do \
	for path in "$$(command -v $$name)" "$$(pyenv whence --path $$name 2>/dev/null | head -1)"; do \
	"$$path" -c "import venv" 2>/dev/null && echo "$$path" && exit; done; done)
test-newest:  ## the same, or "test-float32 TESTS=..." by RUN, on the newest JAX, which wants Python 3.12 or later
	@if [ -z "$(NEWEST)" ]; then echo "test-newest is skipped: neither python3.13 nor python3.12 is found."; \
	else $(MAKE) VENV=.venv-newest PYTHON="$(NEWEST)" $(or $(RUN),test); fi

# The whole suite where rounding goes elsewhere: other instructions, other optimisation, one thread, and other orders of
# the rows of the cases. The library's own choice of options is set aside. What is about files, pictures, processes and counts of programs is left out.
PERTURBATIONS := sse avx2 avx512 level2 level3 thread rows1 rows2
BARELY_OPTIMISED = --xla_backend_optimization_level=1 $(CHEAP)
FLAGS_sse = $(BARELY_OPTIMISED) --xla_cpu_max_isa=SSE4_2
FLAGS_avx2 = $(BARELY_OPTIMISED) --xla_cpu_max_isa=AVX2
FLAGS_avx512 = $(BARELY_OPTIMISED) --xla_cpu_max_isa=AVX512
FLAGS_level2 = --xla_backend_optimization_level=2 $(CHEAP)
FLAGS_level3 = --xla_backend_optimization_level=3
FLAGS_thread = $(QUICK)
FLAGS_rows1 = $(QUICK)
FLAGS_rows2 = $(QUICK)
NOT_NUMBERS := $(patsubst %,--ignore=tests/test_%.py,cli compilation examples package plot saving)
test-perturbed: $(PERTURBATIONS:%=perturbed-%)  ## the suite in both dtypes where rounding goes elsewhere: hours
perturbed-%: $(STAMP)test
	for x64 in 0 1; do JAX_ENABLE_X64=$$x64 XLA_FLAGS="$(FLAGS_$*)" $(if $(filter thread,$*),NPROC=1) OWN_OPTIONS=0 ROWS_SHUFFLED=$(patsubst rows%,%,$(filter rows%,$*)) \
	$(PYTEST) --dist worksteal $(NOT_NUMBERS) $(or $(TESTS),tests) || exit; done

lint: $(STAMP)lint  ## style, and that lower layers never import upper ones
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)lint
	$(BIN)/mypy

# The examples are run for it, which GALLERY=0 leaves out.
docs: $(STAMP)docs,examples,cli  ## the documentation, warnings as errors, to docs/_build/html
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

numerics: $(STAMP)numerics  ## run the numerical experiments and write their tables into docs/numerics.md, priors.md and sklearn.md
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

SECONDS ?= 60
STRESS_PYTHON ?= $(BIN)/python
stress: $(if $(filter $(BIN)/python,$(STRESS_PYTHON)),$(STAMP)progress)  ## two threads, SECONDS each: all return?
	$(STRESS_PYTHON) -m benchmarks.stress --seconds $(SECONDS)

$(STAMP)%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf .venv .venv-newest benchmarks/.venv out docs/_build docs/gallery
