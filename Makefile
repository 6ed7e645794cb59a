# Every command of the project. Each installs what it needs from the registries, once.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
PYTHON_READY := .venv/.ready
NODE_READY := worker/node_modules/.ready
WORKER_SOURCES := $(wildcard worker/src/*.ts worker/src/*.wat worker/build.mjs worker/package.json)
BUNDLE := sync_job/bundle/worker.js
TEST_BUNDLE := worker/build/test/worker.js
BROWSER := worker/build/browser/flags.js
CLIENTS_READY := tests/clients/npm/node_modules/.ready
READY := $(PYTHON_READY) $(BUNDLE) $(TEST_BUNDLE)
MINUTES ?= 10
# Tests wait as much as they work.
TEST_PROCESSES ?= $$((2 * $$(getconf _NPROCESSORS_ONLN)))

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(READY) ## the whole system on this machine: state to SQL, in about a minute
	@PYTHONPATH=tests $(BIN)/python -m demo

test: $(READY) $(BROWSER) $(CLIENTS_READY) ## all tests: real workerd, real DuckDB, the official resolver as the oracle
	$(BIN)/pytest --numprocesses=$(TEST_PROCESSES) --dist=loadfile

check: $(READY) ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd worker && node_modules/.bin/tsc --noEmit && node_modules/.bin/tsc --noEmit -p browser

test-faults: $(READY) ## every fault at every call of a sync run, and a kill at each; 50 states explained; consumers of a lake: about 17 minutes
	FAULT_MATRIX=full TIME_TRAVEL=full $(BIN)/pytest tests/sync_job/test_faults.py tests/sync_job/test_time_travel.py tests/log_consumer/test_consumer_lake_processes.py

fuzz-resolve: $(READY) ## the Worker against the official resolver for MINUTES=10
	PYTHONPATH=tests $(BIN)/python -m differential --minutes $(MINUTES)

bench-resolve: $(READY) ## the Worker against the official wasm: answers compared, medians and ratios
	@cd worker && node build.mjs --bench
	@PYTHONPATH=tests $(BIN)/python -m bench.resolve

bench-clients: $(READY) ## OFREP and the binding beside the Confidence API: values compared, ratios
	@cd worker && node build.mjs --bench
	@PYTHONPATH=tests $(BIN)/python -m bench.clients

bench-state: $(READY) ## a large state against Cloudflare's limits: upload, start, memory with one plan and two
	@PYTHONPATH=tests $(BIN)/python -m bench.large

bench-drain: $(READY) ## the consumer per CPU-second, beside DuckDB's own read_json and the queue's ceiling
	@PYTHONPATH=tests:tests/log_consumer $(BIN)/python -m bench.drain

bench-lake: $(READY) ## one consumer and four on a lake, in a folder and on moto's S3
	@PYTHONPATH=tests:tests/log_consumer $(BIN)/python -m bench.lake

bench-analytics: $(READY) ## every view over 1, 10 and 100 million exposures: time and memory; half an hour, 15 GB of disk
	@PYTHONPATH=tests $(BIN)/python -m bench.analytics

bench-pages: $(READY) ## a page with its flags beside the same page passed through: first byte, CPU
	@PYTHONPATH=tests $(BIN)/python -m bench.pages

bench-sync: $(READY) ## a run that finds nothing, one that deploys, and the compiling of a large state
	@PYTHONPATH=tests $(BIN)/python -m bench.sync

bench-flips: $(READY) ## from a flag's change to new answers, by deployment and by KV; 5 minutes
	@PYTHONPATH=tests $(BIN)/python -m bench.flips

package: $(READY) ## what is deployed, in dist/: our wheel, and a zip for each AWS Lambda function; sizes and digests
	@$(BIN)/python -m infra.package

tf-docs: $(PYTHON_READY) ## the tables of inputs and outputs in the READMEs of the Terraform modules
	$(BIN)/python -m infra.module_tables

tf-test: ## the Terraform modules with mocked providers; downloads those
	terraform -chdir=infra/terraform init -backend=false -input=false >/dev/null
	terraform -chdir=infra/terraform test

worker: $(BUNDLE) ## build the Worker into sync_job/bundle

browser: $(BROWSER) ## build the browser helper and its OpenFeature provider into worker/build/browser

format: $(PYTHON_READY) ## format the Python code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(PYTHON_READY) ## regenerate flagedge/wire from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --pyi_out=. proto/flagedge/wire/*.proto

lock: $(PYTHON_READY) ## renew the hashed requirements and the npm lock file
	$(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-annotate --no-emit-index-url \
		--no-emit-find-links --custom-compile-command "make lock" --python-version 3.11 \
		pyproject.toml --extra gate --extra aws --extra lake -o requirements/run.txt
	$(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-annotate --no-emit-index-url \
		--no-emit-find-links --custom-compile-command "make lock" --python-version 3.11 -c requirements/run.txt \
		--excludes requirements/function-sync-job-excludes.txt pyproject.toml --extra gate --extra aws \
		-o requirements/function-sync-job.txt
	$(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-annotate --no-emit-index-url \
		--no-emit-find-links --custom-compile-command "make lock" --python-version 3.11 -c requirements/run.txt \
		--excludes requirements/function-log-consumer-excludes.txt pyproject.toml --extra lake --extra aws \
		-o requirements/function-log-consumer.txt
	$(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-annotate --no-emit-index-url \
		--no-emit-find-links --custom-compile-command "make lock" --python-version 3.11 \
		pyproject.toml --extra dev -o requirements/dev.txt
	echo spotify-confidence-sdk==3.0.3 | $(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --python-version 3.11 \
		- -o requirements/client-confidence-sdk.txt
	printf 'openfeature-provider-ofrep==0.3.0\ncloudflare-flagship==0.6.0\n' | $(BIN)/uv pip compile -q --upgrade --universal \
		--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--python-version 3.11 - -o requirements/client-openfeature.txt
	echo schemathesis==4.32.5 | $(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --python-version 3.11 \
		- -o requirements/client-schemathesis.txt
	echo checkov==3.3.30 | $(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --python-version 3.11 \
		- -o requirements/client-checkov.txt
	echo spotify-confidence==4.1.0 | $(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --python-version 3.11 \
		- -o requirements/client-spotify-confidence.txt
	cd worker && npm install --package-lock-only --ignore-scripts
	cd tests/clients/npm && npm install --package-lock-only --ignore-scripts

clean: ## remove everything that was installed or built
	rm -rf .venv worker/node_modules tests/clients/npm/node_modules worker/build sync_job/bundle build .mypy_cache .ruff_cache .pytest_cache

$(PYTHON_READY): requirements/dev.txt pyproject.toml
	@python=$$(sh scripts/check_machine.sh) && \
	echo "installing Python packages into .venv" && \
	"$$python" -m venv .venv && \
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt && \
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(NODE_READY): worker/package-lock.json worker/package.json
	@sh scripts/check_machine.sh >/dev/null
	@echo "installing npm packages into worker/node_modules"
	@cd worker && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts --no-update-notifier >/dev/null
	@touch $@

$(CLIENTS_READY): tests/clients/npm/package-lock.json tests/clients/npm/package.json
	@echo "installing npm's clients and a browser into tests/clients/npm/node_modules"
	@cd tests/clients/npm && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts --no-update-notifier >/dev/null
	@touch $@

$(BUNDLE): $(WORKER_SOURCES) $(NODE_READY)
	@cd worker && node build.mjs

$(TEST_BUNDLE): $(WORKER_SOURCES) worker/test/entry.ts $(NODE_READY)
	@cd worker && node build.mjs --test

$(BROWSER): $(wildcard worker/browser/*) worker/build.mjs $(NODE_READY)
	@cd worker && node build.mjs --browser && node_modules/.bin/tsc -p browser

.PHONY: help demo test check test-faults fuzz-resolve bench-resolve bench-clients bench-state bench-drain bench-analytics bench-lake bench-pages bench-sync bench-flips package tf-docs tf-test worker browser format proto lock clean
