//! The API describes itself: OpenAPI 3.1, generated from the handlers, at `/openapi.json` and, to read, `/docs`.
//!
//! A handler's types say most of it: what [`Caller`](super::Caller), [`Body`](super::Body), [`Query`](super::Query) and
//! [`IdPath`](super::IdPath) take and refuse, and what `Json`, [`Created`](super::Created) and
//! [`Accepted`](super::Accepted) answer. Doc comments of the types and their fields become descriptions. To describe a
//! new operation:
//!
//! 1. derive `schemars::JsonSchema` for its request and response types, with `#[schemars(rename = "…")]` where the
//!    name would be ambiguous (`CreateRequest`), and `#[schemars(with = "Metadata")]` for a map of metadata;
//! 2. route it by [`ApiRouter::api_route`] and [`doc`]: `post_with(create, doc("create_plan", "Create a plan",
//!    &[(409, "the lookup key is taken")]))`. The list has the refusals that the types do not tell;
//! 3. write the snapshot anew: `cargo run -- openapi > docs/openapi.json`.
//!
//! What holds for many operations (the `Idempotency-Key` of every POST, parameters in paths, links from what creates
//! to what takes the id) is added once, in `polish.rs`.

pub mod page;
mod polish;

use std::borrow::Cow;

pub use aide::axum::{
    ApiRouter,
    routing::{delete_with, get_with, post_with, put_with},
};
use aide::{
    OperationInput, OperationOutput,
    axum::routing::ApiMethodDocs,
    generate::{GenContext, in_context},
    openapi::{MediaType, OpenApi, Operation, ReferenceOr, Response, SchemaObject, StatusCode},
    transform::TransformOperation,
};
use axum::Router;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Value, json};

use super::error::ErrorResponse;

/// Describes metadata: see [`metadata_violations`](super::metadata_violations).
pub struct Metadata;

impl JsonSchema for Metadata {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "The merchant's own pairs.",
            "maxProperties": 50,
            "propertyNames": {"minLength": 1, "maxLength": 40},
            "additionalProperties": {"type": "string", "maxLength": 500},
        })
    }
}

/// The schema of a body that has the members of another one, `T`, and needs some of them.
pub fn requiring<T: JsonSchema>(generator: &mut SchemaGenerator, members: &[&str]) -> Schema {
    let mut schema = T::json_schema(generator);
    schema.insert("required".to_owned(), members.into());
    schema
}

/// Declares the body of a create that has the members of an update: `$name`, shown as `$shown`, needs `$required`.
#[macro_export]
macro_rules! define_create_request {
    ($name:ident($members:ty), $shown:literal, $required:expr) => {
        /// The body of a create.
        #[derive(serde::Deserialize)]
        #[serde(transparent)]
        struct $name($members);

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $shown.into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::http::openapi::requiring::<$members>(generator, &$required)
            }
        }
    };
}

/// The schemes' names; either authenticates.
const SCHEMES: [&str; 2] = ["ApiKey", "Bearer"];

/// Names and summarizes an operation, and lists the refusals that its handler's types do not tell: a status and when
/// it is answered.
pub fn doc<'r>(
    id: &'r str,
    summary: &'r str,
    refusals: &'r [(u16, &'r str)],
) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> + use<'r> {
    move |mut operation| {
        let described = operation.inner_mut();
        described.operation_id = Some(id.to_owned());
        described.summary = Some(summary.to_owned());
        in_context(|ctx| {
            for &(status, when) in refusals {
                refuse(ctx, described, status, when);
            }
        });
        operation
    }
}

/// Describes an operation on a path that another route takes requests for: what it reads, what it answers.
pub fn described_only<I: OperationInput, O: OperationOutput>(
    method: &'static str,
    describe: impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_>,
) -> ApiMethodDocs {
    let mut operation = Operation::default();
    in_context(|ctx| {
        I::operation_input(ctx, &mut operation);
        let mut all = O::inferred_responses(ctx, &mut operation);
        all.extend(I::inferred_early_responses(ctx, &mut operation));
        let responses = &mut operation.responses.get_or_insert_default().responses;
        for (status, response) in all {
            if let Some(status) = status {
                responses.insert(StatusCode::Code(status), ReferenceOr::Item(response));
            }
        }
    });
    let _ = describe(TransformOperation::new(&mut operation));
    ApiMethodDocs::new(method, operation)
}

fn refuse(ctx: &mut GenContext, operation: &mut Operation, status: u16, when: &str) {
    let responses = &mut operation.responses.get_or_insert_default().responses;
    responses.insert(StatusCode::Code(status), ReferenceOr::Item(error_response(ctx, when)));
}

/// A status and its answer in the error envelope, as extractors tell them.
pub fn refusal(ctx: &mut GenContext, status: u16, when: &str) -> (Option<u16>, Response) {
    (Some(status), error_response(ctx, when))
}

fn error_response(ctx: &mut GenContext, when: &str) -> Response {
    json_response::<ErrorResponse>(ctx, when)
}

/// An answer with a JSON body of type `T`.
pub fn json_response<T: JsonSchema>(ctx: &mut GenContext, description: &str) -> Response {
    let json_schema = ctx.schema.subschema_for::<T>();
    let body = MediaType {
        schema: Some(SchemaObject { json_schema, example: None, external_docs: None }),
        ..MediaType::default()
    };
    Response {
        description: description.to_owned(),
        content: [("application/json".to_owned(), body)].into_iter().collect(),
        ..Response::default()
    }
}

/// Describes a header that may be sent.
pub fn add_header(operation: &mut Operation, name: &str, description: &str) {
    let header =
        json!({"in": "header", "name": name, "description": description, "schema": {"type": "string"}});
    let header = serde_json::from_value(header).expect("a header parameter as OpenAPI has it");
    operation.parameters.push(ReferenceOr::Item(header));
}

/// Marks an operation as one that needs an API key.
pub fn require_key(operation: &mut Operation) {
    operation.security = SCHEMES.map(|name| [(name.to_owned(), Vec::new())].into_iter().collect()).into();
}

/// To be called before the first route is made: schemas in the dialect of OpenAPI 3.1.
pub fn begin() {
    in_context(|ctx| {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "#/components/schemas/".into();
            settings.meta_schema = None;
        });
        ctx.schema = SchemaGenerator::new(settings);
    });
}

/// The router of what is described.
pub fn into_router<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> Router<S> {
    routes.finish_api(&mut OpenApi::default())
}

/// The description of the routes.
pub fn describe<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> Value {
    let mut api = OpenApi::default();
    let _ = routes.finish_api(&mut api);
    polish::polish(serde_json::to_value(api).expect("an OpenAPI document is JSON: its keys are strings"))
}
