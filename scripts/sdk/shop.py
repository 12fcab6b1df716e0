"""A merchant's programs: the SDK, counted call by call, and what a customer does at the sandbox."""

import datetime
import inspect
import json
import re
import time
import urllib.request

from flexprice import Flexprice
from flexprice.models import errors
from flexprice.types import BaseModel
from flexprice.types.basemodel import UNSET, UnrecognizedStr

from operations import read_operations

OPERATIONS = read_operations()


class Shop:
    """`shop.customers.get_customer(id=…)` calls the SDK and writes down that, and how, it ended."""

    def __init__(self, api, key, sandbox):
        self.api, self.key, self.sandbox = api, key, sandbox
        self.sdk = Flexprice(api_key_auth=key, server_url=f"{api}/v1")
        # (operation, status) to how often.
        self.ended = {}
        # What really went over the wire for the call under way.
        self.wire = []
        client = self.sdk.sdk_configuration.client
        client.event_hooks["response"].append(self.wire.append)

        async def record(response):
            self.wire.append(response)

        self.sdk.sdk_configuration.async_client.event_hooks["response"].append(record)
        # In every name, so that a second run at the same service meets nothing of the first.
        self.run = f"{int(time.time() * 1000):x}"

    def __getattr__(self, resource):
        if resource not in Flexprice._sub_sdk_map:
            raise AttributeError(resource)
        return Resource(self, resource)

    def call(self, name):
        """An operation by the name that the tables have for it."""
        resource, operation = name.split(".")
        return getattr(getattr(self, resource), operation)

    def add(self, other):
        for key, count in other.ended.items():
            self.ended[key] = self.ended.get(key, 0) + count

    def refused(self, status, code, call, /, **arguments):
        """`call` must fail with this status and code, by the class that the SDK has for it; the envelope."""
        try:
            answer = call(**arguments)
        except errors.FlexpriceError as error:
            return self.check_error(error, status, code, OPERATIONS[call.name])
        raise AssertionError(f"{call.name} is not refused: {answer!r}")

    async def refused_later(self, status, code, call, /, **arguments):
        try:
            answer = await call.later(**arguments)
        except errors.FlexpriceError as error:
            return self.check_error(error, status, code, OPERATIONS[call.name])
        raise AssertionError(f"{call.name} is not refused: {answer!r}")

    def check_error(self, error, status, code, operation):
        assert error.status_code == status, f"{operation.name}: wanted {status} {code}, got {error}"
        typed = status in operation.typed
        wanted = errors.ErrorResponse if typed else errors.FlexpriceDefaultError
        assert type(error) is wanted, f"{operation.name}: {status} raises {type(error).__name__}"
        envelope = json.loads(error.body)
        assert envelope["code"] == code, f"{operation.name}: wanted {code}, got {envelope}"
        assert envelope["http_status_code"] == status and envelope["message"], envelope
        if typed:
            data = error.data
            assert (data.code, data.http_status_code, data.message) == (code, status, envelope["message"])
        return envelope

    def pay(self, session, **how):
        """The customer pays its link at the sandbox."""
        return self.at_sandbox("POST", f"links/{session}/pay", how)

    def at_sandbox(self, method, path, body):
        return request(method, f"{self.sandbox}/_sandbox/{path}", body)

    def name(self, text):
        return f"{self.run} {text}"

    def customer(self, text):
        return self.customers.create_customer(external_id=self.name(text), name="Jane Smith", email="jane@example.com")

    def plan(self, text, **price):
        """A plan with one price: 499 rupees a month."""
        plan = self.plans.create_plan(name="Pro", lookup_key=self.name(f"plan {text}"))
        self.price(plan.id, **price)
        return plan

    def price(self, plan, **changes):
        return self.prices.create_price(**self.price_of(plan) | changes)

    def price_of(self, plan):
        return {
            "entity_type": "PLAN",
            "entity_id": plan,
            "type_": "FIXED",
            "billing_model": "FLAT_FEE",
            "billing_period": "MONTHLY",
            "currency": "INR",
            "amount": "499",
            "invoice_cadence": "ADVANCE",
            "price_unit_type": "FIAT",
        }

    def new_session(self, customer, plan, **more):
        """A session for the plan's monthly price in rupees."""
        return self.checkout.create_checkout_session(**order(customer, plan), **more)


def order(customer, plan):
    params = {"plan_id": plan, "currency": "INR", "billing_period": "MONTHLY"}
    return {
        "action": "create_subscription",
        "customer_external_id": customer,
        "payment_provider": "razorpay",
        "configuration": {"create_subscription_params": params},
    }


class Resource:
    def __init__(self, shop, name):
        self.shop, self.name = shop, name

    def __getattr__(self, operation):
        name = f"{self.name}.{operation.removesuffix('_async')}"
        bound = getattr(getattr(self.shop.sdk, self.name), operation)
        return Call(self.shop, name, bound)


class Call:
    def __init__(self, shop, name, bound):
        self.shop, self.name, self.bound = shop, name, bound
        self.operation = OPERATIONS[name]

    def __call__(self, **arguments):
        self.shop.wire.clear()
        try:
            answer = self.bound(**arguments)
        except errors.FlexpriceError as error:
            self.count(error.status_code)
            raise
        return self.check(answer)

    async def later(self, **arguments):
        self.shop.wire.clear()
        try:
            answer = await self.bound(**arguments)
        except errors.FlexpriceError as error:
            self.count(error.status_code)
            raise
        return self.check(answer)

    def check(self, answer):
        (response,) = self.shop.wire
        assert {response.status_code} == self.operation.success, f"{self.name}: {response.status_code}"
        model = inspect.signature(self.bound).return_annotation
        # Of 204, which has no body, the SDK says nothing.
        if response.status_code == 204:
            assert model is inspect.Signature.empty
            assert answer is None, f"{self.name}: {answer!r}"
        else:
            assert isinstance(answer, model), f"{self.name}: {type(answer)}"
            check_words(self.name, answer)
        self.count(response.status_code)
        return answer

    def count(self, status):
        response = self.shop.wire[-1]
        request, base = response.request, f"{self.shop.api}/v1"
        url = str(request.url).split("?")[0]
        assert url.startswith(base), f"{self.name} went to {url}"
        path = url.removeprefix(base)
        assert self.operation.matches(request.method, path), f"{self.name} sent {request.method} {path}"
        key = (self.name, status)
        self.shop.ended[key] = self.shop.ended.get(key, 0) + 1


def check_words(name, value):
    """No enum of an answer may hold a word that the SDK does not know."""
    assert not isinstance(value, UnrecognizedStr), f"{name}: the SDK does not know {value!r}"
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            check_words(f"{name}.{field}", getattr(value, field))
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            check_words(f"{name}[]", item)


def has(answer, *fields, **values):
    """Each of these fields is there; those with a value have it."""
    for field in fields:
        value = getattr(answer, field)
        assert value is not None and value is not UNSET, f"{type(answer).__name__}.{field} is missing: {answer!r}"
    for field, wanted in values.items():
        value = getattr(answer, field)
        assert value == wanted, f"{type(answer).__name__}.{field}: wanted {wanted!r}, got {value!r}"


def ids(page):
    return [item.id for item in page.items]


def check_page(page, wanted, total=None, **pagination):
    """The page holds exactly these ids in this order."""
    assert ids(page) == wanted, f"wanted {wanted}, got {ids(page)}"
    has(page.pagination, total=len(wanted) if total is None else total, **pagination)


def is_id(text, prefix):
    assert re.fullmatch(rf"{prefix}_[0-9A-Z]{{26}}", text), text


def is_now(time):
    age = datetime.datetime.now(datetime.timezone.utc) - time
    assert abs(age) < datetime.timedelta(minutes=2), time


def until(look, what):
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + 30
    while not (found := look()):
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.1)
    return found


def request(method, url, body=None, key=None):
    """JSON without the SDK, for what it has no operation for."""
    headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data, headers, method=method), timeout=20) as answer:
        return json.load(answer)
