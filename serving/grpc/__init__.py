"""The gRPC services: what callers say, checked and translated, and what they are told."""
