# Two commands need nothing before them: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

COVERAGE_AT_LEAST ?= 93

.PHONY: demo test check fast coverage bench bench-validate bench-against bench-postgres bench-crash bench-fhir bench-patients bench-fhir-fuzz bench-gpu bench-physionet format clean

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Ausculta needs Python 3.11; say which with: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,postgres,federated,training]"
	$(BIN)/python -c "import torch; assert torch.__version__.startswith('2.13.0'), torch.__version__"
	touch $@

demo: $(INSTALLED) ## a patient's story through every listener; keeps running at a terminal, ends by itself elsewhere
	@if [ -t 1 ]; then $(BIN)/ausculta demo $(ARGS); else $(BIN)/ausculta demo --once $(ARGS); fi

test: check ## the whole check: style, types, imports, tests
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: $(INSTALLED) ## the tests without the long ones
	$(BIN)/pytest -n 2 --dist loadgroup -m "not crash and not browser and not postgres" $(ARGS)

coverage: $(INSTALLED) ## the fast tests, with the share of lines and branches that they run
	$(BIN)/pytest -n 2 --dist loadgroup -m "not crash and not browser and not postgres" --cov --cov-report=term --cov-fail-under=$(COVERAGE_AT_LEAST) $(ARGS)

bench: $(INSTALLED) ## every benchmark, one after the other; figures to benchmarks/results
	$(BIN)/python -m benchmarks $(ARGS)

bench-validate: $(INSTALLED) ## validating R4 resources, side by side with fhir.resources
	$(BIN)/python -m benchmarks.validate

bench-against: $(INSTALLED) ## side by side with another checkout: make bench-against CHECKOUT=../other
	$(BIN)/python -m benchmarks.against $(CHECKOUT)

bench-postgres: $(INSTALLED) ## creates and messages on a private PostgreSQL server
	$(BIN)/python -m benchmarks.postgres $(if $(CHECKOUT),--other $(CHECKOUT))

bench-gpu: $(INSTALLED) ## networks through the runners beside plain PyTorch: make bench-gpu DEVICE=cpu
	$(BIN)/python -m benchmarks.networks --device $(or $(DEVICE),cuda) $(ARGS)

bench-fhir: $(INSTALLED) ## FHIR at 10,000 and 1,000,000 Observations, on both databases: make bench-fhir ARGS="--sizes 10000"
	$(BIN)/python -m benchmarks.fhir_at_scale $(ARGS)

bench-patients: $(INSTALLED) ## 1,000 patients of Bundles of Synthea, imported and searched: make bench-patients BUNDLES=../bundles
	$(BIN)/python -m benchmarks.real_patients $(BUNDLES) $(ARGS)

bench-fhir-fuzz: $(INSTALLED) ## the long run of schemathesis against the FHIR API: make bench-fhir-fuzz N=200 SEED=7
	AUSCULTA_FUZZ_EXAMPLES=$(or $(N),100) AUSCULTA_FUZZ_SEED=$(or $(SEED),1) $(BIN)/pytest tests/hostile/test_fhir_fuzz.py

bench-physionet: $(INSTALLED) ## a model of ICU stays, trained and served: make bench-physionet DATA=../shared/data/physionet2012 ARGS="--records 300"
	$(BIN)/python -m benchmarks.physionet $(DATA) $(ARGS)

bench-crash: $(INSTALLED) ## the long kill run: make bench-crash N=1000
	$(BIN)/python -m benchmarks.crash --kills $(or $(N),1000)

format: $(INSTALLED)
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
