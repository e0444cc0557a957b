"""voc-serve: a folder of exported models becomes a gRPC predictor.

    servicers   prediction_service.py, classifier_service.py, rest.py: what callers say, checked and translated
    batcher     batcher.py: a bounded queue of preprocessed pictures, taken in batches
    engine      engine.py (what an engine is), tensorflow_engine.py
    models      model_folder.py (versions on disk), metadata.py, servable.py (one loaded), models.py (which answer)

server.py puts them together and takes them apart again; calls.py stands around every call.
"""
