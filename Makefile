# The project's commands. Each one first installs what it needs.
PY = .venv/bin/python
ARGS =
WORKERS = 2
ARCH = x86_64
PYTHON_VERSION = 3.13
ADD =

.PHONY: help demo test unit test-lowest chaos fuzz bench lint prose install system servers lock package docs clean

help:  ## Show these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 20

demo: install system  ## Run the full pipeline on this machine and verify the result (ARGS='-o json', ARGS=--keep)
	@.venv/bin/cdcctl demo $(ARGS)

test: install system servers  ## Run all tests (ARGS='-k name' WORKERS=1)
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

unit: install  ## Run the unit tests, which need no server (ARGS='-k name' WORKERS=1)
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/unit $(ARGS)

test-lowest: install system  ## Run the unit tests and the demo on the lowest versions of the dependencies (ONLY=unit)
	@scripts/test-lowest.sh $(ONLY)

chaos: install system servers  ## Run the nemesis, then all kill tests in full (nemesis only: MINUTES=2 SEED=7; tests only: ARGS='-k name')
	$(if $(if $(MINUTES)$(SEED),,$(ARGS)),,$(PY) -m tests.nemesis --minutes $(or $(MINUTES),10) $(addprefix --seed ,$(SEED)))
	$(if $(if $(ARGS),,$(MINUTES)$(SEED)),,CDC_CHAOS=full $(PY) -m pytest -m chaos --timeout 3600 $(ARGS))

fuzz: install  ## Fuzz every reader of outside bytes with mutated input (MINUTES=10 SEED=7)
	$(PY) -m tests.fuzz --minutes $(or $(MINUTES),1) $(addprefix --seed ,$(SEED))

bench: install system servers  ## Measure against peers and against limits (QUICK=1; ARGS='--only producer')
	@scripts/test-servers.sh debezium
	$(PY) -m benchmarks $(ARGS)

lint: install  ## Check style, types, import directions and prose
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) -P scripts/check_prose.py

prose: install  ## List the words that the project does not use, with file and line
	@$(PY) -P scripts/check_prose.py

install:  ## Create .venv with the locked dependencies
	@scripts/venv.sh

system:
	@scripts/system-packages.sh

servers: install
	@scripts/test-servers.sh kinesis dynamodb opensearch

lock: install  ## Resolve the dependencies again and write the requirements*.lock files
	$(PY) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 --extra all --extra local --extra dev pyproject.toml -o requirements.lock
	$(PY) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 requirements-build.in -o requirements-build.lock
	$(PY) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 --extra producer pyproject.toml --constraint requirements.lock -o requirements-lambda.lock
	$(PY) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 --extra all pyproject.toml --constraint requirements.lock -o requirements-image.lock
	$(PY) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 tests/servers/opensearch/java.in -o tests/servers/opensearch/java.lock

package: install  ## Build the Lambda function's zip (ARCH=arm64 PYTHON_VERSION=3.13 ADD=global-bundle.pem)
	@$(PY) scripts/lambda_package.py --arch $(ARCH) --python $(PYTHON_VERSION) $(addprefix --add ,$(ADD))

docs: install system  ## Generate the reference page and the images in docs/
	$(PY) -m cdcctl.reference > docs/commands.md
	@.venv/bin/cdcctl demo --svg docs/demo.svg >/dev/null

clean:  ## Remove build output, caches and the sandbox
	-@[ -x .venv/bin/cdcctl ] && for data in .cdc .cdc/demo; do .venv/bin/cdcctl local down --data $$data; .venv/bin/cdcctl local reset --yes --data $$data; done
	rm -rf .venv .cdc build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
