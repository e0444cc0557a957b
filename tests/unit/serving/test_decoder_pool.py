"""A decoder that was killed for one picture does not cost another one its answer."""

from __future__ import annotations

import os
import socket

from serving.decoding.pool import _Worker
from serving.decoding.worker import RESULT_BYTES


def test_a_decoder_that_is_killed_after_its_answer_gets_no_other_picture_although_it_is_not_gone_yet() -> None:
    ours, theirs = socket.socketpair()
    memory = os.memfd_create("result")
    os.truncate(memory, RESULT_BYTES)
    worker = _Worker(ours, memory)
    os.close(memory)
    with theirs:
        assert not worker.ended
        worker.kill()
        assert worker.ended
    worker.close()
