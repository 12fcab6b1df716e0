"""Runs the five programs and the three packages over the published vectors.

    vectors.py BUILD_FOLDER [EXPECTED_LANGUAGE…]

A program must give the very result of a vector; a package must verify or refuse as it says.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from unittest import mock

import standardwebhooks
import svix.webhooks

import programs


def main():
    build_folder, *demanded = sys.argv[1:]
    vectors = json.loads((programs.FOLDER / "vectors.json").read_text(encoding="utf-8"))["vectors"]
    results = {vector["result"] for vector in vectors}
    assert len(vectors) >= 30 and len(results) == 7, f"{len(vectors)} vectors, {results}"
    commands, absent = programs.find(build_folder)
    for language, command in commands.items():
        def run(vector):
            body = vector["body"].encode()
            return programs.run(command, vector["secrets"], vector["headers"], body, vector["now"])

        with ThreadPoolExecutor(4) as pool:
            for vector, result in zip(vectors, pool.map(run, vectors), strict=True):
                expect(language, vector, result)
        print(f"  {language}: {len(vectors)} vectors as published")
    for language in absent:
        print(f"  {language}: SKIPPED, {programs.LANGUAGES[language][0]} is not installed")
    lacking = set(demanded) & set(absent)
    if lacking:
        sys.exit(f"demanded but not installed: {', '.join(sorted(lacking))}")

    # A package knows one secret, and no error for having none.
    vectors = [vector for vector in vectors if vector["secrets"]]
    for name, package in (("standardwebhooks (PyPI)", standardwebhooks), ("svix (PyPI)", svix.webhooks)):
        for vector in vectors:
            expect_verdict(name, vector, any(verifies(package.Webhook, secret, vector) for secret in vector["secrets"]))
        print(f"  {name}: {len(vectors)} vectors verified or refused as published")
    name = "standardwebhooks (npm)"
    ended = subprocess.run(["node", os.path.join(os.path.dirname(__file__), "vectors.cjs")],
                           input=json.dumps(vectors).encode(), stdout=subprocess.PIPE, check=True)
    verdicts = json.loads(ended.stdout)
    for vector, verdict in zip(vectors, verdicts, strict=True):
        expect_verdict(name, vector, verdict)
    print(f"  {name}: {len(vectors)} vectors verified or refused as published")


def verifies(webhook, secret, vector):
    class Pinned(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(vector["now"], tz=timezone.utc)

    with mock.patch("standardwebhooks.webhooks.datetime", Pinned):
        try:
            webhook(secret).verify(vector["body"].encode(), vector["headers"])
        except Exception:  # of malformed input they raise more than WebhookVerificationError
            return False
    return True


def expect(who, vector, result):
    if result != vector["result"]:
        sys.exit(f"{who}: {vector['name']}: wanted {vector['result']}, got {result}")


def expect_verdict(who, vector, verified):
    if verified != (vector["result"] == "verified"):
        sys.exit(f"{who}: {vector['name']}: wanted {vector['result']}, but it {'verifies' if verified else 'refuses'}")


main()
