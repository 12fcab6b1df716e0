"""A merchant's receiver that verifies with the PyPI packages.

    receiver.py JOURNAL SECRETS   prints the port it listens on

Posts to /pypi-standardwebhooks and /pypi-svix are verified by these. SECRETS is a file of secrets by path and
name; each is tried, on what came and on three forgeries made of it. The verdicts are written to JOURNAL.
"""

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import standardwebhooks
import svix.webhooks

journal, secrets_file = sys.argv[1:]
writing = threading.Lock()


def verify_with_standardwebhooks(secret, body, headers):
    try:
        event = standardwebhooks.Webhook(secret).verify(body, headers)
    except standardwebhooks.WebhookVerificationError:
        return False
    assert event == json.loads(body)
    return True


def verify_with_svix(secret, body, headers):
    try:
        svix.webhooks.Webhook(secret).verify(body, headers)
    except svix.webhooks.WebhookVerificationError:
        return False
    return True


VERIFIERS = {"/pypi-standardwebhooks": verify_with_standardwebhooks, "/pypi-svix": verify_with_svix}


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with open(secrets_file, encoding="utf-8") as file:
            secrets = json.load(file)[self.path]
        verify = VERIFIERS[self.path]
        later = str(int(headers["webhook-timestamp"]) + 1)
        tries = {
            "as it came": (body, headers),
            "changed body": (body.replace(b"{", b"{ ", 1), headers),
            "changed id": (body, headers | {"webhook-id": headers["webhook-id"] + "0"}),
            "changed timestamp": (body, headers | {"webhook-timestamp": later}),
        }
        verdicts = {name: {what: verify(secret, *tried) for what, tried in tries.items()} for name, secret in secrets.items()}
        delivery = {"path": self.path, "headers": headers, "body": base64.b64encode(body).decode(), "verdicts": verdicts}
        with writing, open(journal, "a", encoding="utf-8") as file:
            file.write(json.dumps(delivery) + "\n")
        trusted = any(verdict["as it came"] for verdict in verdicts.values())
        self.send_response(204 if trusted else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
