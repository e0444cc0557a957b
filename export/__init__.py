"""Exports a run as a version of a model: a SavedModel, an ONNX graph, OpenVINO IR; each verified."""
