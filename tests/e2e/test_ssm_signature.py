"""The stand-in's check of signatures, against botocore's signer."""

import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

import ssm_signature

URL = "https://ssm.test"
CREDENTIALS = ssm_signature.Credentials("AKIDEXAMPLE", "secret", "i-0123456789abcdef0")
BODY = b'{"a":1}'


def signed(target="/", headers=None):
    request = botocore.awsrequest.AWSRequest("POST", URL + target, {"Host": "ssm.test", **(headers or {})}, BODY)
    credentials = botocore.credentials.Credentials(CREDENTIALS.access_key, CREDENTIALS.secret_key)
    botocore.auth.SigV4Auth(credentials, "ssm", "eu-central-1").add_auth(request)
    return list(request.headers.items())


def check(target, headers, body=BODY):
    return ssm_signature.check("POST", target, headers, body, region="eu-central-1", service="ssm",
                               known={CREDENTIALS.access_key: CREDENTIALS}, now=time.time())


def refused(headers, target="/"):
    with pytest.raises(ssm_signature.Refused) as error:
        check(target, headers)
    return error.value.code


def with_authorization(headers, change):
    return [(name, change(value) if name == "Authorization" else value) for name, value in headers]


@pytest.mark.parametrize("target", ["/", "/v1/control-channel/i-1?stream=input&role=subscribe", "/a%20b/c~d?x=%2F&x=%20&y",
                                    "/a/../b/./c/", "/a//b?b=2&a=1&a=0"])
def test_targets(target):
    assert check(target, signed(target)) == CREDENTIALS
    assert refused(signed(target), target + "x") == "InvalidSignatureException"


def test_header_values_are_trimmed():
    assert check("/", signed(headers={"X-Amz-Target": "  a   b "})) == CREDENTIALS


def test_headers_that_must_be_signed():
    assert refused(signed() + [("X-Amz-Target", "a")]) == "InvalidSignatureException"
    assert check("/", signed() + [("User-Agent", "a")]) == CREDENTIALS
    without_host = with_authorization(signed(), lambda v: v.replace("SignedHeaders=host;", "SignedHeaders="))
    assert refused(without_host) == "InvalidSignatureException"
    unsorted = with_authorization(signed(), lambda v: v.replace("host;x-amz-date", "x-amz-date;host"))
    assert refused(unsorted) == "InvalidSignatureException"
    absent = with_authorization(signed(), lambda v: v.replace("host;", "host;other;"))
    assert refused(absent) == "InvalidSignatureException"


def test_a_digest_of_another_body():
    digest = "0" * 64
    assert refused(signed(headers={"X-Amz-Content-SHA256": digest})) == "InvalidSignatureException"


@pytest.mark.parametrize("change", [lambda v: "", lambda v: v.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
                                    lambda v: v[:-1], lambda v: v.replace("/aws4_request", ""), lambda v: "Bearer x"])
def test_authorizations_that_are_none(change):
    assert refused(with_authorization(signed(), change)) == "IncompleteSignatureException"


def test_a_date_that_is_none():
    headers = [(name, "yesterday" if name == "X-Amz-Date" else value) for name, value in signed()]
    assert refused(headers) == "IncompleteSignatureException"


def test_a_scope_of_another_day():
    day = time.strftime("%Y%m%d", time.gmtime())
    assert refused(with_authorization(signed(), lambda v: v.replace(day, "20200101"))) == "InvalidSignatureException"
