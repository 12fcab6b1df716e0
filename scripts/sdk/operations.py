"""Every operation of the installed SDK, as its own source says: what it sends and which answers it knows.

    operations.py            prints METHOD PATH RESOURCE.OPERATION, a line each
    operations.py --check    compares them with src/http/unsupported.txt and docs/compatibility.md

Reading the source, not running it, finds an operation's typed errors too. run.py compares method and path with
what is really sent.
"""

import ast
import pathlib
import re
import sys
from dataclasses import dataclass

import flexprice
from flexprice.sdk import Flexprice

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT / "src/http/unsupported.txt"
PAGE = ROOT / "docs/compatibility.md"


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: str
    # Statuses that return, and those that raise ErrorResponse; any other raises FlexpriceDefaultError.
    success: frozenset
    typed: frozenset

    def matches(self, method, path):
        """Whether this request is one of it; `path` is below /v1 and may have slashes within its last parameter."""
        pattern = re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(self.path))
        return method == self.method and re.fullmatch(pattern, path) is not None


def read_operations():
    found = {}
    for resource, (module, class_name) in Flexprice._sub_sdk_map.items():
        file = pathlib.Path(flexprice.__file__).parent / f"{module.split('.')[-1]}.py"
        classes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
        (body,) = (node.body for node in classes if node.name == class_name)
        for function in body:
            if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
                operation = read_operation(f"{resource}.{function.name}", function)
                found[operation.name] = operation
    assert len(found) > 250, f"only {len(found)} operations: is the SDK laid out otherwise now?"
    return found


def read_operation(name, function):
    request, success, typed = None, set(), set()
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else None
        if called == "_build_request":
            assert request is None, f"{name} sends several requests"
            request = {keyword.arg: keyword.value for keyword in call.keywords}
        elif called == "match_response":
            statuses = ast.literal_eval(call.args[1])
            for status in [statuses] if isinstance(statuses, str) else statuses:
                if status.isdigit():
                    (success if status.startswith("2") else typed).add(int(status))
    method, path = (ast.literal_eval(request[key]) for key in ("method", "path"))
    return Operation(name, method, path, frozenset(success), frozenset(typed))


def unsupported():
    """The operations that checkoutd answers 501, by its own table: name to (method, path)."""
    rows = [line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    return {name: (method, path) for method, path, name in rows}


STATES = ("supported", "differs", "501")


def documented():
    """The table of docs/compatibility.md: name to (method, path, state)."""
    rows = {}
    for line in PAGE.read_text().splitlines():
        row = re.fullmatch(r"\| `(\w+\.\w+)` \| `(\w+) (/\S+)` \| (\w+)(?:: (.+))? \|", line)
        if row:
            name, method, path, state, how = row.groups()
            assert name not in rows, f"{name} has two rows"
            assert state in STATES and (state == "differs") == bool(how), f"{name}: what is {state!r}?"
            rows[name] = (method, path, state)
    return rows


def check():
    operations, table, page = read_operations(), unsupported(), documented()
    expected = {name: (operation.method, operation.path) for name, operation in operations.items()}
    problems = []
    for name, route in table.items():
        if expected.get(name) != route:
            problems.append(f"{TABLE.name}: {name} {route} is not an operation of the SDK ({expected.get(name)})")
    for name in expected.keys() | page.keys():
        state = "501" if name in table else "supported or differs"
        if name not in page:
            problems.append(f"{PAGE.name}: {name} is missing")
        elif page[name][:2] != expected.get(name):
            problems.append(f"{PAGE.name}: {name} {page[name][:2]} is not an operation of the SDK")
        elif (page[name][2] == "501") != (name in table):
            problems.append(f"{PAGE.name}: {name} is {page[name][2]} there, {state} by {TABLE.name}")
    assert not problems, "\n".join(sorted(problems))
    counts = {state: sum(row[2] == state for row in page.values()) for state in STATES}
    print(f"  {len(operations)} operations: {', '.join(f'{count} {state}' for state, count in counts.items())}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check()
    else:
        for each in read_operations().values():
            print(each.method, each.path, each.name)
