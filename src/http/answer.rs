//! Answers whose type says their status, so that the description of the API cannot be wrong about it.

use aide::{
    OperationOutput,
    generate::GenContext,
    openapi::{Operation, Response},
};
use axum::{Json, http::StatusCode, response::IntoResponse};
use schemars::JsonSchema;
use serde::Serialize;

use super::openapi::json_response;

/// 201 with what was created.
#[derive(Debug)]
pub struct Created<T>(pub T);

/// 202 with what is going to happen.
#[derive(Debug)]
pub struct Accepted<T>(pub T);

/// What was done, in words; the compatible API's answer where there is nothing to show.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Message {
    /// For people.
    pub message: &'static str,
}

macro_rules! with_status {
    ($($name:ident, $status:expr, $description:literal;)*) => {$(
        impl<T: Serialize> IntoResponse for $name<T> {
            fn into_response(self) -> axum::response::Response {
                ($status, Json(self.0)).into_response()
            }
        }

        impl<T: JsonSchema> OperationOutput for $name<T> {
            type Inner = T;

            fn operation_response(ctx: &mut GenContext, _: &mut Operation) -> Option<Response> {
                Some(json_response::<T>(ctx, $description))
            }

            fn inferred_responses(
                ctx: &mut GenContext,
                operation: &mut Operation,
            ) -> Vec<(Option<u16>, Response)> {
                let response = Self::operation_response(ctx, operation);
                response.into_iter().map(|response| (Some($status.as_u16()), response)).collect()
            }
        }
    )*};
}

with_status! {
    Created, StatusCode::CREATED, "Created.";
    Accepted, StatusCode::ACCEPTED, "Accepted: it happens in the background.";
}
