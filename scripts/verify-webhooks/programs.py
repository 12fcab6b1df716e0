"""The five programs of docs/verify-webhooks.md, run as a merchant would run them."""

import os
import pathlib
import shutil
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parents[2] / "docs/verify-webhooks"
# Of each: its interpreter or compiler, and whether the checks cannot do without it.
LANGUAGES = {"Node": ("node", True), "Python": ("python3", True), "Go": ("go", False), "Ruby": ("ruby", False), "PHP": ("php", False)}
FILES = {"Node": "verify.mjs", "Python": "verify.py", "Go": "verify.go", "Ruby": "verify.rb", "PHP": "verify.php"}
# They start sooner so.
OPTIONS = {"Ruby": ["--disable=gems"], "PHP": ["-n"]}


def find(build_folder):
    """The command of each program whose language is installed, and the languages that are not."""
    commands, absent = {}, []
    for language, (tool, required) in LANGUAGES.items():
        path = shutil.which(tool)
        if path:
            commands[language] = command(language, path, build_folder)
        elif required:
            raise SystemExit(f"{tool} was not found")
        else:
            absent.append(language)
    return commands, absent


def command(language, tool, build_folder):
    if language == "Go":
        return build_go(tool, build_folder)
    if language == "Python":
        tool = sys.executable  # without the detour of whatever chooses among several
    return [tool, *OPTIONS.get(language, []), FOLDER / FILES[language]]


def build_go(go, build_folder):
    built = pathlib.Path(build_folder).resolve() / "verify-go"
    offline = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "", "GOPATH": str(built.with_name("go")),
               "GOCACHE": str(built.with_name("go-cache"))}
    subprocess.run([go, "build", "-o", built, FOLDER / FILES["Go"]], check=True, env=os.environ | offline)
    return [built]


def run(command, secrets, headers, body, now=None):
    """The one word that a program prints: `verified`, or why not."""
    values = [headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")]
    ended = subprocess.run(
        [*command, *values, *([] if now is None else [str(now)])],
        input=body, capture_output=True, timeout=20, env=os.environ | {"WEBHOOK_SECRETS": " ".join(secrets)})
    word = ended.stdout.decode().strip()
    if ended.stderr or ended.returncode != (0 if word == "verified" else 1):
        raise SystemExit(f"{command}: exit code {ended.returncode}, {word}\n{ended.stderr.decode()}")
    return word
