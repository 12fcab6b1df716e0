//! Real servers, each in a directory of its own. They pass as root and as any other account.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::process::Command;

use sqlx::{Connection, PgConnection};

use super::*;

/// A directory that is removed at the end, shut to others as a temporary directory is.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("checkoutd-test-{}-{name}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        Self(dir.canonicalize().unwrap())
    }

    fn options(&self) -> Options {
        Options { dir: self.0.clone(), durable: false, pg_bin: None }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn connect(server: &Server) -> PgConnection {
    PgConnection::connect(&server.url("postgres")).await.unwrap()
}

async fn execute(connection: &mut PgConnection, sql: &'static str) {
    sqlx::query(sql).execute(connection).await.unwrap();
}

async fn select(connection: &mut PgConnection, sql: &'static str) -> String {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

fn server_pid(dir: &Path) -> u32 {
    let file = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

/// The server's end, as its client sees it: the statement fails long before its own end.
async fn wait_for_its_end(mut connection: PgConnection) {
    let outcome = sqlx::query("select pg_sleep(20)").execute(&mut connection).await;
    assert!(outcome.is_err(), "the server lives on");
}

#[tokio::test]
async fn a_new_server_answers_and_a_restarted_one_has_kept_its_data() {
    let dir = TempDir::new("restart");

    let server = start(dir.options()).await.unwrap();
    let mut connection = connect(&server).await;
    execute(&mut connection, "create table kept as select 'yes' as answer").await;
    let first = server_pid(&dir.0);
    server.stop().await.unwrap();
    assert!(!dir.0.join("data/postmaster.pid").exists(), "stop returned before the server's end");

    let server = start(dir.options()).await.unwrap();
    assert_ne!(server_pid(&dir.0), first);
    assert_eq!(select(&mut connect(&server).await, "select answer from kept").await, "yes");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn only_a_durable_server_waits_for_the_disk() {
    let dir = TempDir::new("durable");
    for (durable, fsync) in [(true, "on"), (false, "off")] {
        let server = start(Options { durable, ..dir.options() }).await.unwrap();
        let mut connection = connect(&server).await;
        for setting in ["show fsync", "show synchronous_commit", "show full_page_writes"] {
            assert_eq!(select(&mut connection, setting).await, fsync, "{setting}");
        }
        assert_eq!(select(&mut connection, "show listen_addresses").await, "");
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_server_ends_and_the_next_start_does_not_join_the_dying_one() {
    let dir = TempDir::new("dropped");
    let server = start(dir.options()).await.unwrap();
    let first = server_pid(&dir.0);
    let connection = connect(&server).await;
    drop(server);
    let next = start(dir.options()).await.unwrap();
    wait_for_its_end(connection).await;
    assert_ne!(server_pid(&dir.0), first);
    assert_eq!(select(&mut connect(&next).await, "select 'alive'").await, "alive");
    next.stop().await.unwrap();
}

#[tokio::test]
async fn two_starters_share_one_server_which_ends_with_its_owner() {
    let dir = TempDir::new("two");
    let (one, two) = tokio::join!(start(dir.options()), start(dir.options()));
    let (one, two) = (one.unwrap(), two.unwrap());
    let (owner, guest) = if one.owned.is_some() { (one, two) } else { (two, one) };
    assert!(owner.owned.is_some() && guest.owned.is_none());

    execute(&mut connect(&owner).await, "create table shared as select 'yes' as answer").await;
    let url = guest.url("postgres");
    guest.stop().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.expect("the guest must not stop it");
    assert_eq!(select(&mut connection, "select answer from shared").await, "yes");

    owner.stop().await.unwrap();
    wait_for_its_end(connection).await;
}

const OWNED_DIR: &str = "CHECKOUTD_TEST_OWNED_DIR";

/// Not a test: the process that [`a_killed_owner_leaves_no_server`] kills.
#[tokio::test]
#[ignore = "the other half of a_killed_owner_leaves_no_server"]
async fn owner_to_be_killed() {
    #[expect(clippy::disallowed_methods, reason = "how the two halves of the test speak")]
    let dir = std::env::var_os(OWNED_DIR);
    let Some(dir) = dir else { return };
    let server = start(Options { dir: dir.into(), durable: false, pg_bin: None }).await.unwrap();
    println!("\n{}", server.url("postgres"));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_owner_leaves_no_server() {
    let dir = TempDir::new("killed");
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "db::embedded::tests::owner_to_be_killed", "--ignored", "--nocapture"])
        .env(OWNED_DIR, &dir.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.find(|line| line.starts_with("postgres:")).unwrap();
    let connection = PgConnection::connect(&url).await.unwrap();

    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_for_its_end(connection).await;

    // Nobody is left who could be joined, so this one starts its own.
    let server = start(dir.options()).await.unwrap();
    assert!(server.owned.is_some());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_orphan_without_its_supervisor_is_replaced() {
    let dir = TempDir::new("orphan");
    let mut server = start(dir.options()).await.unwrap();
    let connection = connect(&server).await;
    let first = server_pid(&dir.0);
    let owned = server.owned.as_mut().unwrap();
    let supervisor = owned.supervisor.id().unwrap();
    let watcher = children(supervisor).into_iter().find(|pid| *pid != first).unwrap();
    for shell in [watcher, supervisor] {
        assert!(signal("-KILL", shell).await.unwrap());
    }
    drop(server);

    let next = start(dir.options()).await.unwrap();
    wait_for_its_end(connection).await;
    assert_ne!(server_pid(&dir.0), first);
    next.stop().await.unwrap();
}

fn children(parent: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| {
            let (pid, ppid) = line.trim().split_once(' ')?;
            (ppid.trim().parse() == Ok(parent)).then(|| pid.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn what_an_interrupted_initdb_left_is_no_obstacle() {
    let dir = TempDir::new("interrupted");
    let root = dir.0.join("server");
    let options = Options { dir: root.clone(), ..dir.options() };
    let place = Place::prepare(&root).await.unwrap();
    fs::write(place.root.join(LOCK), "").unwrap();
    let unfinished = place.unfinished("1-0");
    fs::create_dir_all(unfinished.join("base")).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();

    let server = start(options).await.unwrap();
    assert_eq!(select(&mut connect(&server).await, "select 'alive'").await, "alive");
    assert!(!unfinished.exists());
    server.stop().await.unwrap();
    fs::remove_dir_all(place.root).unwrap();
}

#[tokio::test]
async fn a_path_too_long_or_unreachable_or_odd_still_gets_a_server() {
    let dir = TempDir::new("shut");
    let root = dir.0.join(format!("it's & {}", "long".repeat(30)));
    let server = start(Options { dir: root.clone(), ..dir.options() }).await.unwrap();
    let mut connection = connect(&server).await;
    assert_eq!(select(&mut connection, "select 'alive'").await, "alive");
    assert_ne!(server.socket_dir, root);
    server.stop().await.unwrap();

    let place = Place::prepare(&root).await.unwrap();
    fs::remove_dir_all(&place.socket_dir).unwrap();
    let _ = fs::remove_dir_all(&place.root);
}

#[tokio::test]
async fn missing_programs_are_answered_with_the_packages_to_install() {
    let dir = TempDir::new("missing");
    let options = Options { pg_bin: Some("/nonexistent/bin".into()), ..dir.options() };
    let text = start(options).await.unwrap_err().to_string();
    for part in [
        "not found in PG_BIN=/nonexistent/bin",
        "apt-get install postgresql\n",
        "dnf install postgresql-server\n",
        "brew install postgresql@17\n",
        "set PG_BIN",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[tokio::test]
async fn data_of_another_major_version_is_named_and_left_alone() {
    let dir = TempDir::new("version");
    start(dir.options()).await.unwrap().stop().await.unwrap();
    let version = dir.0.join("data/PG_VERSION");
    fs::write(&version, "9\n").unwrap();
    let error = start(dir.options()).await.unwrap_err();
    assert!(matches!(error, Error::OtherVersion { data: 9, .. }), "{error}");
    assert!(error.to_string().contains("was written by Postgres 9, but only 1"), "{error}");
    assert_eq!(fs::read_to_string(version).unwrap(), "9\n");
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_reported_with_its_log() {
    let dir = TempDir::new("broken");
    start(dir.options()).await.unwrap().stop().await.unwrap();
    fs::write(dir.0.join("data/postgresql.conf"), "no_such_setting = 1\n").unwrap();
    let text = start(dir.options()).await.unwrap_err().to_string();
    assert!(text.contains("no_such_setting"), "{text}");
}

#[tokio::test]
async fn a_failing_initdb_is_reported_and_leaves_no_data() {
    let programs = TempDir::new("initdb-programs");
    let executable = || fs::Permissions::from_mode(0o755);
    fs::set_permissions(&programs.0, executable()).unwrap();
    for (program, script) in [
        ("initdb", "#!/bin/sh\necho 'no space left' >&2; exit 1\n"),
        ("postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 17.0'\n"),
    ] {
        fs::write(programs.0.join(program), script).unwrap();
        fs::set_permissions(programs.0.join(program), executable()).unwrap();
    }
    let dir = TempDir::new("initdb");
    let error = start(Options { pg_bin: Some(programs.0.clone()), ..dir.options() }).await.unwrap_err();
    assert_eq!(error.to_string(), "initdb failed:\nno space left\n");
    assert!(!dir.0.join("data").exists());
}

#[tokio::test]
async fn a_directory_with_other_files_is_refused_untouched() {
    let dir = TempDir::new("foreign");
    fs::write(dir.0.join("thesis.tex"), "").unwrap();
    let error = start(dir.options()).await.unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1);
}
