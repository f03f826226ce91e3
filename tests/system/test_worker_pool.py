"""Workers are not disturbed by what their stage handles for them."""

from __future__ import annotations

import signal

from dcgan.system.worker_pool import worker_pool


def test_a_worker_never_sees_ctrl_c() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with worker_pool(1) as pool:
        # The mask that the worker was started with, before any code of its own.
        assert signal.SIGINT in pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
