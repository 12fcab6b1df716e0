"""What schemathesis must not do: send traffic off this machine, and take away what sessions are made of."""

import os
import random
from urllib.parse import urlsplit

import hypothesis
import schemathesis

# What is neither guided by what was accepted before nor made smaller tries far more different requests in its time.
hypothesis.settings.register_profile("broad", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
hypothesis.settings.load_profile("broad")

# The demo's connection, plan, price and customer: without them no session could be created any more.
KEPT = set(os.environ["KEPT"].split())
PLAN = next(name for name in KEPT if name.startswith("plan_"))
DICE = random.Random(7)


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("url"), str):
        body["url"] = on_this_machine(body["url"])
    # No text by chance is the name of something that exists, or two dates in order: most requests are to go through.
    if isinstance(body.get("entity_id"), str):
        body["entity_id"] = PLAN
    configuration = body.get("configuration")
    wanted = configuration.get("create_subscription_params") if isinstance(configuration, dict) else None
    if isinstance(wanted, dict) and isinstance(wanted.get("plan_id"), str) and DICE.random() < 0.8:
        body["customer_external_id"] = "user_12345"
        for name in ("success_url", "failure_url", "cancel_url"):
            if isinstance(body.get(name), str):
                body[name] = "https://shop.example/" + name
        for name in ("start_date", "end_date", "billing_period", "billing_period_count"):
            wanted.pop(name, None)
        wanted.update(plan_id=PLAN, currency="INR")
    return body


def on_this_machine(url):
    """An endpoint's URL: the service delivers events there."""
    try:
        named = urlsplit(url).hostname
    except ValueError:
        named = None
    return "http://127.0.0.1:9/events" if named or DICE.random() < 0.5 else url


@schemathesis.hook
def before_call(context, case, kwargs):
    # Headers that decide alone what is answered: most requests are to reach their handler.
    for name in list(case.headers or {}):
        if name.lower() in ("idempotency-key", "x-environment-id") and DICE.random() < 0.9:
            del case.headers[name]
    # Changes go to what the run made itself.
    ids = [*(case.path_parameters or {}).values(), *(case.query or {}).values()]
    if case.method.upper() in ("PUT", "DELETE") and KEPT.intersection(map(str, ids)):
        case.path_parameters = {name: "none" for name in case.path_parameters or {}}
        case.query = {}
