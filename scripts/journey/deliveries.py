"""Waits until a session's events were delivered, and checks each delivery.

    deliveries.py JOURNAL URL SECRET SESSION EVENT_TYPE...

JOURNAL is what receiver.cjs writes, URL the path and query of the endpoint. The events must be exactly the
given ones, in this order, each signed so that the package `standardwebhooks` verifies it.
"""

import json
import sys
import time

from standardwebhooks import Webhook, WebhookVerificationError

LIMIT_SECONDS = 20


def main():
    journal, url, secret, session, *wanted = sys.argv[1:]
    webhook = Webhook(secret)
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        deliveries = [d for d in read(journal, url) if json.loads(d["body"])["data"]["id"] == session]
        events = {d["headers"]["webhook-id"]: json.loads(d["body"]) for d in deliveries}
        arrived = sorted((event["sequence"], event["event_type"]) for event in events.values())
        if arrived == list(enumerate(wanted, start=1)):
            break
        if time.monotonic() > deadline:
            sys.exit(f"{session}: wanted the events {wanted}, got {arrived}")
        time.sleep(0.05)
    for delivery in deliveries:
        check(webhook, delivery)
    print(f"  {session}: {', '.join(wanted)} delivered, {len(deliveries)} signatures verified")


def read(journal, url):
    with open(journal, encoding="utf-8") as lines:
        # A line without its end is still being written.
        return [d for d in map(json.loads, (line for line in lines if line.endswith("\n"))) if d["url"] == url]


def check(webhook, delivery):
    body, headers = delivery["body"], delivery["headers"]
    event = webhook.verify(body, headers)
    assert event["id"] == headers["webhook-id"], "webhook-id is the event's id"
    assert event["data"] == event["checkout_session"], "data and checkout_session are the same object"
    assert delivery["answer"] == 200, f"the guide's handler answered {delivery['answer']}"
    if event["event_type"] == "checkout.session.completed":
        assert event["data"]["customer_id"] in delivery["activated"], "the guide's handler activated the customer"
    try:
        webhook.verify(body.replace("{", "{ ", 1), headers)
    except WebhookVerificationError:
        return
    sys.exit("a changed body verifies: the check itself is broken")


main()
