"""Clients of voc-serve that need neither TensorFlow nor Keras.

    with Client("127.0.0.1:8500") as client:
        for prediction in client.classify([Path("a.jpg"), Path("b.jpg")], top_k=3):
            print(prediction.labels)

`AsyncClient` has the same methods as coroutines. docs/clients.md is the guide.
"""

from voc_cls.client.async_client import AsyncClient
from voc_cls.client.client import Client
from voc_cls.client.errors import CallError
from voc_cls.client.types import ClassifyOptions, LabelInfo, ModelInfo, ModelVersion
from voc_cls.image_decoder import Preprocessing
from voc_cls.prediction import Prediction, ScoredLabel

__all__ = ["AsyncClient", "CallError", "ClassifyOptions", "Client", "LabelInfo", "ModelInfo", "ModelVersion",
           "Prediction", "Preprocessing", "ScoredLabel"]
