"""Checks that docs/verify-webhooks.md shows code as the programs have it, and every vector."""

import json
import re
import sys

from programs import FILES, FOLDER

LINKED_CODE = re.compile(r"^### [^\n]*\]\(verify-webhooks/([^)]+)\)\n\n```[a-z]+\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def main():
    page = FOLDER.with_suffix(".md").read_text(encoding="utf-8")
    shown = dict(LINKED_CODE.findall(page))
    if sorted(shown) != sorted(FILES.values()):
        sys.exit(f"the page shows code of {sorted(shown)}, not of {sorted(FILES.values())}")
    for file, code in shown.items():
        if code not in (FOLDER / file).read_text(encoding="utf-8"):
            sys.exit(f"the code that the page shows is not in {file} as it stands")
    vectors = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))["vectors"]
    rows = re.findall(r"^\| ([^|]+) \| `([a-z_]+)` \|$", page, re.MULTILINE)
    wanted = [(vector["name"], vector["result"]) for vector in vectors]
    if rows != wanted:
        lacking = [row for row in wanted if row not in rows]
        sys.exit(f"the page's table is not that of the vectors; it lacks {lacking}")
    print(f"  the page shows {len(shown)} programs and {len(rows)} vectors as they are")


main()
