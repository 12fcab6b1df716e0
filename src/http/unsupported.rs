//! Operations of the compatible API that this service does not have. Each answers 501 by its own name: a 404 or 405
//! could mean that an object is missing, or that the path is mistyped.
//!
//! The table is a text beside this file, because scripts/sdk compares it with the SDK. An operation that gets a
//! handler leaves the table; the router refuses to be built from both.

use axum::{Router, routing::on};

use super::{ApiError, Caller};
use crate::app::App;

const TABLE: &str = include_str!("unsupported.txt");

/// Answered by the handler of the wildcard below it, beside which no other route can stand.
const BY_EXTERNAL_ID: &str = "/customers/external/";

/// One row: method, path and the SDK's name, `resource.operation`.
fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    })
}

/// Routes under `/v1`; as all others they are for callers with a key.
pub fn router() -> Router<App> {
    let rows = rows().filter(|(_, path, _)| !path.starts_with(BY_EXTERNAL_ID));
    rows.fold(Router::new(), |router, (method, path, name)| {
        let answer = move |_: Caller| async move { ApiError::operation_not_supported(name) };
        router.route(path, on(filter(method), answer))
    })
}

fn filter(method: &str) -> axum::routing::MethodFilter {
    use axum::routing::MethodFilter;
    match method {
        "GET" => MethodFilter::GET,
        "PUT" => MethodFilter::PUT,
        "DELETE" => MethodFilter::DELETE,
        // A unit test allows these four.
        _ => MethodFilter::POST,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_row_is_one_operation() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), rows().count());
        let (mut names, mut routes) = (HashSet::new(), HashSet::new());
        for (method, path, name) in rows() {
            assert!(["GET", "POST", "PUT", "DELETE"].contains(&method), "{method} {path}");
            assert!(names.insert(name), "{name} is there twice");
            assert!(routes.insert((method, path)), "{method} {path} is there twice");
        }
    }

    #[test]
    fn the_table_is_a_router() {
        // A route that stands beside another by chance is refused here; one that has a handler, by http::router.
        let _ = router();
    }
}
