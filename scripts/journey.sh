#!/usr/bin/env bash
# The journey of a merchant, by the built binary and as a reader would try it: `checkoutd dev`, the commands
# it prints, the implementation guide's own commands and webhook handler, paying, not paying, crashing.
# Everything is on loopback and in a temporary directory. Needs cargo, curl, python3 and node; a Python and a
# Node package are installed under target/ on the first run.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/journey/lib.sh

begin cargo curl python3 node npm

step "Build, and the tools to check with"
build
tools=$target/journey
install standardwebhooks==1.1.0 express@5.3.0
built=$(now)

step "checkoutd dev, for the first time"
shop=$work/shop
mkdir -m 711 "$shop"
start_dev
cold=$seconds
say "ready in $cold s: $api"
first_key=$key first_environment=$environment

step "The guide's webhook handler, run by Node"
journal=$work/deliveries.jsonl
touch "$journal"
start "$work/receiver.port" "$work/receiver.err" \
    env NODE_PATH="$tools/node_modules" node "$root/scripts/journey/receiver.cjs" "$journal"
eventually 20 "the receiver listens" test -s "$work/receiver.port"
receiver=127.0.0.1:$(cat "$work/receiver.port")
say "http://$receiver/webhooks"

# deliveries URL SECRET SESSION TYPE…
deliveries() { "$python" scripts/journey/deliveries.py "$journal" "$@"; }

step "The printed commands, pasted into a shell"
sed -n '/^Paste these/,/^Ctrl-C/p' "$out" | sed -e '1d;$d' -e "s/127\.0\.0\.1:3000/$receiver/g" >"$work/pasted.sh"
# A reader sees only bodies; the status of each answer is written down beside.
mkdir "$work/bin"
cat >"$work/bin/curl" <<SHIM
#!/bin/sh
exec $(command -v curl) --noproxy '*' -w '%{stderr}%{http_code}\n' "\$@" 2>>"$work/statuses"
SHIM
chmod +x "$work/bin/curl"

# run_pasted FILE: runs commands in a shell of their own; what they print; their statuses are in $work/statuses
run_pasted() {
    : >"$work/statuses"
    PATH=$work/bin:$PATH bash -eu -o pipefail "$1"
}
run_pasted "$work/pasted.sh" >"$work/pasted.out" || fail "the commands fail: $(cat "$work/statuses")"
expect "the four answers" "$(xargs <"$work/statuses")" "201 201 200 200"
session=$(sed -n 2p "$work/pasted.out")
id=$(field id <<<"$session")
expect_like "session id" "$id" '^chk_[0-9A-Z]{26}$'
expect "after 201" "$(field checkout_status <<<"$session")" pending
secret=$(sed -n 1p "$work/pasted.out" | field secret)
expect_like "signing secret" "$secret" '^whsec_'
session=$(sed -n 4p "$work/pasted.out")
expect "after paying" "$(field checkout_status <<<"$session")" completed
expect_outcome "$session" subscription_status=active invoice_status=FINALIZED payment_status=SUCCEEDED
expect_outcome "$session" subscription_status=active "invoice_number=INV-$(date -u +%Y%m)-00001" currency=inr
say "$id is completed: subscription active, invoice FINALIZED, payment SUCCEEDED"
deliveries /webhooks "$secret" "$id" checkout.session.initiated checkout.session.completed

step "checkoutd listen and trigger, in the folder of dev"
# In the folder, without a flag that names the service.
in_shop() { (cd "$shop" && exec "$binary" "$@"); }
listening=$work/listen.out
start "$listening" "$work/listen-receiver.err" sh -c 'cd "$0" && exec "$@"' "$shop" \
    "$binary" listen --forward-to "http://$receiver/webhooks?listen"
listener=$started_pid
eventually 20 "listen is ready" grep -q '^Ready' "$listening"
secret=$(sed -n 's/^Signing secret: //p' "$listening")
expect_like "its signing secret" "$secret" '^whsec_'
for event in completed failed expired; do
    in_shop trigger "checkout.session.$event" >"$work/trigger.out" || fail "trigger fails: $(cat "$work/trigger.out")"
    id=$(sed -n 's/^session  \(chk_[0-9A-Z]*\) .*/\1/p' "$work/trigger.out")
    expect_like "its session" "$id" '^chk_[0-9A-Z]{26}$'
    session=$(api 200 GET "/v1/checkout/sessions/$id")
    expect "what became of it" "$(field checkout_status <<<"$session")" "$event"
    deliveries "/webhooks?listen" "$secret" "$id" checkout.session.initiated "checkout.session.$event"
done
in_shop trigger refund.succeeded >"$work/trigger.out" || fail "trigger fails: $(cat "$work/trigger.out")"
say "$(tail -n 1 "$work/trigger.out")"
kill -INT "$listener"
eventually 20 "listen ends on Ctrl-C" none_alive "$listener"
status=0
wait "$listener" || status=$?
expect "exit code after Ctrl-C" "$status" 0
say "$(tail -n 1 "$listening")"

step "The guide's commands, for a new tenant"
postgres=$shop/.checkoutd/postgres
[ -S "$postgres/.s.PGSQL.5432" ] || fail "no Postgres at $postgres"
tenant=$(DATABASE_URL="postgres:///checkoutd?host=$postgres&port=5432&user=postgres" \
    CHECKOUTD_ENCRYPTION_KEY=$(cat "$shop/.checkoutd/encryption.key") CHECKOUTD_PUBLIC_URL=$api \
    "$binary" tenant create --name Guide --json)
expect "the first environment" "$(field environments.0.mode <<<"$tenant")" test
key=$(field environments.0.api_key <<<"$tenant")
environment=$(field environments.0.id <<<"$tenant")
webhook_url=$(field environments.0.webhook_url <<<"$tenant")
secrets='"key_id":"rzp_test_journey","KEY":"journey-key-secret","webhook_secret":"journey-webhook-secret"'
request 200 -X PUT "$sandbox/_sandbox/accounts" -d "{${secrets/KEY/key_secret},\"webhook_url\":\"$webhook_url\"}" >"$work/answer"
api 201 POST /v1/connections \
    "{\"name\":\"Sandbox\",\"provider_type\":\"razorpay\",\"encrypted_secret_data\":{${secrets/KEY/secret_key}}}" >"$work/answer"
plan=$(api 201 POST /v1/plans '{"name":"Pro","lookup_key":"plan_pro_monthly"}')
api 201 POST /v1/prices "{\"entity_type\":\"PLAN\",\"entity_id\":\"$(field id <<<"$plan")\",\"type\":\"FIXED\",
    \"billing_model\":\"FLAT_FEE\",\"billing_period\":\"MONTHLY\",\"billing_period_count\":1,\"currency\":\"INR\",
    \"amount\":\"499.00\",\"invoice_cadence\":\"ADVANCE\",\"price_unit_type\":\"FIAT\"}" >"$work/answer"
endpoint=$(api 201 POST /v1/webhook_endpoints "{\"url\":\"http://$receiver/webhooks?tenant=guide\"}")
guide_secret=$(field secret <<<"$endpoint")

# guide STATUS FILE: one of the guide's commands, with only host, key and environment replaced
guide() {
    sed -e "s|https://<HOST>|$api|; s|<API_KEY>|$key|; s|<ENVIRONMENT_ID>|$environment|" \
        "scripts/journey/guide/$2" >"$work/guide.sh"
    run_pasted "$work/guide.sh"
    expect "$2" "$(cat "$work/statuses")" "$1"
}
guide 201 1-customer.sh >"$work/answer"
session=$(guide 201 2-session.sh)
id=$(field id <<<"$session")
expect "after 201" "$(field checkout_status <<<"$session")" pending
say "201 for the customer, 201 for $id"
again=$(guide 409 2-session.sh)
expect "the same again" "$(field code <<<"$again")" already_exists
expect "details" "$(field details.idempotency_key <<<"$again") $(field details.checkout_session_id <<<"$again")" "order_1 $id"
# Nothing but how fresh the answer is may differ.
fresh() { "$python" -c 'import json, sys; print(json.dumps({k: v for k, v in json.load(sys.stdin).items() if k not in ("stale", "next_poll_after_ms")}, sort_keys=True))'; }
expect "the whole open session" "$(field details.checkout_session <<<"$again" | fresh)" "$(fresh <<<"$session")"
say "409 with the whole open session for the same again"

step "Paying on the page, as a browser does"
page=$(field payment_action.url <<<"$session")
"$python" scripts/journey/pay_page.py "$page" failure@razorpay >"$work/hops"
expect_like "after a failed try" "$(tail -n 1 "$work/hops")" "^200 $page\?failed=pay_"
"$python" scripts/journey/pay_page.py "$page" success@razorpay >"$work/hops"
expect "the way back" "$(tail -n 2 "$work/hops" | sed 's/?razorpay.*//' | xargs)" \
    "303 $api/return/$environment/$id -> https://app.example.com/welcome?session_id=$id"
session=$(api 200 GET "/v1/checkout/sessions/$id")
expect "after paying" "$(field checkout_status <<<"$session")" completed
expect_outcome "$session" subscription_status=active "invoice_number=INV-$(date -u +%Y%m)-00001" payment_status=SUCCEEDED
eventually 10 "Razorpay's webhooks arrive" webhooks_arrived payment_link.paid
say "failed once, then paid: 303 to https://app.example.com/welcome?session_id=$id"
deliveries "/webhooks?tenant=guide" "$guide_secret" "$id" checkout.session.initiated checkout.session.completed
guide 409 1-customer.sh >"$work/answer"
guide 201 2-session.sh >"$work/answer"
say "the key is free again: 201 for the same command"

step "Ctrl-C, and the next start, where the port is taken"
stop_dev
start_dev "CHECKOUTD_BIND=$receiver"
warm=$seconds
say "stopped with exit code 0, nothing left; ready again in $warm s"
expect "the API key of the first start" "$key" "$first_key"
expect "the environment of the first start" "$environment" "$first_environment"
grep -q "^$receiver is taken: the API is on ${api#http://}$" "$out" || fail "dev does not say that the port is taken"

step "kill -9 while a session is pending"
order='{"customer_external_id":"user_12345","action":"create_subscription","payment_provider":"razorpay",
    "configuration":{"create_subscription_params":{"plan_id":"plan_pro_monthly","currency":"INR","billing_period":"monthly"}}}'
session=$(api 201 POST /v1/checkout/sessions "$order")
id=$(field id <<<"$session")
children=$(descendants "$dev")
[ "$(wc -w <<<"$children")" -ge 3 ] || fail "Postgres is not among the processes of dev: $children"
killed=$(now)
kill -KILL "$dev"
wait "$dev" 2>/dev/null || true
# shellcheck disable=SC2086
eventually 3 "Postgres ends with checkoutd: $children" none_alive $children
say "Postgres ended $(calculate "$(now) - $killed") s after checkoutd"

step "The next start, with three seconds to pay"
start_dev CHECKOUTD_SESSION_TTL_SECONDS=3
say "ready after the crash in $seconds s"
found=$(api 200 GET "/v1/checkout/sessions/$id")
for name in checkout_status amount expires_at created_at checkout_invoice_id; do
    expect "$name after the crash" "$(field $name <<<"$found")" "$(field $name <<<"$session")"
done
say "$id is $(field checkout_status <<<"$found") as before"

step "Not paying"
endpoint=$(api 201 POST /v1/webhook_endpoints "{\"url\":\"http://$receiver/webhooks?unpaid\"}")
session=$(api 201 POST /v1/checkout/sessions "$order")
id=$(field id <<<"$session")
expect "its link at first" "$(link_status "$id")" created
# Nobody reads the session meanwhile: it ends by itself.
deliveries "/webhooks?unpaid" "$(field secret <<<"$endpoint")" "$id" checkout.session.initiated checkout.session.expired
session=$(api 200 GET "/v1/checkout/sessions/$id")
expect "after its deadline" "$(field checkout_status <<<"$session")" expired
expect "its link at the sandbox" "$(link_status "$id")" cancelled
expect_outcome "$session" status=archived status=archived status=archived
lag=$("$python" -c '
import datetime, sys
updated, deadline = (datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) for text in sys.argv[1:])
print((updated - deadline).total_seconds())' "$(field updated_at <<<"$session")" "$(field expires_at <<<"$session")")
"$python" -c "import sys; sys.exit(not 0 <= $lag <= 2)" || fail "expired $lag s after its deadline; at most 2 are promised"
say "expired $lag s after its deadline; link cancelled; subscription, invoice and payment archived"

step "Ctrl-C"
stop_dev
finished=$(now)
say "exit code 0, nothing left"
printf '\njourney: passed. First start %s s, next start %s s, expiry lag %s s; %s s in all, %s s of it build and tools\n' \
    "$cold" "$warm" "$lag" "$(calculate "$finished - $from")" "$(calculate "$built - $from")"
