"""voc-serve: folders of exported models become a predictor over gRPC and HTTP.

    config/         flags, environment and file; voc-serve --check
    services/       the gRPC services: what callers say, checked and translated
    rest/           TensorFlow Serving's REST API, health and metrics over HTTP
    models/         versions on disk and in memory: found, loaded, warmed up, used, drained, unloaded
    engine/         what computes: decoder, batcher, and a network in a process of its own
    security/       keys, limits, TLS, names from outside
    telemetry/      metrics, log, traces

server.py puts them together and takes them apart again. Every call, by whichever port it came (calls.py,
http_calls.py), goes through reception.py and is a call.py Call from there on.
"""
