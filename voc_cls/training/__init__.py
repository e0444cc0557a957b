"""The training run: its config, what is trained, the loss, the frozen backbone, callbacks, the run folder."""
