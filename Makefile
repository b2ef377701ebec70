# Every target works on a bare machine: what is missing is installed first, under .venv and the user's cache folder.
PYTHON ?= python3
BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock"

IMAGE ?= moorage:dev
BASE ?= python:3.11-slim

.DEFAULT_GOAL := help
.PHONY: help setup run check lint types imports drift crds servers bench-operator soak-operator test image image-reproducible e2e e2e-nodes bench lock

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Make .venv with everything that the lock names (nothing to do when it is up to date)
	@$(PYTHON) tools/bootstrap.py

run: setup ## Start Moorage on this machine: examples/quickstart.yaml behind NGINX
	@$(BIN)/moorage up -f examples/quickstart.yaml

check: lint types imports drift ## Lint, formatting, types, the import rules and what is generated

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy
	$(BIN)/mypy tools tests/support examples

imports: setup
	$(BIN)/lint-imports

drift: setup
	$(BIN)/python tools/write_crds.py --check

crds: setup ## Write crds/ and docs/resources.md from the models
	$(BIN)/python tools/write_crds.py

servers: setup ## Fetch or build the servers that the tests run on: etcd, MinIO, SeaweedFS, NGINX, Helm, kube-apiserver
	@$(BIN)/python tools/fetch_servers.py

# Tests wait for servers more than they work: two processes a core.
PROCESSES ?= $(shell expr 2 \* $$(nproc))

test: servers ## Run the tests, on real servers (PROCESSES=4)
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadgroup

image: ## Build the image with docker (IMAGE=moorage:dev; BASE=python:3.11-slim, any with Python 3.11 or newer)
	docker build --build-arg BASE=$(BASE) --tag $(IMAGE) .

image-reproducible: ## Build the image twice from nothing, and see that its layers are the same bit by bit
	docker build --no-cache --build-arg BASE=$(BASE) --tag $(IMAGE)-first .
	docker build --no-cache --build-arg BASE=$(BASE) --tag $(IMAGE)-second .
	@layers() { docker image inspect --format '{{range .RootFS.Layers}}{{println .}}{{end}}' $(IMAGE)-$$1; }; \
	layers first; [ "$$(layers first)" = "$$(layers second)" ] || { echo "the second build differs:"; layers second; exit 1; }

e2e: setup ## Run the tests on a Kubernetes cluster: KUBECONFIG's, else one made with kind; needs docker, kind, kubectl
	MOORAGE_E2E_IMAGE=$(IMAGE) MOORAGE_E2E_BASE=$(BASE) $(BIN)/pytest tests/e2e

e2e-nodes: setup ## The same on three nodes, where members, volumes and a node are lost: KUBECONFIG's, else made with kind
	MOORAGE_E2E_IMAGE=$(IMAGE) MOORAGE_E2E_BASE=$(BASE) $(BIN)/pytest -s tests/e2e/nodes

.PHONY: simulate mutants soak
SEEDS ?= 10000
FIRST ?= 0
SIMULATOR := PYTHONPATH=tests/support $(BIN)/python -m simulator

simulate: setup ## Simulate many worlds: SEEDS=10000 (FIRST=0), or SEED=n to see one
	@$(SIMULATOR) $(if $(SEED),seed $(SEED),seeds --seeds $(SEEDS) --first $(FIRST))

mutants: setup ## Plant bugs in the servers and see that the simulation finds them
	@$(SIMULATOR) mutants

RUNS ?= 50

soak: servers ## Kill, stop and cut off the processes of a real store under load: RUNS=50
	@PYTHONPATH=tests/support $(BIN)/python -m soak --runs $(RUNS)

bench: setup ## Measure, side by side with what each figure is compared to
	$(BIN)/python bench/run.py

bench-operator: servers ## The operator with 300 resources: memory, requests while nothing changes, latency
	$(BIN)/python bench/reconcile.py

soak-operator: servers ## The operator killed after every single write, and 200 random sequences of spec changes
	MOORAGE_WRITES_IN_A_LIFE=1 MOORAGE_SEQUENCES=200 $(BIN)/pytest tests/cluster/test_crashes.py tests/cluster/test_key_rotation.py \
		tests/cluster/test_certificate_renewal.py tests/cluster/test_random_specs.py

lock: setup ## Lock again after a change in pyproject.toml (delete a lock first to take the newest of everything)
	$(COMPILE) pyproject.toml --all-extras --group dev --group build --output-file requirements.lock
	$(COMPILE) --group tools --output-file operator/moorage_operator/local/wheels.lock
	$(COMPILE) pyproject.toml --extra nodes --extra operator --constraint requirements.lock --output-file image.lock
	$(COMPILE) --group build --constraint requirements.lock --output-file build.lock
