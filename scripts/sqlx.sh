#!/usr/bin/env bash
# Describes every checked query against freshly migrated tables.
#   scripts/sqlx.sh           writes .sqlx, from which builds without a database read
#   scripts/sqlx.sh --check   compares with .sqlx and fails when a file differs
#   scripts/sqlx.sh --check COMMAND...
#                             as well; COMMAND compiles everything, such as `cargo clippy`, which saves compiling twice
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/postgres.sh

case "${1:-}" in
    "") check=false ;;
    --check) check=true ;;
    *) echo "usage: scripts/sqlx.sh [--check [COMMAND...]]" >&2; exit 2 ;;
esac
compile=(cargo check --quiet --locked --all-targets)
if [ $# -gt 1 ]; then compile=("${@:2}"); fi
if ! command -v psql >/dev/null; then
    echo "psql was not found: apt-get install postgresql-client" >&2
    exit 1
fi

clean_up() {
    stop_postgres
    if [ -n "${work:-}" ]; then rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

start_postgres
for migration in migrations/*.sql; do
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname "$DATABASE_URL" --file "$migration"
done

# On one file system with .sqlx, so that a file can be moved there.
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
work=$(mktemp -d "$(cd "$target" && pwd)/sqlx.XXXXXX")
mkdir "$work/queries" "$work/tmp"
# Cargo does not know that the tables are an input, so the crates with queries are compiled again.
touch src/lib.rs src/main.rs tests/*/main.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$work/queries" SQLX_TMP="$work/tmp" "${compile[@]}"

if $check; then
    mkdir -p "$work/empty"
    committed=.sqlx
    [ -d .sqlx ] || committed="$work/empty"
    if ! differences=$(diff -rq "$committed" "$work/queries"); then
        echo ".sqlx does not fit the queries and the migrations; run \`make sqlx\` and commit it:" >&2
        sed -e "s|$work/queries|the fresh one|g; s|$committed|.sqlx|g" <<<"$differences" >&2
        exit 1
    fi
    echo ".sqlx fits: $(find "$work/queries" -name '*.json' | wc -l | tr -d ' ') queries"
else
    rm -rf .sqlx
    mv "$work/queries" .sqlx
    echo ".sqlx written: $(find .sqlx -name '*.json' | wc -l | tr -d ' ') queries"
fi
