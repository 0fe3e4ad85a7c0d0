"""The way to the store: certificates, names, connections that fail, for long, and come back; what a poll costs on it."""

import concurrent.futures
import datetime
import socket

import pytest

import certificates
import fault_proxy as faults
import formats
import relay
import sandbox
import slipway
import toy
from waiting import wait_for

LOOPBACK = "127.0.0.1"
MANIFEST = r"/manifest\.json"
POLL_MAX_BYTES = 1024
N_POLLS = 20
N_POLLS_MISSED = 25
# an interval with its jitter, the waits between the tries of one poll, and a busy machine
BACK_LIMIT_SEC = 1.2 + 1.6 + 2
OTHER = "elsewhere.test"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("authority"))


def log(publisher, **environment):
    """`slipway-publish log`, which begins with a request."""
    return publisher.run("log", *publisher.channel_args(), check=False, environment=environment)


# -- TLS

CERTIFICATES = {
    "good": (lambda a: a.context(LOOPBACK), None),
    "of another host": (lambda a: a.context(OTHER), "is not trusted"),
    "expired": (lambda a: a.context(LOOPBACK, until=-datetime.timedelta(hours=1)), "expired"),
    "not yet valid": (lambda a: a.context(LOOPBACK, since=datetime.timedelta(hours=1)), "not yet valid"),
    "of an unknown authority": (lambda a: certificates.Authority(a.path.parent / "unknown", "Unknown").context(LOOPBACK),
                                "is not trusted"),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_certificate(s3, bucket, authority, make_publisher, case):
    make, said = CERTIFICATES[case]
    with faults.FaultProxy(LOOPBACK, s3.address, tls=make(authority)) as proxy:
        environment = slipway.store_environment(s3, endpoint=proxy.endpoint)
        publisher = make_publisher(f"s3://{bucket}/deploy", {**environment, "AWS_CA_BUNDLE": str(authority.path)})
        result = log(publisher)
        if said is None:
            assert proxy.requests
        else:
            assert result.rc != 0 and said in result.stderr and "set AWS_CA_BUNDLE" in result.stderr
            assert not proxy.requests


def test_bundle_that_cannot_be_used(s3, bucket, make_publisher, tmp_path):
    publisher = make_publisher(f"s3://{bucket}/deploy", slipway.store_environment(s3))
    for path in (tmp_path / "missing.crt", tmp_path / "garbage.crt"):
        if path.name.startswith("garbage"):
            path.write_text("no certificate\n", encoding="ascii")
        result = log(publisher, AWS_CA_BUNDLE=str(path))
        assert result.rc == 1 and "the bundle of authorities can't be used" in result.stderr


# -- names and connections

def unused_port():
    with socket.create_server((LOOPBACK, 0)) as server:
        return server.getsockname()[1]


UNREACHABLE = {
    "unknown name": lambda: "https://s3.invalid",
    "refused": lambda: f"https://{LOOPBACK}:{unused_port()}",
    "no route": lambda: "https://192.0.2.1",
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_unreachable(s3, bucket, make_publisher, case):
    endpoint = UNREACHABLE[case]()
    publisher = make_publisher(f"s3://{bucket}/deploy", slipway.store_environment(s3, endpoint=endpoint))
    result = log(publisher)
    assert result.rc == 1 and "(tried 4 times): no answer from" in result.stderr


@pytest.fixture
def way(s3_proxy):
    """Between hosts and the fault proxy: counts bytes and can refuse."""
    with relay.Relay(sandbox.SERVER_ADDRESS, s3_proxy.server_address) as way:
        way.endpoint = f"https://{way.address[0]}:{way.address[1]}"
        yield way


def follow(s3, bucket, host, endpoint):
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=endpoint), report=False)
    return web


def test_unchanged_poll_is_small(s3, s3_proxy, bucket, way, host):
    """What travels in TLS records, both ways, on a connection that is kept."""
    web = follow(s3, bucket, host, way.endpoint)
    web.assert_whole("r1")

    def wait_polls(n):
        n += len(s3_proxy.seen(MANIFEST))
        wait_for(lambda: len(s3_proxy.seen(MANIFEST)) >= n, 60, "polls")

    wait_polls(2)
    before = len(s3_proxy.requests), way.n_up, way.n_down, way.n_connections
    wait_polls(N_POLLS)
    after = len(s3_proxy.requests), way.n_up, way.n_down, way.n_connections
    n, up, down, n_connections = (b - a for a, b in zip(before, after))
    assert {r.status for r in s3_proxy.requests[before[0]:]} <= {304, None}
    # the last one may be under way
    up, down = up / (n - 1), down / (n - 1)
    assert n_connections == 0 and up < POLL_MAX_BYTES and down < POLL_MAX_BYTES, (up, down)


def test_store_that_comes_back_is_polled_within_an_interval(s3, s3_proxy, bucket, way, host):
    """After as many intervals as ten minutes have, of 15 s each: nothing backs off from what nobody hears."""
    web = follow(s3, bucket, host, way.endpoint)
    web.assert_whole("r1")
    way.refuse()
    web.wait(lambda _: not web.status()["poll"]["ok"], "a poll that fails")
    first = web.status()["poll"]["at"]
    web.wait(lambda _: seconds(web.status()["poll"]["at"]) - seconds(first) >= N_POLLS_MISSED, "polls that fail")
    assert "no answer from" in web.status()["poll"]["text"]
    n = len(s3_proxy.requests)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        back = pool.submit(lambda: wait_for(lambda: len(s3_proxy.requests) > n, 30, "a poll"))
        began = datetime.datetime.now()
        way.accept()
        back.result()
    assert (datetime.datetime.now() - began).total_seconds() < BACK_LIMIT_SEC
    web.release()
    web.assert_whole("r2")


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@pytest.mark.parametrize("case", ["unknown name", "refused"])
def test_start_without_network(s3, bucket, host, case):
    """The agent starts, says what is wrong, and finds the store once it is there."""
    endpoint = s3.tls_endpoint.replace(sandbox.SERVER_ADDRESS, "s3.test")
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    if case == "refused":
        host.name_address(LOOPBACK, "s3.test")
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=endpoint), report=False)
    web.wait(lambda _: "no answer from s3.test" in (web.status()["poll"]["text"] or ""), "a poll that fails")
    host.run(["sh", "-c", "[ ! -e /etc/hosts ] || sed -i /s3.test/d /etc/hosts"])
    host.name_address(sandbox.SERVER_ADDRESS, "s3.test")
    web.assert_whole("r1")


def test_waiting_for_the_store_is_no_spinning(s3, bucket, host):
    """A start with the network down."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    host.net_down()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3), report=False)
    web.wait(lambda _: "no answer from" in (web.status()["poll"]["text"] or ""), "a poll that fails")
    slipway.assert_waits(host)
    host.net_up()
    web.assert_whole("r1")
