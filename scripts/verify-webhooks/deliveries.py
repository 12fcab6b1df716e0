"""Waits until a session's two events came to each package, and checks the verdicts.

    deliveries.py BUILD_FOLDER JOURNALS SECRETS SESSION SIGNATURES NAME=verifies|refused…

SIGNATURES is how many each delivery has to carry. By each secret it must verify, or be refused, as is said here
of all secrets that the receivers know; forgeries must be refused. The five programs must see it alike.
"""

import base64
import json
import pathlib
import sys
import time

import programs

LIMIT_SECONDS = 20
EVENTS = [(1, "checkout.session.initiated"), (2, "checkout.session.completed")]
FORGERIES = {"changed body", "changed id", "changed timestamp"}


def main():
    build_folder, journals, secrets_file, session, signatures, *named = sys.argv[1:]
    wanted = {name: verdict == "verifies" for name, verdict in (pair.split("=") for pair in named)}
    with open(secrets_file, encoding="utf-8") as file:
        secrets = json.load(file)
    deliveries = wait_for(journals, session, secrets)
    for path, of_path in deliveries.items():
        for delivery in of_path:
            check(delivery, int(signatures), wanted)
        each = f"{signatures} signature{'s' * (signatures != '1')} each"
        print(f"  {path.lstrip('/')}: {len(of_path)} deliveries, {each}: {told(wanted)}; forgeries refused")
    commands, _ = programs.find(build_folder)
    for language, command in commands.items():
        path, of_path = next(iter(deliveries.items()))
        delivery = of_path[-1]
        for name, verifies in wanted.items():
            body = base64.b64decode(delivery["body"])
            word = programs.run(command, [secrets[path][name]], delivery["headers"], body)
            expect(f"{language}, by {name}", word, "verified" if verifies else "no_matching_signature")
    print(f"  {', '.join(commands)} by hand: the same")


def wait_for(journals, session, paths):
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        found = {path: [] for path in paths}
        for delivery in read(journals):
            if event(delivery)["data"]["id"] == session:
                found[delivery["path"]].append(delivery)
        arrived = {path: sorted(set(map(numbered, of_path))) for path, of_path in found.items()}
        if all(events == EVENTS for events in arrived.values()):
            return found
        if time.monotonic() > deadline:
            sys.exit(f"{session}: wanted {EVENTS} at each of {list(paths)}, got {arrived}")
        time.sleep(0.05)


def read(journals):
    for journal in pathlib.Path(journals).iterdir():
        with journal.open(encoding="utf-8") as lines:
            # A line without its end is still being written.
            yield from map(json.loads, (line for line in lines if line.endswith("\n")))


def event(delivery):
    return json.loads(base64.b64decode(delivery["body"]))


def numbered(delivery):
    return event(delivery)["sequence"], event(delivery)["event_type"]


def check(delivery, signatures, wanted):
    headers, verdicts, path = delivery["headers"], delivery["verdicts"], delivery["path"]
    expect(f"{path}: webhook-id", headers["webhook-id"], event(delivery)["id"])
    expect(f"{path}: number of signatures", len(headers["webhook-signature"].split(" ")), signatures)
    expect(f"{path}: secrets that were tried", sorted(verdicts), sorted(wanted))
    for name, verdict in verdicts.items():
        expect(f"{path}: by the {name} secret", verdict, {"as it came": wanted[name]} | dict.fromkeys(FORGERIES, False))


def told(wanted):
    return ", ".join(f"{name} {'verifies' if verifies else 'is refused'}" for name, verifies in wanted.items())


def expect(what, actual, wanted):
    if actual != wanted:
        sys.exit(f"{what}: wanted {wanted}, got {actual}")


main()
