"""What the processes of tests/forked.py have imported when they begin."""

from voc_cls.console import import_tensorflow

import_tensorflow()
import serving.decoding.worker  # noqa: E402
import serving.engine.tensorflow  # noqa: E402
import serving.grpc.services  # noqa: E402
import serving.rest.routes  # noqa: E402
import serving.server  # noqa: E402, F401
import voc_cls.training.session  # noqa: E402, F401
