"""What schemathesis must not do: send traffic off this machine, and lock itself out."""

from urllib.parse import urlsplit

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """An endpoint's URL leads to this machine: the service delivers events there."""
    if isinstance(body, dict) and isinstance(body.get("url"), str):
        try:
            named = urlsplit(body["url"]).hostname
        except ValueError:
            named = None
        if named:
            body["url"] = "http://127.0.0.1:9/" + body["url"].rsplit("/", 1)[-1]
    return body
