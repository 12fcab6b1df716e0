#!/usr/bin/env bash
# Plants the bugs of docs/planted-bugs.md, one at a time, in a copy of the tree, and demands that the test that is
# named for each fails. Exit code 1 when one escapes.
#   scripts/planted.sh           all of them
#   scripts/planted.sh 7 12      these
# The copy and its build are kept in target/planted, so that each bug compiles only what it changes.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/postgres.sh

for argument in "$@"; do
    if ! [[ $argument =~ ^[0-9]+$ ]]; then
        echo "usage: scripts/planted.sh [NUMBER ...]" >&2
        exit 2
    fi
done
for program in psql python3 timeout; do
    if ! command -v "$program" >/dev/null; then
        echo "$program was not found" >&2
        exit 1
    fi
done

root=$PWD
mkdir -p target/planted/tree target/planted/logs
rm -rf target/planted/clean
clean=$root/target/planted/clean
tree=$root/target/planted/tree
logs=$root/target/planted/logs
export CARGO_TARGET_DIR=$root/target/planted/build
# Each bug changes a line, and nobody debugs it.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=false
# A test that hangs has failed. The slowest of them needs a tenth of this.
test_timeout=120

trap stop_postgres EXIT
trap 'exit 130' INT TERM

# As the tree is now: it may change while this runs.
git ls-files --cached --others --exclude-standard | while IFS= read -r file; do
    [ -f "$file" ] || continue
    mkdir -p "$clean/$(dirname "$file")"
    cp -p "$file" "$clean/$file"
done

# Files that are equal keep their time, and what is built from them is kept. Others get a new one: cargo looks at
# nothing else, and would take an older file for the one that it has built.
copy_tree() {
    local file
    (cd "$tree" && find . -type f) | while IFS= read -r file; do
        [ -f "$clean/$file" ] || rm -f "$tree/$file"
    done
    (cd "$clean" && find . -type f) | while IFS= read -r file; do
        if ! cmp -s "$clean/$file" "$tree/$file"; then
            mkdir -p "$tree/$(dirname "$file")"
            cp "$clean/$file" "$tree/$file"
        fi
    done
}

# Each hunk's text must be there exactly once; line numbers do not count, as they move.
plant() {
    python3 - "$tree" "$1" <<'PYTHON'
import pathlib, sys

tree, patch = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
path, hunks = None, []
for line in patch.read_text().splitlines(keepends=True):
    if line.startswith("+++ b/"):
        path = tree / line[6:].rstrip("\n")
    elif line.startswith("@@"):
        hunks.append((path, [], []))
    elif not line.startswith("--- "):
        if line[0] in " -":
            hunks[-1][1].append(line[1:])
        if line[0] in " +":
            hunks[-1][2].append(line[1:])
if not hunks:
    sys.exit(f"{patch.name} changes nothing")
for path, old, new in hunks:
    text, old = path.read_text(), "".join(old)
    if text.count(old) != 1:
        sys.exit(f"{patch.name} does not fit {path.relative_to(tree)}: its text is there {text.count(old)} times")
    path.write_text(text.replace(old, "".join(new)))
PYTHON
}

# Prints the test binary.
build() {
    (cd "$tree" && SQLX_OFFLINE=false cargo test --locked --no-run --test it) >"$1" 2>&1 || return 1
    sed -n 's/.*Executable .*(\(.*\))$/\1/p' "$1"
}

run() {
    local binary=$1
    shift
    (cd "$tree" && env -u DATABASE_URL timeout --kill-after=10 "$test_timeout" "$binary" --exact "$@")
}

# number, what, tests: from the table.
bugs() {
    sed -n 's/^| *\([0-9][0-9]*\) |.*| *\([^|]*\) |$/\1 \2/p' "$clean/docs/planted-bugs.md" | tr -d '`,'
}

chosen=()
while read -r number tests; do
    [ $# -eq 0 ] || [[ " $* " == *" $number "* ]] || continue
    chosen+=("$number $tests")
done < <(bugs)
if [ "${#chosen[@]}" -eq 0 ]; then
    echo "no such bug in docs/planted-bugs.md" >&2
    exit 2
fi

copy_tree
# A changed statement is checked against tables, as .sqlx does not know it.
start_postgres
for migration in "$clean"/migrations/*.sql; do
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname "$DATABASE_URL" --file "$migration"
done

echo "without a bug: building and testing"
if ! binary=$(build "$logs/clean-build"); then
    tail -n 20 "$logs/clean-build" >&2
    exit 1
fi
# Together they share the machine, which is why they get more time.
all=()
while IFS= read -r test; do all+=("$test"); done < <(printf '%s\n' "${chosen[@]}" | cut -d' ' -f2- | tr ' ' '\n' | sort -u)
test_timeout=900
if ! run "$binary" "${all[@]}" >"$logs/clean" 2>&1 || ! grep -q "ok. ${#all[@]} passed" "$logs/clean"; then
    tail -n 40 "$logs/clean" >&2
    echo "not all of the tests that are named pass without a bug" >&2
    exit 1
fi
test_timeout=120

escaped=0
for bug in "${chosen[@]}"; do
    read -r number tests <<<"$bug"
    patches=("$clean/docs/planted-bugs/$(printf %02d "$number")"-*.patch)
    name=$(basename "${patches[0]}" .patch)
    started=$SECONDS
    copy_tree
    if ! plant "${patches[0]}"; then
        result="DOES NOT APPLY"
    elif ! binary=$(build "$logs/$name-build"); then
        result="DOES NOT BUILD ($logs/$name-build)"
    else
        result="caught by $tests"
        for test in $tests; do
            status=0
            run "$binary" "$test" >"$logs/$name" 2>&1 || status=$?
            if [ "$status" -eq 124 ]; then
                result="caught by $tests (hangs)"
            elif [ "$status" -eq 0 ] || ! grep -q "^test $test .*FAILED" "$logs/$name"; then
                result="ESCAPED $test"
                break
            fi
        done
    fi
    [[ $result == caught* ]] || escaped=$((escaped + 1))
    printf '%-38s %4d s  %s\n' "$name" $((SECONDS - started)) "$result"
done
copy_tree
echo "$((${#chosen[@]} - escaped)) of ${#chosen[@]} caught"
[ "$escaped" -eq 0 ]
