"""The S3 server itself: the behaviour that the other tests take for granted. What fails here is the server, not Slipway."""

import concurrent.futures
import dataclasses
import http.client
import ssl

import botocore.exceptions
import pytest

import sandbox
import s3_server

PART_BYTES = 5 << 20


def status_of(error):
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def code_of(error):
    return error.value.response["Error"]["Code"]


def test_wrong_secret_is_refused(s3, bucket):
    liar = dataclasses.replace(s3.users[0], secret_key="not the secret")
    with pytest.raises(botocore.exceptions.ClientError) as error:
        s3.client(liar).list_objects_v2(Bucket=bucket)
    assert (status_of(error), code_of(error)) == (403, "SignatureDoesNotMatch")


def test_unsigned_requests_are_refused(s3, bucket, boto):
    boto.put_object(Bucket=bucket, Key="a", Body=b"a")
    connection = http.client.HTTPConnection(*s3.address, timeout=10)
    connection.request("GET", f"/{bucket}/a")
    assert connection.getresponse().status == 403
    connection.close()


def test_other_users_bucket_is_closed(s3, bucket):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        s3.client(s3.users[1]).list_objects_v2(Bucket=bucket)
    assert (status_of(error), code_of(error)) == (403, "AccessDenied")


def test_if_none_match_creates_once(bucket, boto):
    boto.put_object(Bucket=bucket, Key="a", Body=b"first", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError) as error:
        boto.put_object(Bucket=bucket, Key="a", Body=b"second", IfNoneMatch="*")
    assert status_of(error) == 412
    assert boto.get_object(Bucket=bucket, Key="a")["Body"].read() == b"first"


def test_if_match_replaces_what_was_read(bucket, boto):
    first = boto.put_object(Bucket=bucket, Key="a", Body=b"first")["ETag"]
    boto.put_object(Bucket=bucket, Key="a", Body=b"second", IfMatch=first)
    with pytest.raises(botocore.exceptions.ClientError) as error:
        boto.put_object(Bucket=bucket, Key="a", Body=b"third", IfMatch=first)
    assert status_of(error) == 412
    assert boto.get_object(Bucket=bucket, Key="a")["Body"].read() == b"second"


def test_one_of_many_creators_wins(s3, bucket):
    clients = [s3.client() for _ in range(6)]

    def put(n):
        try:
            clients[n].put_object(Bucket=bucket, Key="a", Body=b"%d" % n, IfNoneMatch="*")
            return 200
        except botocore.exceptions.ClientError as e:
            return e.response["ResponseMetadata"]["HTTPStatusCode"]

    with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
        statuses = sorted(pool.map(put, range(len(clients))))
    assert statuses[0] == 200 and set(statuses[1:]) <= {409, 412}


def test_unchanged_is_304(bucket, boto):
    etag = boto.put_object(Bucket=bucket, Key="a", Body=b"first")["ETag"]
    with pytest.raises(botocore.exceptions.ClientError) as error:
        boto.get_object(Bucket=bucket, Key="a", IfNoneMatch=etag)
    assert status_of(error) == 304


def test_ranges(bucket, boto):
    etag = boto.put_object(Bucket=bucket, Key="a", Body=bytes(range(256)))["ETag"]
    answer = boto.get_object(Bucket=bucket, Key="a", Range="bytes=16-31", IfMatch=etag)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert answer["ContentRange"] == "bytes 16-31/256" and answer["Body"].read() == bytes(range(16, 32))
    with pytest.raises(botocore.exceptions.ClientError) as error:
        boto.get_object(Bucket=bucket, Key="a", Range="bytes=256-")
    assert status_of(error) == 416
    with pytest.raises(botocore.exceptions.ClientError) as error:
        boto.get_object(Bucket=bucket, Key="a", Range="bytes=0-1", IfMatch='"0123"')
    assert status_of(error) == 412


def test_multipart_upload(bucket, boto):
    upload = {"Bucket": bucket, "Key": "big", "UploadId": boto.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]}
    parts = []
    for number, body in enumerate([b"a" * PART_BYTES, b"b" * PART_BYTES, b"c"], 1):
        parts.append({"PartNumber": number, "ETag": boto.upload_part(PartNumber=number, Body=body, **upload)["ETag"]})
    listed = boto.list_parts(**upload)["Parts"]
    assert [(p["PartNumber"], p["Size"]) for p in listed] == [(1, PART_BYTES), (2, PART_BYTES), (3, 1)]
    boto.complete_multipart_upload(MultipartUpload={"Parts": parts}, IfNoneMatch="*", **upload)
    assert boto.head_object(Bucket=bucket, Key="big")["ContentLength"] == 2 * PART_BYTES + 1
    assert boto.get_object(Bucket=bucket, Key="big", Range=f"bytes={2 * PART_BYTES - 1}-")["Body"].read() == b"bc"


def test_tls(s3, bucket):
    s3.client(tls=True).put_object(Bucket=bucket, Key="a", Body=b"a")
    assert s3.client().get_object(Bucket=bucket, Key="a")["Body"].read() == b"a"
    stranger = http.client.HTTPSConnection(sandbox.SERVER_ADDRESS, s3_server.HTTPS_PORT, timeout=10,
                                           context=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", "/")


def test_hosts_reach_it(s3, bucket, boto, host):
    boto.put_object(Bucket=bucket, Key="a", Body=b"from s3")
    url = boto.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"}, ExpiresIn=60)
    assert host.run(["curl", "-sSf", url]).stdout == "from s3"
    tls_url = s3.client(tls=True).generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"}, ExpiresIn=60)
    untrusted = 60
    assert host.run(["curl", "-s", tls_url], check=False).rc == untrusted
    host.trust_ca(s3.authority.certificate)
    assert host.run(["curl", "-sSf", tls_url]).stdout == "from s3"
