"""Which models and versions there are: on disk, being loaded, answering, being unloaded."""
