#!/usr/bin/env bash
# The description of the API against the built binary: linted, then schemathesis sends what it describes, and what it
# does not. Any server error, any status or body that is not described fails. Everything is on loopback and in a
# temporary directory; needs cargo, curl, python3 and npm; a Python package is installed under target/ on the first run.
#
# scripts/fuzz.sh [SECONDS]: how long to go on; 60 if not given
# scripts/fuzz.sh --examples N: N examples of each operation by itself instead, however long it takes
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/journey/lib.sh

begin cargo curl python3 npm
duration=${1:-60} examples=
if [ "$duration" = --examples ]; then
    examples=${2:?"--examples needs a number"}
fi

step "Build, and the tools"
build
tools=$target/fuzz
install schemathesis==4.32.5 @redocly/cli@2

step "The committed description is linted"
"$tools/node_modules/.bin/redocly" lint --config scripts/fuzz/redocly.yaml docs/openapi.json

step "checkoutd dev"
shop=$work/shop
mkdir -m 711 "$shop"
start_dev CHECKOUTD_RATE_LIMIT_PER_SECOND=0 CHECKOUTD_FAILED_AUTHENTICATIONS_PER_MINUTE=0
say "ready in $seconds s: $api"

# What sessions are made of, which the run leaves in place.
plan=$(api 200 POST /v1/plans/search '{"lookup_key":"plan_pro_monthly","expand":"prices"}')
kept=$(field items.0.id <<<"$plan")
kept+=" $(field items.0.prices.0.id <<<"$plan")"
kept+=" $(api 200 GET /v1/connections | field items.0.id)"
kept+=" $(api 200 GET /v1/customers/external/user_12345 | field id) user_12345"

checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
checks+=,response_schema_conformance,unsupported_method,ignored_auth

# fuzz [OPTION…]
fuzz() {
    (cd "$work" && SCHEMATHESIS_HOOKS=hooks KEPT=$kept PYTHONPATH=$root/scripts/fuzz NO_PROXY='*' \
        "$tools/venv/bin/st" --config-file "$root/scripts/fuzz/schemathesis.toml" run "$api/openapi.json" \
        --header "x-api-key: $key" --no-color --checks "$checks" --workers 2 \
        --suppress-health-check all --request-timeout 45 --warnings off "$@") \
        || fail "schemathesis found what is not described, or a server error"
}

begins=(--phases fuzzing --include-operation-id-regex '^create_(customer|checkout_session)$')
singly=(--phases examples,coverage,fuzzing)
chains=(--phases stateful)
if [ -n "$examples" ]; then
    step "schemathesis, $examples examples of each operation"
    fuzz "${singly[@]}" --max-examples "$examples"
else
    step "schemathesis, for $duration s: what begins the journey, every operation, chains of operations"
    fuzz "${begins[@]}" --max-time $((duration / 5))
    fuzz "${singly[@]}" --max-time $((duration * 2 / 5))
    # A suite of chains ends when an answer is not what it was the last time; within a time, others follow.
    fuzz "${chains[@]}" --max-time $((duration * 2 / 5))
fi

step "It got as far as objects"
# A run that is refused everywhere says little. The demo itself makes one customer.
for path in checkout/sessions customers; do
    made=$(grep -c "http.method=POST http.path=\"/v1/$path\".*http.status=201" "$err" || true)
    say "$made times 201 from POST /v1/$path"
    [ "$made" -gt 1 ] || fail "nothing was made by POST /v1/$path"
done

step "checkoutd dev ends on Ctrl-C"
stop_dev
