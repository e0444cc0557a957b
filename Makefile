# The commands of this project. CI calls the same ones (.ci/run).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# files in the order of tests/conftest.py, not by their number of tests
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast endurance exercises gpu-check check docs proto image image-test clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
	  { echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version); try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[export,serve,dev]'
	@touch $@

install: $(INSTALLED)  ## Make .venv with everything, versions pinned

demo: $(INSTALLED)  ## Everything on generated images: train, evaluate, export, serve, predict
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo.sh

test: $(INSTALLED)  ## The full test suite, in two processes
	$(BIN)/python -m pytest $(IN_TWO)

test-fast: $(INSTALLED)  ## The quick tests, to run before each commit (a minute and a half at most)
	$(BIN)/python -m pytest $(IN_TWO) -m "not slow" tests/unit

exercises: $(INSTALLED)  ## Run the commands of every file in configs/, on a few images (half an hour)
	$(BIN)/python -m pytest tests/exercises

endurance: $(INSTALLED)  ## The long tests: runs killed twenty times, bad input, half an hour each of overload and of attacks
	$(BIN)/python -m pytest tests/endurance -s

gpu-check:  ## VGG-16 on this machine's GPU beside PyTorch, ten minutes at most (needs Keras and JAX in $(PYTHON))
	KERAS_BACKEND=jax $(PYTHON) benchmarks/gpu_check.py $(ARGS)

check: $(INSTALLED)  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/mypy voc_cls serving export

# not --quiet, with which --strict sees no warnings
docs: $(INSTALLED)  ## Build the documentation site in site/, and check its links
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

proto: $(INSTALLED)  ## Generate voc_cls/v1, serving/v2 and serving/tensorflow_protos.binpb from proto/
	$(BIN)/pip install --quiet --no-deps --upgrade --target build/protoc grpcio-tools==1.76.0  # fits the oldest protobuf
	PYTHONPATH=build/protoc $(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. \
	  proto/voc_cls/v1/classifier.proto proto/serving/v2/open_inference.proto
	PYTHONPATH=build/protoc $(BIN)/python -m grpc_tools.protoc -I proto --include_imports \
	  --descriptor_set_out=serving/tensorflow_protos.binpb proto/serving/v1/*.proto

image:  ## Build the Docker images voc-cls:dev (TensorFlow) and voc-cls:openvino
	DOCKER_BUILDKIT=1 $${DOCKER:-docker} build --network=host --target tensorflow -t voc-cls:dev .
	DOCKER_BUILDKIT=1 $${DOCKER:-docker} build --network=host --target openvino -t voc-cls:openvino .

image-test: $(INSTALLED)  ## Build both images, run them, send each a request (needs a Docker engine)
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/image-test.sh

clean:  ## Remove what make made
	rm -rf .venv demo build site *.egg-info .mypy_cache .ruff_cache .pytest_cache
