"""All that the SDK is used for here, and that nothing of it was left out.

    run.py API_URL API_KEY SANDBOX_URL
"""

import importlib
import sys
import time
import warnings

from operations import unsupported
from shop import OPERATIONS, Shop

# A file each.
GROUPS = (
    "journey sessions customers plans prices subscriptions invoices payments refunds keys acting words asynchronous "
    "unsupported strangers"
).split()

# Answers that cannot come, and why.
NEVER = {
    # An id that cannot exist is one of nothing: 404 and never 400.
    ("customers.get_customer", 400),
    ("customers.get_customer_by_external_id", 400),
    ("plans.get_plan", 400),
    ("prices.get_price", 400),
    ("subscriptions.get_subscription", 400),
    ("payments.get_payment", 400),
    ("refunds.get_refund", 400),
    # Nothing that the SDK can send with these is wrong.
    ("customers.get_subscriptions_for_customer", 400),
    ("subscriptions.get_subscription_v2", 400),
    ("payments.process_payment", 400),
    # Payments decide: these always refuse.
    ("subscriptions.activate_subscription", 200),
    ("invoices.finalize_invoice", 200),
    ("invoices.void_invoice", 200),
}


def main():
    # Of words in requests that the SDK does not know, which are sent on purpose.
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings")
    shop = Shop(*sys.argv[1:])
    for group in GROUPS:
        started, before = time.monotonic(), sum(shop.ended.values())
        importlib.import_module(group).check(shop)
        calls = sum(shop.ended.values()) - before
        assert calls, f"{group} calls nothing"
        print(f"  {group:<14} {calls:5} calls {time.monotonic() - started:6.1f} s", flush=True)
    check_nothing_left_out(shop.ended)


def check_nothing_left_out(ended):
    table, problems = unsupported(), []
    for name, operation in OPERATIONS.items():
        statuses = {status for called, status in ended if called == name}
        if name in table:
            wanted = {401, 501}
        else:
            possible = {401} | operation.success | {status for status in operation.typed if status < 500}
            wanted = {status for status in possible if (name, status) not in NEVER}
        if not wanted <= statuses:
            problems.append(f"{name}: no call ended with {sorted(wanted - statuses)}")
        for status in statuses:
            if (name, status) in NEVER:
                problems.append(f"{name}: {status} came after all")
    assert not problems, "\n".join(problems)
    served = len(OPERATIONS) - len(table)
    print(f"  {sum(ended.values())} calls: {served} operations served, {len(table)} answer 501")


main()
