"""Weight files: reading, comparing with a network, restoring, fetching, verifying against TF-Slim."""
