# shellcheck shell=bash disable=SC2034,SC2154 # shares its variables with the script that sources it
# Sourced by the scripts that try the built binary: their steps, packages, processes, requests and checks.
# Answers are assigned to variables before they are used: only so does `set -e` see a request that failed.

step() {
    current_step=$*
    printf '\n-- %s\n' "$*"
}

say() { printf '  %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
    exit 1
}

# begin TOOL…: what every script starts with; sets root, python, work and from
begin() {
    root=$PWD
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { echo "$(basename "$0" .sh): $tool was not found" >&2; exit 1; }
    done
    current_step="preparing"
    python=python3
    # Not TMPDIR: a socket's path must be short, and Postgres's account must be able to reach it.
    work=$(mktemp -d "/tmp/checkoutd-$(basename "$0" .sh).XXXXXX")
    chmod 711 "$work"
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    # The service is configured by what the script gives it alone.
    # shellcheck disable=SC2086 # names, which hold no spaces
    unset DATABASE_URL RAZORPAY_BASE_URL ${!CHECKOUTD_@}
    from=$(now)
}

# build: the program; sets target and binary
build() {
    # As `cargo test` builds it: by itself it has fewer features of its dependencies, and all would be built again.
    cargo build --locked --quiet --test it
    target=${CARGO_TARGET_DIR:-target}
    target=$(cd "$target" && pwd)
    binary=$target/debug/checkoutd
}

# install PYPI [NPM]: packages by name and version into $tools/venv and $tools/node_modules; sets python
install() {
    local pypi=$1 npm=${2:-}
    # Which ones are there is written down last.
    if [ "$(cat "$tools/installed" 2>/dev/null)" != "$pypi $npm" ]; then
        python3 -m venv --clear "$tools/venv" || fail "python3 -m venv fails: apt-get install python3-venv"
        # shellcheck disable=SC2086 # several names
        "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check $pypi
        # shellcheck disable=SC2086
        [ -z "$npm" ] || npm install --loglevel=error --no-audit --no-fund --prefix "$tools" $npm
        printf '%s\n' "$pypi $npm" >"$tools/installed"
    fi
    python=$tools/venv/bin/python
}

now() { "$python" -c 'import time; print(time.time())'; }

calculate() { "$python" -c "print(f'{$1:.2f}')"; }

# ---- Checks -----------------------------------------------------------------------------------------

# expect WHAT ACTUAL WANTED
expect() { [ "$2" = "$3" ] || fail "$1: wanted $3, got $2"; }

# expect_like WHAT ACTUAL PATTERN
expect_like() { [[ $2 =~ $3 ]] || fail "$1: wanted a match of $3, got $2"; }

# eventually SECONDS WHAT COMMAND…: until COMMAND succeeds
eventually() {
    local tries=$(($1 * 20)) what=$2
    shift 2
    until "$@"; do
        [ "$tries" -gt 0 ] || fail "timed out: $what"
        tries=$((tries - 1))
        sleep 0.05
    done
}

# ---- JSON and HTTP ----------------------------------------------------------------------------------

# field PATH <JSON: the value at a path such as environments.0.id; fails when there is none
field() {
    "$python" -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key) if isinstance(value, list) else key]
print(value if isinstance(value, str) else json.dumps(value))' "$1"
}

# request STATUS CURL-ARGUMENT…: the answer's body; fails on another status
request() {
    local wanted=$1 answer
    shift
    answer=$(curl -sS --noproxy '*' -H 'Content-Type: application/json' -w '\n%{http_code}' "$@") \
        || fail "curl failed: $*"
    [ "${answer##*$'\n'}" = "$wanted" ] || fail "wanted $wanted from $*, got $answer"
    printf '%s' "${answer%$'\n'*}"
}

# api STATUS METHOD PATH [BODY]: a request to checkoutd with $key
api() { request "$1" -X "$2" -H "x-api-key: $key" "$api$3" ${4+-d "$4"}; }

# webhooks_arrived TYPE: whether the sandbox posted events of this type and got a 2xx for each
webhooks_arrived() {
    request 200 "$sandbox/_sandbox/ledger" | "$python" -c '
import json, sys
sent = [sent["status"] for sent in json.load(sys.stdin)["deliveries"] if sent["event"] == sys.argv[1]]
sys.exit(not sent or set(sent) != {"delivered"})' "$1"
}

# link_status SESSION: what the sandbox says of a session's link
link_status() {
    request 200 "$sandbox/_sandbox/ledger" | "$python" -c '
import json, sys
print(next((link["status"] for link in json.load(sys.stdin)["links"] if link["reference_id"] == sys.argv[1]), "absent"))' "$1"
}

# expect_outcome SESSION-JSON SUBSCRIPTION-FIELD=VALUE INVOICE-… PAYMENT-…: what became of its drafts
expect_outcome() {
    local json=$1 kind id read pair
    shift
    for kind in subscription invoice payment; do
        id=$(field "checkout_${kind}_id" <<<"$json")
        read=$(api 200 GET "/v1/${kind}s/$id")
        pair=$1
        shift
        expect "${pair%%=*} of the $kind" "$(field "${pair%%=*}" <<<"$read")" "${pair#*=}"
    done
}

# ---- Processes --------------------------------------------------------------------------------------

started=()

# start OUT ERR COMMAND…: in the background; its id is in $started_pid
start() {
    local out=$1 err=$2
    shift 2
    "$@" >"$out" 2>"$err" </dev/null &
    started_pid=$!
    started+=("$started_pid")
}

# alive PID…: those that run; a zombie does not
alive() {
    local pid
    for pid in "$@"; do
        case $(ps -o stat= -p "$pid" 2>/dev/null) in
            "" | Z*) ;;
            *) printf '%s ' "$pid" ;;
        esac
    done
}

# descendants PID: its children and theirs
descendants() {
    ps -Ao pid=,ppid= | awk -v root="$1" '
        { parent[$1] = $2 }
        END { for (pid in parent) { up = pid; while (up in parent && up != root) up = parent[up]; if (up == root && pid != root) print pid } }'
}

none_alive() { [ -z "$(alive "$@")" ]; }

# start_dev [NAME=VALUE…]: `checkoutd dev` in $shop; sets $dev, $api, $sandbox, $key, $environment, $seconds
start_dev() {
    local from
    out=$shop/dev.out err=$shop/dev.err
    from=$(now)
    # shellcheck disable=SC2016
    start "$out" "$err" sh -c 'cd "$0" && exec env "$@"' "$shop" \
        CHECKOUTD_BIND=127.0.0.1:0 CHECKOUTD_SANDBOX_BIND=127.0.0.1:0 "$@" "$binary" dev
    dev=$started_pid
    eventually 60 "checkoutd dev prints its commands" dev_is_ready
    seconds=$(calculate "$(now) - $from")
    api=$(printed 'API  ')
    sandbox=$(printed 'Razorpay sandbox')
    key=$(printed 'API key')
    environment=$(printed 'environment')
}

dev_is_ready() {
    [ -n "$(alive "$dev")" ] || fail "checkoutd dev ended: $(tail -n 5 "$err")"
    grep -q '^Ctrl-C stops everything' "$out"
}

# printed LABEL: the value beside a label in what dev printed
printed() { sed -n "s/^  $1  *\([^ ]*\).*/\1/p" "$out"; }

# stop_dev: by Ctrl-C's signal; must exit with 0 and leave nothing behind
stop_dev() {
    local children status=0
    children=$(descendants "$dev")
    kill -INT "$dev"
    eventually 20 "checkoutd dev ends on Ctrl-C" none_alive "$dev"
    wait "$dev" || status=$?
    expect "exit code after Ctrl-C" "$status" 0
    # shellcheck disable=SC2086
    eventually 3 "nothing that dev started is left: $children" none_alive $children
}

clean_up() {
    local status=$? log tries
    trap - EXIT
    if [ "$status" -ne 0 ]; then
        printf '\n%s: FAILED at: %s\n' "$(basename "$0" .sh)" "$current_step" >&2
        for log in "$work"/*/dev.err "$work"/*receiver.err; do
            [ ! -s "$log" ] || { printf -- '---- the end of %s\n' "${log#"$work"/}" && tail -n 15 "$log"; } >&2
        done
    fi
    # Some have ended long ago; what still runs gets ten seconds.
    kill -TERM ${started[@]+"${started[@]}"} 2>/dev/null || true
    for tries in $(seq 200); do
        ! none_alive ${started[@]+"${started[@]}"} || break
        sleep 0.05
    done
    kill -KILL ${started[@]+"${started[@]}"} 2>/dev/null || true
    rm -rf "$work" 2>/dev/null || { sleep 3 && rm -rf "$work"; }
    exit "$status"
}
