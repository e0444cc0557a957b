"""voc-serve: folders of exported models become a predictor over gRPC and HTTP.

    server                            puts the parts together, and stops them in order (shutdown, listeners)
    grpc/, rest/                      the gRPC services and TensorFlow Serving's REST API
    inference                         what each signature of a model does, for both
    models/                           versions on disk and in memory: loading, use, draining, unloading
    decoding/                         images to inputs, in processes that can be killed
    engine/                           dynamic batching, and each network in a separate process
    request_middleware                around every request (grpc_interceptor, http_middleware): security/, telemetry/
    config/                           flags, environment and YAML file; voc-serve --check

Imports go from top to bottom. Every request, by whichever port it came, has a request_context.
"""
