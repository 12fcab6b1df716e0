"""Every operation that checkoutd does not have, called by the SDK: 501 not_implemented, by name."""

from arguments import minimal
from operations import unsupported


def check(shop):
    for name in unsupported():
        call = shop.call(name)
        envelope = shop.refused(501, "not_implemented", call, **minimal(call.bound))
        assert envelope["message"] == f"{name} is not supported", envelope
        assert envelope["details"] == {"reason": "operation_not_supported", "operation": name}, envelope
