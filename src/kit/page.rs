//! Paging of lists: `limit` and `offset` in, `{"items":[…],"pagination":{…}}` out.

use schemars::JsonSchema;
use serde::Serialize;

/// A page asked for, already within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to 1000 items.
    pub limit: i64,
    /// Items to pass over.
    pub offset: i64,
}

impl PageRequest {
    /// What a caller gets who asks for nothing.
    pub const DEFAULT_LIMIT: i64 = 50;
    /// The largest page.
    pub const MAX_LIMIT: i64 = 1000;
}

/// One page of a list, as it goes over the wire.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Where the page lies in the whole.
    pub pagination: Pagination,
}

/// Where a page lies in the whole list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pagination {
    /// Items that match, on all pages.
    pub total: i64,
    /// The page size that was applied.
    pub limit: i64,
    /// The request's own offset.
    pub offset: i64,
}

impl<T> Page<T> {
    /// The page `request` of `total` matching items.
    pub fn new(items: Vec<T>, total: i64, request: PageRequest) -> Self {
        Self { items, pagination: Pagination { total, limit: request.limit, offset: request.offset } }
    }

    /// The same page with each item mapped.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), pagination: self.pagination }
    }

    /// The same page with each item mapped, or the first error.
    pub fn try_map<U, E>(self, f: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        let items = self.items.into_iter().map(f).collect::<Result<_, _>>()?;
        Ok(Page { items, pagination: self.pagination })
    }
}

/// One page of a log: read from a place in it on, because a log is too long to be counted or passed over.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LogPageOf{T}")]
pub struct LogPage<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Whether there are more.
    pub pagination: LogPagination,
}

/// How to go on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LogPagination {
    /// The page size that was applied.
    pub limit: i64,
    /// Whether there is more behind the last item of this page.
    pub has_more: bool,
}

impl<T> LogPage<T> {
    /// Of `items`, which were read up to one more than `limit`.
    pub fn new(mut items: Vec<T>, limit: i64) -> Self {
        let wanted = usize::try_from(limit).unwrap_or_default();
        let has_more = items.len() > wanted;
        items.truncate(wanted);
        Self { items, pagination: LogPagination { limit, has_more } }
    }

    /// The same page with each item mapped, or the first error.
    pub fn try_map<U, E>(self, f: impl FnMut(T) -> Result<U, E>) -> Result<LogPage<U>, E> {
        let items = self.items.into_iter().map(f).collect::<Result<_, _>>()?;
        Ok(LogPage { items, pagination: self.pagination })
    }
}
