# The commands of this project. CI calls the same ones (.ci/run).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test endurance exercises check proto image image-test clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
	  { echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version); try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,serve,dev]'
	@touch $@

install: $(INSTALLED)  ## Make .venv with everything, versions pinned

demo: $(INSTALLED)  ## The whole way on generated pictures: train, evaluate, export, serve, ask
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo.sh

test: $(INSTALLED)  ## All tests (about half an hour on 2 cores)
	$(BIN)/python -m pytest

exercises: $(INSTALLED)  ## Every file in configs/ as its header says, on a few pictures (a quarter of an hour)
	$(BIN)/python -m pytest tests/exercises

endurance: $(INSTALLED)  ## The long tests: runs killed twenty times, bad input, half an hour of overload
	$(BIN)/python -m pytest tests/endurance -s

check: $(INSTALLED)  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/mypy voc_cls serving export

proto: $(INSTALLED)  ## Generate voc_cls/v1 from proto/
	$(BIN)/pip install --quiet --no-deps --upgrade --target build/protoc grpcio-tools==1.76.0  # fits the oldest protobuf
	PYTHONPATH=build/protoc $(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. \
	  proto/voc_cls/v1/classifier.proto

image:  ## Build the Docker image voc-cls:dev
	DOCKER_BUILDKIT=1 $${DOCKER:-docker} build --network=host -t voc-cls:dev .

image-test: $(INSTALLED)  ## Build the image, run it, ask it (needs a Docker engine)
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/image-test.sh

clean:  ## Remove what make made
	rm -rf .venv demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache
