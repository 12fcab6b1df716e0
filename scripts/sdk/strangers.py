"""Every operation without a valid key: 401 before anything else."""

from arguments import minimal
from shop import OPERATIONS, Shop


def check(shop):
    stranger = Shop(shop.api, "sk_test_nobody", shop.sandbox)
    for name in OPERATIONS:
        call = stranger.call(name)
        stranger.refused(401, "unauthorized", call, **minimal(call.bound))
    shop.add(stranger)
