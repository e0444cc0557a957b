"""The networks, written in Keras 3, their variables named as in TF-Slim."""
