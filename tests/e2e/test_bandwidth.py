"""What releases may take of a line that a host shares with others."""

import random
import time

import formats
import toy

N_BYTES = 8 << 20


def test_bandwidth(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release(more=[formats.Entry("noise", content=random.Random(1).randbytes(N_BYTES))])
    start = time.monotonic()
    toy.start([web], fetch={"bandwidth": "1M"})
    web.assert_whole("r1")
    # the last piece, a quarter of what a second may bring, is not waited for
    assert time.monotonic() - start >= N_BYTES / (1 << 20) - 0.25
