//! Extractors: parse, don't validate later. Each rejects with an [`ApiError`] that names the field.

use std::{str::FromStr, time::Duration};

use aide::{
    OperationInput,
    generate::GenContext,
    openapi::{MediaType, Operation, RequestBody, Response, SchemaObject},
    operation::{ParamLocation, add_parameters, parameters_from_schema, set_body},
};
use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ApiError, openapi::refusal};

/// The largest body of the API.
pub(super) const BODY_LIMIT_BYTES: usize = 64 * 1024;
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body of at most 64 KiB as `T`. Unknown fields are ignored; an empty body reads as `{}`.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = read_body(request, BODY_LIMIT_BYTES).await?;
        if bytes.is_empty() {
            return from_value(Value::Object(serde_json::Map::new())).map(Self);
        }
        if !is_json {
            return Err(ApiError::unsupported_media_type());
        }
        // serde_json refuses depth over 128 and lone surrogates here; NUL, which Postgres cannot store, below.
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
            ApiError::invalid_request("malformed_json", format!("the body is not valid JSON: {error}"))
        })?;
        // serde would read an array as a struct, member by position.
        if !value.is_object() {
            return Err(ApiError::validation("body", "must be a JSON object"));
        }
        if let Some(field) = find_nul(&value) {
            return Err(ApiError::validation(&field, "must not contain the character U+0000"));
        }
        from_value(value).map(Self)
    }
}

impl<T: JsonSchema> OperationInput for Body<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let json_schema = ctx.schema.subschema_for::<T>();
        let required = ctx.resolve_schema(&json_schema).get("required").is_some()
            || json_schema.get("required").is_some();
        let schema = Some(SchemaObject { json_schema, example: None, external_docs: None });
        let content = MediaType { schema, ..MediaType::default() };
        let body = RequestBody {
            content: [("application/json".to_owned(), content)].into_iter().collect(),
            required,
            ..RequestBody::default()
        };
        set_body(ctx, operation, body);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<u16>, Response)> {
        vec![
            refusal(ctx, 400, "the request breaks a rule; `details` names each field"),
            refusal(ctx, 408, "the body did not arrive in time"),
            refusal(ctx, 413, "the body is too large"),
            refusal(ctx, 415, "the body is not `application/json`"),
        ]
    }
}

/// Reads a whole body of at most `limit_bytes` within ten seconds; 413 or 408 else.
pub async fn read_body(request: Request, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit_bytes) {
        return Err(ApiError::too_large(limit_bytes));
    }
    #[expect(clippy::disallowed_methods, reason = "reads the client's body; no connection is held")]
    let read = tokio::time::timeout(BODY_READ_TIMEOUT, to_bytes(request.into_body(), limit_bytes)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error);
            if cause.is_some_and(|cause| cause.to_string().contains("length limit")) {
                Err(ApiError::too_large(limit_bytes))
            } else {
                Err(ApiError::invalid_request("incomplete_body", "the body could not be read to its end"))
            }
        }
        Err(_) => Err(ApiError::body_timeout()),
    }
}

/// No content type at all is taken as JSON: some clients omit it.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence =
        value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        wrong_shape(&path, &error.into_inner().to_string())
    })
}

/// Turns serde's wording into one that names the field.
fn wrong_shape(path: &str, reason: &str) -> ApiError {
    if let Some(field) = reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let field = if path == "." { field.to_owned() } else { format!("{path}.{field}") };
        return ApiError::validation(&field, "is required");
    }
    if let Some(field) = reason.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`')) {
        return ApiError::validation(field, "must be given once");
    }
    let field = if path == "." { "body" } else { path };
    ApiError::validation(field, &format!("is not acceptable: {reason}"))
}

/// The path of the first text or name in `value` that contains U+0000, which Postgres cannot store.
pub fn find_nul(value: &Value) -> Option<String> {
    find_nul_below(value, "")
}

fn find_nul_below(value: &Value, path: &str) -> Option<String> {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::String(text) => {
            text.contains('\0').then(|| if path.is_empty() { "body".into() } else { path.to_owned() })
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| find_nul_below(item, &join(&index.to_string())))
        }
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            if name.contains('\0') {
                Some(join(&name.replace('\0', "\\u0000")))
            } else {
                find_nul_below(member, &join(name))
            }
        }),
        _ => None,
    }
}

/// The query string as `T`. Unknown parameters are ignored.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("%00") {
            return Err(ApiError::validation("query", "must not contain the character U+0000"));
        }
        let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()));
        serde_path_to_error::deserialize(pairs)
            .map_err(|error| wrong_shape(&error.path().to_string(), &error.inner().to_string()))
            .map(Self)
    }
}

impl<T: JsonSchema> OperationInput for Query<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let mut schema = T::json_schema(&mut ctx.schema);
        let properties =
            schema.as_object_mut().and_then(|schema| schema.get_mut("properties")?.as_object_mut());
        if let Some(properties) = properties {
            // What nests has no form in a query: sorting is by one field, and `filters` are for searches.
            properties.remove("filters");
            if let Some(sort) = properties.get_mut("sort") {
                *sort = serde_json::json!({"type": "string", "description": "A field's name."});
            }
        }
        let parameters = parameters_from_schema(ctx, schema, ParamLocation::Query);
        add_parameters(ctx, operation, parameters);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<u16>, Response)> {
        vec![refusal(ctx, 400, "a parameter breaks a rule; `details` names each")]
    }
}

/// The id in the path. What cannot be an id of that type is an object that does not exist: 404.
#[derive(Debug)]
pub struct IdPath<T>(pub T);

impl<T: FromStr + Named + Send, S: Send + Sync> FromRequestParts<S> for IdPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        text.ok()
            .and_then(|Path(text)| text.parse().ok())
            .map(Self)
            .ok_or_else(|| ApiError::not_found(T::NOUN))
    }
}

impl<T: Named> OperationInput for IdPath<T> {
    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<u16>, Response)> {
        vec![refusal(ctx, 404, &format!("no such {}", T::NOUN))]
    }
}

/// What an id names, as the 404 says it.
pub trait Named {
    /// A lower-case noun: `checkout session`.
    const NOUN: &'static str;
}
