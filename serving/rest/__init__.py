"""The HTTP port: TensorFlow Serving's REST API, health and metrics."""
