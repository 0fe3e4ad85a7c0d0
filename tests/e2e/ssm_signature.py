"""SigV4 from the side of the one who checks: what the stand-in of SSM's endpoints holds every request against.

After the documentation of IAM, "Create a signed AWS API request". Checked is what SignedHeaders lists; it must list the host and
every x-amz-* header that came.
"""

import dataclasses
import datetime
import hashlib
import hmac
import posixpath
import re
import urllib.parse

ALGORITHM = "AWS4-HMAC-SHA256"
CLOCK_TOLERANCE_SEC = 300
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
AUTHORIZATION = re.compile(ALGORITHM + r" Credential=(?P<key>[^/ ,]+)/(?P<date>\d{8})/(?P<region>[^/ ,]+)/(?P<service>[^/ ,]+)"
                           r"/aws4_request, ?SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})")


class Refused(Exception):
    """A request that gets an error for an answer: an HTTP status, AWS' code for it, and words."""

    def __init__(self, code, message, status=400):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


@dataclasses.dataclass(frozen=True)
class Credentials:
    """An access key and the instance that it is bound to; with a token it is a session's."""

    access_key: str
    secret_key: str
    instance_id: str
    token: str | None = None


def header_values(headers, name):
    return [" ".join(value.split()) for key, value in headers if key.lower() == name]


def encode(text, safe=""):
    return urllib.parse.quote(text, safe=f"-_.~{safe}")


def canonical_path(path):
    """Normalized, and encoded once more, as every service but S3 wants it."""
    normal = posixpath.normpath(path) if path else "/"
    return encode(("/" + normal.lstrip("/")) + ("/" if path.endswith("/") and normal.strip("/") else ""), "/")


def canonical_query(query):
    pairs = [piece.partition("=")[::2] for piece in query.split("&") if piece]
    return "&".join(f"{k}={v}" for k, v in sorted((encode(urllib.parse.unquote(k)), encode(urllib.parse.unquote(v)))
                                                  for k, v in pairs))


def signing_key(secret_key, date, region, service):
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature_of(method, target, headers, body, *, signed_headers, secret_key, date, region, service):
    """The signature, in hex, that this request must bear; target is its path and query, date is X-Amz-Date."""
    path, _, query = target.partition("?")
    lines = [f"{name}:{','.join(header_values(headers, name))}\n" for name in signed_headers]
    canonical = "\n".join([method, canonical_path(path), canonical_query(query), "".join(lines), ";".join(signed_headers),
                           hashlib.sha256(body).hexdigest()])
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = "\n".join([ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    return hmac.new(signing_key(secret_key, date[:8], region, service), text.encode(), "sha256").hexdigest()


def access_key_of(headers):
    """The key that a request names, proven or not; None without one."""
    found = AUTHORIZATION.fullmatch("".join(header_values(headers, "authorization")))
    return found["key"] if found else None


def check_time(headers, now):
    """Returns X-Amz-Date if it is near enough to now, a time stamp in seconds."""
    text = "".join(header_values(headers, "x-amz-date"))
    try:
        at = datetime.datetime.strptime(text, DATE_FORMAT).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise Refused("IncompleteSignatureException", f"X-Amz-Date is {text!r}, not a time") from None
    here = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime(DATE_FORMAT)
    if at.timestamp() < now - CLOCK_TOLERANCE_SEC:
        raise Refused("InvalidSignatureException", f"Signature expired: {text} is now earlier than 5 min. before {here}")
    if at.timestamp() > now + CLOCK_TOLERANCE_SEC:
        raise Refused("InvalidSignatureException", f"Signature not yet current: {text} is still later than 5 min. after {here}")
    return text


def check_token(headers, credentials):
    token = header_values(headers, "x-amz-security-token")
    if token != ([credentials.token] if credentials.token is not None else []):
        raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")


def check_signed_headers(headers, signed):
    there = {key.lower() for key, _ in headers}
    needed = {"host"} | {name for name in there if name.startswith("x-amz-")}
    if signed != sorted(set(signed)) or not set(signed) <= there or not needed <= set(signed):
        raise Refused("InvalidSignatureException", f"SignedHeaders is {';'.join(signed)}: sorted and present it must hold "
                                                   f"{', '.join(sorted(needed))}")


def check(method, target, headers, body, *, region, service, known, now):
    """Returns the Credentials that signed the request, out of known (by access key), or raises Refused. headers are (name,
    value) pairs as they came, now is the server's time in seconds."""
    authorization = header_values(headers, "authorization")
    if not authorization:
        raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
    found = AUTHORIZATION.fullmatch(authorization[0])
    if found is None or len(authorization) > 1:
        raise Refused("IncompleteSignatureException", f"Authorization is not understood: {authorization}")
    credentials = known.get(found["key"])
    if credentials is None:
        raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
    check_token(headers, credentials)
    date = check_time(headers, now)
    scope = (found["date"], found["region"], found["service"])
    if scope != (date[:8], region, service):
        raise Refused("InvalidSignatureException", f"Credential should be scoped to {date[:8]}/{region}/{service}, and is to "
                                                   f"{'/'.join(scope)}")
    signed = found["headers"].split(";")
    check_signed_headers(headers, signed)
    said = header_values(headers, "x-amz-content-sha256")
    if said and said != [hashlib.sha256(body).hexdigest()]:
        raise Refused("InvalidSignatureException", "x-amz-content-sha256 is not the body's digest")
    right = signature_of(method, target, headers, body, signed_headers=signed, secret_key=credentials.secret_key, date=date,
                         region=region, service=service)
    if not hmac.compare_digest(right, found["signature"]):
        raise Refused("InvalidSignatureException", "The request signature we calculated does not match the signature you "
                                                   "provided. Check your AWS Secret Access Key and signing method.")
    return credentials
