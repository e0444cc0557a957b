"""The training run: its config, what is trained, the loss, the trunk cache, callbacks, the run folder."""
