"""Writes docs/verify-webhooks/vectors.json; with --check it compares the file with what would be written.

The signatures are computed here, by Python's hmac, and by nothing that the vectors are for. The first one is
the example that the Standard Webhooks libraries are tested with.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

FILE = pathlib.Path(__file__).parents[2] / "docs/verify-webhooks/vectors.json"
PUBLISHED_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

EXAMPLE = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD, NEW, OTHER = ("whsec_" + base64.b64encode(bytes(range(n, n + 32))).decode() for n in (0, 100, 200))

EXAMPLE_ID, EXAMPLE_TIME, EXAMPLE_BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", '{"test": 2432232314}'
ID, TIME = "evt_01M830RB5WFH2A51EGJ59Q447V", "1795397790"
BODY = ('{"id":"evt_01M830RB5WFH2A51EGJ59Q447V","event_type":"checkout.session.completed","sequence":2,'
        '"data":{"id":"chk_01M830RARPES4BFFGPYBXCX6J3","checkout_status":"completed","amount":"499","currency":"inr"}}')
UNICODE = '{"name":"प्रिया “Café” 🎉","amount":"₹499","path":"a/b","tag":"<é>"}'


def sign(secret, body=BODY, webhook_id=ID, timestamp=TIME):
    content = f"{webhook_id}.{timestamp}.{body}".encode()
    return base64.b64encode(hmac.new(base64.b64decode(secret[len("whsec_"):]), content, hashlib.sha256).digest()).decode()


def vector(name, result, signature, *, secrets=(NEW,), body=BODY, webhook_id=ID, timestamp=TIME, later=2):
    headers = {"webhook-id": webhook_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    now = int(TIME if not timestamp.isdecimal() else timestamp) + later
    return {"name": name, "secrets": list(secrets), "headers": headers, "body": body, "now": now, "result": result}


def vectors():
    good, old = f"v1,{sign(NEW)}", f"v1,{sign(OLD)}"
    example = f"v1,{sign(EXAMPLE, EXAMPLE_BODY, EXAMPLE_ID, EXAMPLE_TIME)}"
    assert example == PUBLISHED_SIGNATURE, example
    of_example = {"secrets": [EXAMPLE], "webhook_id": EXAMPLE_ID, "timestamp": EXAMPLE_TIME}
    unicode = f"v1,{sign(NEW, UNICODE)}"
    escaped = json.dumps(json.loads(UNICODE), separators=(",", ":"))
    assert escaped != UNICODE and json.loads(escaped) == json.loads(UNICODE)

    verified, no_match = "verified", "no_matching_signature"
    yield vector("the example of Standard Webhooks", verified, example, body=EXAMPLE_BODY, **of_example)
    yield vector("the example with its JSON written anew", no_match, example, body='{"test":2432232314}', **of_example)
    yield vector("one signature", verified, good)
    yield vector("during rotation, by the old secret", verified, f"{good} {old}", secrets=[OLD])
    yield vector("during rotation, by the new secret", verified, f"{good} {old}", secrets=[NEW])
    yield vector("during rotation, in the other order", verified, f"{old} {good}", secrets=[NEW])
    yield vector("a receiver that knows both secrets", verified, good, secrets=[OLD, NEW])
    yield vector("after rotation, by the old secret", no_match, good, secrets=[OLD])
    yield vector("another endpoint's secret", no_match, f"{good} {old}", secrets=[OTHER])
    yield vector("a body that was changed", no_match, good, body=BODY.replace('"499"', '"4999"'))
    yield vector("a body with a line feed at its end", no_match, good, body=BODY + "\n")
    yield vector("an empty body", no_match, good, body="")
    yield vector("another webhook-id", no_match, good, webhook_id=ID[:-1] + "W")
    yield vector("another webhook-timestamp", no_match, good, timestamp=str(int(TIME) + 1))
    yield vector("UTF-8 beyond ASCII", verified, unicode, body=UNICODE)
    yield vector("the same JSON with escapes", no_match, unicode, body=escaped)
    yield vector("five minutes old", verified, good, later=300)
    yield vector("a second older", "timestamp_too_old", good, later=301)
    yield vector("five minutes ahead", verified, good, later=-300)
    yield vector("a second further ahead", "timestamp_too_new", good, later=-301)
    yield vector("a timestamp that is no number", "malformed_timestamp", good, timestamp="yesterday")
    for name, timestamp in (("a letter", f"{TIME}s"), ("a line feed", f"{TIME}\n")):
        signature = f"v1,{sign(NEW, timestamp=timestamp)}"
        yield vector(f"{name} after the timestamp, signed", "malformed_timestamp", signature, timestamp=timestamp)
    yield vector("an empty webhook-id", "missing_header", good, webhook_id="")
    yield vector("an empty webhook-timestamp", "missing_header", good, timestamp="")
    yield vector("an empty webhook-signature", "missing_header", "")
    yield vector("a signature without its version", no_match, sign(NEW))
    yield vector("a version without its signature", no_match, "v1,")
    yield vector("a signature cut short", no_match, good[:-5])
    yield vector("a signature that is no base64", no_match, "v1,!!!")
    yield vector("a version that does not exist yet", no_match, f"v2,{sign(NEW)}")
    yield vector("an unknown version beside a known one", verified, f"v1a,{sign(OTHER)} {good}")
    yield vector("no secret", "malformed_secret", good, secrets=[])
    yield vector("an empty secret", "malformed_secret", f"v1,{sign('whsec_')}", secrets=["whsec_"])
    yield vector("a secret that is no base64", "malformed_secret", f"v1,{sign('whsec_')}", secrets=["whsec_%%%"])


def main():
    text = json.dumps({"tolerance_seconds": 300, "vectors": list(vectors())}, ensure_ascii=False, indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        if FILE.read_text(encoding="utf-8") != text:
            sys.exit(f"{FILE.name} is not what write_vectors.py writes")
    else:
        FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
