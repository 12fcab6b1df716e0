"""Searches take every word of the SDK's enums: one that nothing here is finds nothing, and is no error."""

import inspect
import typing
from collections.abc import Iterable

from flexprice import models

SEARCHES = (
    "customers.query_customer plans.query_plan prices.query_price subscriptions.query_subscription invoices.query_invoice "
    "payments.list_payments refunds.list_refunds"
).split()
# Plain strings by their signatures.
UNTYPED = {
    "payments.list_payments": {
        "payment_status": models.PaymentStatus,
        "payment_method_type": models.PaymentMethodType,
        "destination_type": models.PaymentDestinationType,
    },
    "refunds.list_refunds": {
        "refund_statuses": Iterable[models.RefundStatus],
        "refund_destinations": Iterable[models.RefundDestination],
    },
}


def check(shop):
    tried = 0
    for name in SEARCHES:
        call = shop.call(name)
        annotations = {each.name: each.annotation for each in inspect.signature(call.bound).parameters.values()}
        for field, annotation in (annotations | UNTYPED.get(name, {})).items():
            words, in_list = words_of(annotation)
            for word in words:
                call(**{field: [word] if in_list else word})
                tried += 1
    assert tried > 100, f"only {tried} words"


def words_of(annotation, in_list=False):
    """The words of the first Literal in it, and whether they stand in a list."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation), in_list
    for argument in typing.get_args(annotation):
        words, found_in_list = words_of(argument, in_list or typing.get_origin(annotation) is Iterable)
        if words:
            return words, found_in_list
    return (), in_list
