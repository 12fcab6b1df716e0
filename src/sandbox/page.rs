//! The pages: where a payer pays a link, and a dashboard of what Razorpay would know. Plain HTML, no scripts.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, http};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::Deserialize;

use super::SandboxError;
use super::books::Books;
use super::charge::Charge;
use super::instruments::{CANCELLED_BY_PAYER, DECLINED, Verdict, find_card, find_upi};
use super::ledger::LinkStatus;
use super::page_views::{Dashboard, Message, PayPage, Problem};
use super::server::Shared;

/// No `form-action`: browsers apply it to the redirects that follow a form, and those lead to the merchant.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The form's name for the method that is not a card.
const UPI: &str = "upi";

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(dashboard))
        .route("/sandbox.css", get(stylesheet))
        .route("/l/{slug}", get(show_link))
        .route("/l/{slug}/pay", post(pay))
        .route("/l/{slug}/cancel", post(cancel))
        .route("/l/{slug}/expire", post(expire))
}

async fn stylesheet() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../../templates/sandbox/sandbox.css"))
}

fn render(status: StatusCode, page: &impl Template) -> Response {
    let Ok(html) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = (status, Html(html)).into_response();
    let mut put = |name, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
    put(CONTENT_SECURITY_POLICY, POLICY);
    put(X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(http::header::REFERRER_POLICY, "no-referrer");
    put(CACHE_CONTROL, "no-store");
    response
}

fn unknown_link() -> Response {
    let page = Message {
        title: "No such payment link",
        text: "This sandbox does not know this link. It keeps links in memory: a restart forgets them.",
    };
    render(StatusCode::NOT_FOUND, &page)
}

#[derive(Default, Deserialize)]
struct Shown {
    /// The attempt that has just failed.
    failed: Option<String>,
}

async fn show_link(
    State(shared): State<Arc<Shared>>,
    Path(slug): Path<String>,
    Query(shown): Query<Shown>,
) -> Response {
    let mut books = shared.books();
    books.expire_due();
    let Some(index) = books.link_with_slug(&slug) else { return unknown_link() };
    let problem = shown.failed.and_then(|id| Problem::of(books.payment(&id)?));
    render(StatusCode::OK, &pay_page(&books, index, problem))
}

fn pay_page(books: &Books, index: usize, problem: Option<Problem>) -> PayPage {
    let link = &books.ledger.links[index];
    let paid_by = link.payment_ids.last().and_then(|id| books.payment(id));
    let back_url = paid_by.filter(|_| link.status == LinkStatus::Paid);
    let back_url = back_url.and_then(|payment| books.redirect_url(link, payment));
    PayPage::new(link, books.now(), problem, back_url)
}

#[derive(Deserialize)]
struct PayForm {
    method: String,
    #[serde(default)]
    card_number: String,
    #[serde(default)]
    expiry: String,
    #[serde(default)]
    cvv: String,
    #[serde(default)]
    vpa: String,
    #[serde(default)]
    outcome: Outcome,
}

/// Which button of the form was pressed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// What the card or UPI id leads to.
    #[default]
    Pay,
    Fail,
    GiveUp,
}

/// A payment as the payer makes it: on success to the merchant, on failure back to the page to try again.
async fn pay(
    State(shared): State<Arc<Shared>>,
    Path(slug): Path<String>,
    Form(form): Form<PayForm>,
) -> Response {
    let mut books = shared.books();
    let Some(index) = books.link_with_slug(&slug) else { return unknown_link() };
    let verdict = match verdict_of(&form, books.now()) {
        Ok(verdict) => verdict,
        Err(text) => {
            let problem = Problem { text, reason: "input_validation_failed", with_upi: form.method == UPI };
            let page = pay_page(&books, index, Some(problem));
            return render(StatusCode::UNPROCESSABLE_ENTITY, &page);
        }
    };
    match books.charge(index, &Charge::of(verdict)) {
        Ok(paid) => match paid.redirect_url {
            Some(url) => Redirect::to(&url).into_response(),
            None if paid.payment_status == super::PaymentStatus::Failed => {
                Redirect::to(&format!("/l/{slug}?failed={}", paid.payment_id)).into_response()
            }
            None => back_to(&slug),
        },
        // Somebody paid, cancelled or waited too long meanwhile: the page says which.
        Err(_) => back_to(&slug),
    }
}

fn back_to(slug: &str) -> Response {
    Redirect::to(&format!("/l/{slug}")).into_response()
}

fn verdict_of(form: &PayForm, now: DateTime<Utc>) -> Result<Verdict, &'static str> {
    let (instrument, own_failure) = if form.method == UPI {
        find_upi(&form.vpa).ok_or("This is not a UPI id. Try success@razorpay or failure@razorpay.")?
    } else {
        card_verdict(form, now)?
    };
    let failure = match form.outcome {
        Outcome::Pay => own_failure,
        Outcome::Fail => own_failure.or_else(|| Some(DECLINED.clone())),
        Outcome::GiveUp => Some(CANCELLED_BY_PAYER.clone()),
    };
    Ok((instrument, failure))
}

fn card_verdict(form: &PayForm, now: DateTime<Utc>) -> Result<Verdict, &'static str> {
    let unknown = "This is not one of the test cards. Never type a real card number here.";
    let verdict = find_card(&form.card_number).ok_or(unknown)?;
    check_expiry(&form.expiry, now)?;
    if !(3..=4).contains(&form.cvv.len()) || !form.cvv.bytes().all(|b| b.is_ascii_digit()) {
        return Err("The CVV has three or four digits. Any will do.");
    }
    Ok(verdict)
}

fn check_expiry(expiry: &str, now: DateTime<Utc>) -> Result<(), &'static str> {
    let parsed = expiry.split_once('/').and_then(|(month, year)| {
        let (month, year) = (month.trim().parse::<u32>().ok()?, year.trim().parse::<i32>().ok()?);
        NaiveDate::from_ymd_opt(if year < 100 { 2000 + year } else { year }, month, 1)
    });
    let date = parsed.ok_or("The expiry is a month and a year, such as 12/30.")?;
    if (date.year(), date.month()) < (now.year(), now.month()) {
        return Err("The card has expired. Any month that is not over will do.");
    }
    Ok(())
}

async fn cancel(State(shared): State<Arc<Shared>>, Path(slug): Path<String>) -> Response {
    change(&shared, &slug, Books::cancel)
}

async fn expire(State(shared): State<Arc<Shared>>, Path(slug): Path<String>) -> Response {
    change(&shared, &slug, Books::expire)
}

type Change = fn(&mut Books, usize) -> Result<(), &'static str>;

fn change(shared: &Shared, slug: &str, change: Change) -> Response {
    let mut books = shared.books();
    let Some(index) = books.link_with_slug(slug) else { return unknown_link() };
    match change(&mut books, index) {
        Ok(()) => back_to(slug),
        Err(refused) => SandboxError::Refused(refused).into_response(),
    }
}

async fn dashboard(State(shared): State<Arc<Shared>>) -> Response {
    let mut books = shared.books();
    let now = books.now();
    let page = Dashboard::new(books.ledger(), now);
    drop(books);
    render(StatusCode::OK, &page)
}
