"""Verifies a delivery of checkoutd with Python's standard library.

    WEBHOOK_SECRETS="whsec_… [whsec_…]" python3 verify.py ID TIMESTAMP SIGNATURE [NOW] <BODY

ID, TIMESTAMP and SIGNATURE are the values of the three webhook-* headers, BODY is the raw body. NOW, in Unix
seconds, is for tests. Prints `verified` and exits with 0, or prints why not and exits with 1.
"""

import base64
import hashlib
import hmac
import os
import re
import sys
import time

TOLERANCE_SECONDS = 5 * 60


class Refused(Exception):
    """Not to be trusted; the message says why."""


def verify(secrets, headers, body, now=None):
    """Raises Refused unless one of the secrets signed this body (bytes), and recently."""
    keys = [signing_key(secret) for secret in secrets]
    if not keys:
        raise Refused("malformed_secret")
    webhook_id, timestamp, signatures = (headers.get(f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not (webhook_id and timestamp and signatures):
        raise Refused("missing_header")
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        raise Refused("malformed_timestamp")
    age = (time.time() if now is None else now) - int(timestamp)
    if age > TOLERANCE_SECONDS:
        raise Refused("timestamp_too_old")
    if age < -TOLERANCE_SECONDS:
        raise Refused("timestamp_too_new")
    content = f"{webhook_id}.{timestamp}.".encode() + body
    for key in keys:
        digest = hmac.new(key, content, hashlib.sha256).digest()
        expected = b"v1," + base64.b64encode(digest)
        for given in signatures.encode().split(b" "):
            if hmac.compare_digest(given, expected):
                return
    raise Refused("no_matching_signature")


def signing_key(secret):
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not key:  # with an empty key anyone could sign
        raise Refused("malformed_secret")
    return key


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    secrets = os.environ.get("WEBHOOK_SECRETS", "").split()
    headers = dict(zip(("webhook-id", "webhook-timestamp", "webhook-signature"), sys.argv[1:]))
    now = int(sys.argv[4]) if len(sys.argv) == 5 else None
    try:
        verify(secrets, headers, sys.stdin.buffer.read(), now)
    except Refused as refused:
        print(refused)
        sys.exit(1)
    print("verified")


if __name__ == "__main__":
    main()
