#!/usr/bin/env bash
# Do merchants' tools verify what checkoutd sends? The packages `standardwebhooks` and `svix` of PyPI and
# `standardwebhooks` of npm verify real deliveries of `checkoutd dev`, before, during and after the rotation of
# a secret; the five programs of docs/verify-webhooks.md do so too, and give the published vectors' results.
# Everything is on loopback and in a temporary directory. Needs cargo, curl, python3 and node; the packages are
# installed under target/ on the first run. Go, Ruby and PHP take part where they are installed; languages named
# as arguments must be: scripts/verify-webhooks.sh Go Ruby PHP
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/journey/lib.sh
source scripts/postgres.sh

begin cargo curl python3 node npm

step "Build, and the packages to check with"
build
built=$(now)
tools=$target/verify-webhooks
pypi="standardwebhooks==1.1.0 svix==2.9.1"
npm=standardwebhooks@1.1.1
install "$pypi" "$npm"
export NODE_PATH=$tools/node_modules PYTHONDONTWRITEBYTECODE=1
ready=$(now)
say "PyPI: $pypi; npm: $npm"

step "The page and the published vectors"
"$python" scripts/verify-webhooks/write_vectors.py --check
"$python" scripts/verify-webhooks/page.py
"$python" scripts/verify-webhooks/vectors.py "$tools" "$@"

step "checkoutd dev, and a receiver for each package"
shop=$work/shop
mkdir -m 711 "$shop"
# shellcheck disable=SC2119
start_dev
journals=$work/journals secrets=$work/secrets.json # a journal for each process
mkdir "$journals"
touch "$journals/python" "$journals/node"
echo '{}' >"$secrets"
start "$work/python.port" "$work/python-receiver.err" \
    "$python" "$root/scripts/verify-webhooks/receiver.py" "$journals/python" "$secrets"
start "$work/node.port" "$work/node-receiver.err" \
    node "$root/scripts/verify-webhooks/receiver.cjs" "$journals/node" "$secrets"
eventually 20 "the receivers listen" test -s "$work/python.port" -a -s "$work/node.port"

# know PATH NAME SECRET: the receiver at this path tries this secret too
know() {
    "$python" -c '
import json, os, sys
file, path, name, secret = sys.argv[1:]
secrets = json.load(open(file))
secrets.setdefault(path, {})[name] = secret
json.dump(secrets, open(file + ".new", "w"))
os.replace(file + ".new", file)' "$secrets" "$1" "$2" "$3"
}

paths=(/pypi-standardwebhooks /pypi-svix /npm-standardwebhooks)
declare -A port=([/pypi-standardwebhooks]=python [/pypi-svix]=python [/npm-standardwebhooks]=node) endpoints=()
for path in "${paths[@]}"; do
    answer=$(api 201 POST /v1/webhook_endpoints "{\"url\":\"http://127.0.0.1:$(cat "$work/${port[$path]}.port")$path\"}")
    endpoints[$path]=$(field id <<<"$answer")
    first=$(field secret <<<"$answer")
    expect_like "signing secret" "$first" '^whsec_[A-Za-z0-9+/]{43}=$'
    know "$path" first "$first"
done
# Another endpoint's secret; it gets nothing.
answer=$(api 201 POST /v1/webhook_endpoints '{"url":"http://127.0.0.1:9/","enabled":false}')
wrong=$(field secret <<<"$answer")
for path in "${paths[@]}"; do
    know "$path" "another endpoint's" "$wrong"
done
say "${#paths[@]} endpoints, a secret each"

# rotate NAME: gives each endpoint a new secret
rotate() {
    local path answer secret
    for path in "${paths[@]}"; do
        answer=$(api 200 POST "/v1/webhook_endpoints/${endpoints[$path]}/secret/rotate")
        secret=$(field secret <<<"$answer")
        expect_like "the $1 signing secret" "$secret" '^whsec_[A-Za-z0-9+/]{43}=$'
        know "$path" "$1" "$secret"
    done
}

# delivered ENDPOINT COUNT: whether that many deliveries are listed, all of them delivered
delivered() {
    local answer
    answer=$(api 200 GET "/v1/webhook_endpoints/$1/deliveries?limit=100")
    "$python" -c '
import json, sys
found = [delivery["status"] for delivery in json.loads(sys.argv[1])["items"]]
sys.exit(found != ["delivered"] * int(sys.argv[2]))' "$answer" "$2"
}

sessions=0
# pay_and_check SIGNATURES NAME=VERDICT…: the events of a session that is paid, at each of the packages
pay_and_check() {
    local session id
    session=$(api 201 POST /v1/checkout/sessions '{"customer_external_id":"user_12345","action":"create_subscription",
        "payment_provider":"razorpay","configuration":{"create_subscription_params":{"plan_id":"plan_pro_monthly",
        "currency":"INR","billing_period":"monthly"}}}')
    id=$(field id <<<"$session")
    request 200 -X POST "$sandbox/_sandbox/links/$id/pay" -d '{}' >"$work/answer"
    "$python" scripts/verify-webhooks/deliveries.py \
        "$tools" "$journals" "$secrets" "$id" "$1" "another endpoint's=refused" "${@:2}"
    sessions=$((sessions + 1))
}

step "Before rotation"
pay_and_check 1 first=verifies

step "During rotation: the old secret and the new one"
rotate second
pay_and_check 2 first=verifies second=verifies

step "After: rotating again ends the first secret at once"
rotate third
pay_and_check 2 first=refused second=verifies third=verifies

step "After: the second secret's 24 hours are over"
# Their end is moved to now, in the database; nothing else is.
psql=$(find_postgres)/psql
[ -x "$psql" ] || psql=psql
PGOPTIONS='' "$psql" --no-psqlrc --quiet --set ON_ERROR_STOP=1 -h "$shop/.checkoutd/postgres" -p 5432 -U postgres -d checkoutd \
    -c "update webhook_endpoints set previous_secret_expires_at = clock_timestamp() where previous_secret_expires_at is not null"
pay_and_check 1 first=refused second=refused third=verifies

step "What checkoutd says of it"
for path in "${paths[@]}"; do
    eventually 10 "each delivery to $path is delivered" delivered "${endpoints[$path]}" $((sessions * 2))
done
say "$((sessions * 2 * ${#paths[@]})) deliveries, all delivered"

step "Ctrl-C"
stop_dev
finished=$(now)
printf '\nverify-webhooks: passed. %s s; before it %s s of build, %s s for the packages\n' "$(calculate "$finished - $ready")" \
    "$(calculate "$built - $from")" "$(calculate "$ready - $built")"
