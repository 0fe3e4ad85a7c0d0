"""The fault proxy: that it passes what it should and breaks what it is told to, in front of a plain server and of S3."""

import http.client
import http.server
import re
import ssl
import threading
import time
import urllib.parse

import botocore.exceptions
import pytest

import fault_proxy as faults
import relay
import s3_server
from waiting import wait_for

CONTENT = bytes(range(256)) * 64
TIMEOUT_SEC = 10


class Origin(http.server.BaseHTTPRequestHandler):
    """A server of one file that knows simple ranges and keeps what is put."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        found = re.match(r"bytes=(\d+)-(\d+)$", self.headers.get("Range", ""))
        body = CONTENT[int(found.group(1)):int(found.group(2)) + 1] if found else CONTENT
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {found.group(1)}-{found.group(2)}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Host", self.headers["Host"])
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self.server.put[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def origin():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        server.put = {}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(origin):
    with faults.FaultProxy("127.0.0.1", origin.server_address) as proxy:
        yield proxy


@pytest.fixture
def connection(proxy):
    connection = http.client.HTTPConnection(*proxy.server_address, timeout=TIMEOUT_SEC)
    yield connection
    connection.close()


def get(connection, path="/file", headers=None):
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    return response, response.read()


def test_passes_and_notes(proxy, connection):
    response, body = get(connection, "/file?x=%2F", {"Range": "bytes=1-3"})
    assert (response.status, body) == (206, CONTENT[1:4])
    assert response.headers["X-Host"] == "%s:%d" % proxy.server_address
    [request] = proxy.requests
    assert (request.method, request.path, request.headers["Range"], request.status) == ("GET", "/file?x=%2F", "bytes=1-3", 206)
    wait_for(lambda: request.n_body_bytes == 3, TIMEOUT_SEC, "the bytes to be counted")


def test_connection_is_kept(proxy, connection):
    get(connection)
    kept = connection.sock
    get(connection)
    assert connection.sock is kept


def test_error_a_few_times(proxy, connection):
    rule = proxy.fault("^/file$", faults.Answer(503, "SlowDown", {"Retry-After": "1"}), times=2)
    answers = [get(connection) for _ in range(3)]
    assert [a[0].status for a in answers] == [503, 503, 200]
    assert b"<Code>SlowDown</Code>" in answers[0][1] and answers[0][0].headers["Retry-After"] == "1"
    assert len(rule.hits) == 2


@pytest.mark.parametrize("status", [403, 404, 500])
def test_error_always_for_one_path_only(proxy, connection, status):
    proxy.fault("bad", faults.Answer(status))
    assert [get(connection, p)[0].status for p in ("/bad", "/good", "/bad")] == [status, 200, status]


def test_error_on_put_reads_the_body(origin, proxy, connection):
    proxy.fault("/file", faults.Answer(409, "ConditionalRequestConflict"), method="PUT", times=1)
    for expected in (409, 200):
        connection.request("PUT", "/file", body=CONTENT)
        response = connection.getresponse()
        response.read()
        assert response.status == expected
    assert origin.put == {"/file": CONTENT}


def test_redirect(proxy, connection):
    proxy.fault("/file", faults.redirect(307, "http://elsewhere.test/file"))
    response, _ = get(connection)
    assert (response.status, response.headers["Location"]) == (307, "http://elsewhere.test/file")


def test_ignored_range(proxy, connection):
    proxy.fault("/file", faults.IgnoreRange(lambda path: CONTENT))
    response, body = get(connection, headers={"Range": "bytes=1-3"})
    assert (response.status, body, response.headers["Content-Range"]) == (200, CONTENT, None)


def test_early_close(proxy, connection):
    proxy.fault("/file", faults.CloseAfter(100), times=1)
    with pytest.raises(http.client.IncompleteRead) as error:
        get(connection)
    assert error.value.partial == CONTENT[:100]
    connection.close()
    assert get(connection)[1] == CONTENT


def test_reset(proxy, connection):
    proxy.fault("/file", faults.ResetAfter(100), times=1)
    with pytest.raises(ConnectionResetError):
        get(connection)
    connection.close()
    assert get(connection)[1] == CONTENT


def test_altered_header(proxy, connection):
    proxy.fault("/file", faults.AlterHeader("Content-Length", lambda n: int(n) - 10))
    response, body = get(connection)
    assert (response.status, body) == (200, CONTENT[:-10])


def test_late_answer(proxy, connection):
    proxy.fault("/file", faults.Late(0.5))
    began = time.monotonic()
    assert get(connection)[1] == CONTENT
    assert time.monotonic() - began >= 0.5


def test_relay_counts_and_refuses(origin):
    with relay.Relay("127.0.0.1", origin.server_address) as way:
        connection = http.client.HTTPConnection(*way.address, timeout=TIMEOUT_SEC)
        assert get(connection)[1] == CONTENT
        assert way.n_connections == 1 and 10 < way.n_up < 1000 and way.n_down > len(CONTENT)
        way.refuse()
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            get(connection)
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            get(connection)
        connection.close()
        way.accept()
        assert get(connection)[1] == CONTENT
        connection.close()


def test_connect_proxy(origin):
    with relay.ConnectProxy("127.0.0.1", origin.server_address, authorization="Basic eDp5") as proxy:
        for headers, refused in (({}, True), ({"Proxy-Authorization": "Basic eDp5"}, False)):
            connection = http.client.HTTPConnection(*proxy.address, timeout=TIMEOUT_SEC)
            connection.set_tunnel("somewhere.test", 443, headers)
            if refused:
                with pytest.raises(OSError, match="407"):
                    get(connection)
            else:
                assert get(connection)[1] == CONTENT
            connection.close()
        assert proxy.targets == ["somewhere.test:443"]


def test_lost_answer_of_a_put_that_was_done(origin, proxy, connection):
    proxy.fault("/file", faults.CloseAfter(None), method="PUT")
    connection.request("PUT", "/file", body=b"new")
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    assert origin.put == {"/file": b"new"}


def test_stall_and_release(proxy, connection):
    fault = faults.StallAfter(100)
    proxy.fault("/file", fault)
    connection.request("GET", "/file")
    response = connection.getresponse()
    assert response.read(100) == CONTENT[:100]
    connection.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        response.read(1)
    fault.release()


def test_stall_ends_with_the_client(proxy):
    proxy.fault("/file", faults.StallAfter(0))
    connection = http.client.HTTPConnection(*proxy.server_address, timeout=TIMEOUT_SEC)
    connection.request("GET", "/file")
    assert connection.getresponse().status == 200
    connection.close()
    wait_for(lambda: not proxy._connections, TIMEOUT_SEC, "the proxy to notice that the client has gone")


def test_closing_ends_what_is_held(origin):
    with faults.FaultProxy("127.0.0.1", origin.server_address) as proxy:
        gate = faults.Gate()
        proxy.fault("/file", gate)
        connection = http.client.HTTPConnection(*proxy.server_address, timeout=TIMEOUT_SEC)
        connection.request("GET", "/file")
        gate.wait_held(TIMEOUT_SEC)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    connection.close()


@pytest.mark.parametrize("headers, first", [({}, 0), ({"Range": "bytes=150-250"}, 150)])
def test_flipped_bit(proxy, connection, headers, first):
    proxy.fault("/file", faults.FlipBit(200))
    _, body = get(connection, headers=headers)
    wrong = [first + i for i, (a, b) in enumerate(zip(body, CONTENT[first:])) if a != b]
    assert wrong == [200] and body[200 - first] == CONTENT[200] ^ 1


def test_truncated(proxy, connection):
    proxy.fault("/file", faults.Truncate(10))
    response, body = get(connection)
    assert (response.status, body) == (200, CONTENT[:10])


def test_gate_orders_two_writers(origin, proxy, connection):
    gate = faults.Gate()
    proxy.fault("/file", gate, method="PUT", times=1)
    connection.request("PUT", "/file", body=b"first asked")
    gate.wait_held(TIMEOUT_SEC)
    second = http.client.HTTPConnection(*proxy.server_address, timeout=TIMEOUT_SEC)
    second.request("PUT", "/file", body=b"first served")
    second.getresponse().read()
    assert origin.put == {"/file": b"first served"}
    gate.open()
    connection.getresponse().read()
    assert origin.put == {"/file": b"first asked"}
    second.close()


def test_own_failure_is_not_swallowed(origin):
    class Broken(faults.Fault):
        def after(self, handler, answer):
            raise ValueError("a broken rule")

    with pytest.raises(AssertionError, match="a broken rule"):
        with faults.FaultProxy("127.0.0.1", origin.server_address) as proxy:
            proxy.fault("/file", Broken())
            connection = http.client.HTTPConnection(*proxy.server_address, timeout=TIMEOUT_SEC)
            with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
                get(connection)
            connection.close()


def test_tls_towards_the_client(origin, tmp_path):
    authority = s3_server.make_certificates(tmp_path, ["localhost"], "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    with faults.FaultProxy("127.0.0.1", origin.server_address, tls=context) as proxy:
        proxy.fault("/bad", faults.Answer(500))
        trusting = ssl.create_default_context(cafile=authority.path)
        connection = http.client.HTTPSConnection(*proxy.server_address, timeout=TIMEOUT_SEC, context=trusting)
        assert [get(connection, p)[0].status for p in ("/good", "/bad")] == [200, 500]
        connection.close()
        doubting = http.client.HTTPSConnection(*proxy.server_address, timeout=TIMEOUT_SEC,
                                               context=ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            get(doubting)


# -- in front of S3

def test_signatures_stay_valid(s3, s3_proxy, bucket):
    client = s3.client(endpoint=s3_proxy.endpoint)
    key = "a b/ü+~%2F"
    client.put_object(Bucket=bucket, Key=key, Body=CONTENT)
    answer = client.get_object(Bucket=bucket, Key=key, Range="bytes=5-9")
    assert answer["Body"].read() == CONTENT[5:10]
    assert client.list_objects_v2(Bucket=bucket, Prefix="a b/")["Contents"][0]["Key"] == key


def test_s3_range_is_ignored(s3, s3_proxy, bucket, boto):
    boto.put_object(Bucket=bucket, Key="a", Body=CONTENT)

    def fetch(path):
        return boto.get_object(Bucket=bucket, Key=urllib.parse.unquote(path).split("/", 2)[2])["Body"].read()
    s3_proxy.fault("/a$", faults.IgnoreRange(fetch))
    answer = s3.client(endpoint=s3_proxy.endpoint).get_object(Bucket=bucket, Key="a", Range="bytes=5-9")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200 and answer["Body"].read() == CONTENT


def test_s3_complete_fails_inside_a_200(s3, s3_proxy, bucket):
    client = s3.client(endpoint=s3_proxy.endpoint)
    s3_proxy.fault(r"[?&]uploadId=", faults.Answer(200, "InternalError"), method="POST", times=1)
    upload = {"Bucket": bucket, "Key": "a", "UploadId": client.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]}
    parts = {"Parts": [{"PartNumber": 1, "ETag": client.upload_part(PartNumber=1, Body=b"a", **upload)["ETag"]}]}
    with pytest.raises(botocore.exceptions.ClientError, match="InternalError"):
        client.complete_multipart_upload(MultipartUpload=parts, **upload)
    client.complete_multipart_upload(MultipartUpload=parts, **upload)
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"a"
