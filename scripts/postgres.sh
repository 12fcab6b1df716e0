# Sourced by other scripts. A throw-away Postgres on a Unix socket, as root or not.
#   find_postgres    prints the directory of initdb and postgres; fails when there is none
#   start_postgres   starts a server in a new directory and sets DATABASE_URL
#   stop_postgres    ends it and removes its directory; meant for `trap stop_postgres EXIT`

find_postgres() {
    local dir
    while IFS= read -r dir; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
            printf '%s\n' "$dir"
            return
        fi
    done < <(
        if [ -n "${PG_BIN:-}" ]; then
            printf '%s\n' "$PG_BIN"
            exit
        fi
        tr ':' '\n' <<<"$PATH"
        pg_config --bindir 2>/dev/null || true
        # Newest first.
        printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV
        printf '%s\n' /usr/pgsql-*/bin | sort -rV
        printf '%s\n' /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin | sort -rV
    )
    return 1
}

start_postgres() {
    local bin user as_user=()
    if ! bin=$(find_postgres); then
        echo "Postgres's server programs (initdb, postgres) were not found: apt-get install postgresql, or set PG_BIN" >&2
        return 1
    fi
    # Not TMPDIR: a socket's path must be short, and another account must be able to reach it.
    postgres_dir=$(mktemp -d /tmp/checkoutd.XXXXXX)
    if [ "$(id -u)" -eq 0 ]; then
        user=postgres
        id "$user" >/dev/null 2>&1 || user=nobody
        chown "$user" "$postgres_dir"
        as_user=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
    fi
    # From its own directory, because it may not be allowed into this one.
    (
        cd "$postgres_dir"
        ${as_user[@]+"${as_user[@]}"} "$bin/initdb" -U postgres -A trust -E UTF8 --locale=C -N -D "$postgres_dir/data"
    ) >/dev/null
    (
        cd "$postgres_dir"
        exec ${as_user[@]+"${as_user[@]}"} "$bin/postgres" -D "$postgres_dir/data" -k "$postgres_dir" -p 5432 \
            -c listen_addresses= -c fsync=off
    ) >"$postgres_dir.log" 2>&1 &
    postgres_pid=$!
    until grep -qs ready "$postgres_dir/data/postmaster.pid"; do
        if ! kill -0 "$postgres_pid" 2>/dev/null; then
            echo "Postgres did not start:" >&2
            cat "$postgres_dir.log" >&2
            return 1
        fi
        sleep 0.05
    done
    export DATABASE_URL="postgres:///postgres?host=$postgres_dir&port=5432&user=postgres"
}

stop_postgres() {
    if [ -n "${postgres_pid:-}" ]; then
        kill -INT "$postgres_pid" 2>/dev/null || true
        wait "$postgres_pid" 2>/dev/null || true
    fi
    if [ -n "${postgres_dir:-}" ]; then
        rm -rf "$postgres_dir" "$postgres_dir.log"
    fi
}
