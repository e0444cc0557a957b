"""Whom voc-predict asks: a server over one stream, or a run folder in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from voc_cls.cli.predict import EXPORTED, PROGRAM, PredictConfig, Server
from voc_cls.client import Client, Question
from voc_cls.client.connection import plain_text_risk
from voc_cls.predictions import Prediction


def ask(config: PredictConfig, files: list[Path]) -> Iterator[Prediction]:
    """One prediction for each file, in their order; few pictures are in memory at a time, but with a run folder."""
    return _from_run(config.run, files, config.top_k) if config.run is not None else _from_server(config, files)


def _from_server(config: PredictConfig, files: list[Path]) -> Iterator[Prediction]:
    server = config.server
    token, api_key = server.keys
    if not server.trust and (risk := plain_text_risk(server.address, token, api_key)):
        print(f"{PROGRAM}: note: {risk}; --tls encrypts", file=sys.stderr)

    def on_wait() -> None:
        print(f"{PROGRAM}: {server.address} is not ready yet, waiting up to {server.wait:g} s", file=sys.stderr)

    with Client(server.address, timeout=server.timeout, wait=server.wait, tls=server.trust, token=token,
                api_key=api_key, client_cert=server.client_cert, client_key=server.client_key, plain_text_keys=True,
                on_wait=on_wait) as client:
        for _, prediction in client.classify_stream(files, ordered=True, **_question(server, config.top_k)):
            yield prediction


def _question(server: Server, top_k: int) -> Question:
    question = Question(top_k=top_k, model=server.model, version_label=server.version_label)
    if server.version is not None:
        question["version"] = server.version
    if server.thresholds == EXPORTED:
        question["exported_thresholds"] = True
    elif server.thresholds is not None:
        question["threshold"] = float(server.thresholds)
    return question


def _from_run(run: Path, files: list[Path], top_k: int) -> Iterator[Prediction]:
    from voc_cls.evaluation.predict import predict_files

    labels, probabilities, activation = predict_files(run, files)
    name = run.resolve().name
    for row in probabilities:
        yield Prediction.from_probabilities(row, labels, name, activation, top_k)
