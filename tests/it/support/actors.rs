//! Who uses the API: a merchant with a key, over HTTP and nothing else.

use axum::http::{HeaderMap, Method};
use serde_json::{Value, json};

/// A merchant's backend in one environment.
#[derive(Clone)]
pub struct Merchant {
    pub http: reqwest::Client,
    pub base_url: String,
    pub api_key: String,
    pub tenant_id: String,
    pub environment_id: String,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text))
    }

    /// The body, when the status is as expected; null for an empty one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The error envelope, when status and code are as expected.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["http_status_code"], status, "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        body
    }
}

impl Merchant {
    pub async fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.request(Method::POST, path, Some(body)).await
    }

    /// A POST without a body or content type, as the SDK sends it.
    pub async fn post_empty(&self, path: &str) -> Reply {
        self.request(Method::POST, path, None).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.request(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.request(Method::DELETE, path, None).await
    }

    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let mut request = self.builder(method, path).header("x-api-key", &self.api_key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await
    }

    /// A body that need not be JSON.
    pub async fn post_raw(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = self.builder(Method::POST, path).header("x-api-key", &self.api_key);
        send(request.header("content-type", content_type).body(body)).await
    }

    /// A request without credentials.
    pub fn builder(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base_url))
    }

    /// The guide's plan: INR 499 a month, billed in advance. Its id.
    pub async fn plan(&self) -> String {
        self.plan_with(json!({"amount": "499.00"})).await
    }

    /// A plan with one price: the guide's, changed by `price`. Its id.
    pub async fn plan_with(&self, price: Value) -> String {
        let plan = self.post("/v1/plans", json!({"name": "Pro"})).await.expect(201);
        let id = plan["id"].as_str().unwrap().to_owned();
        self.add_price(&id, price).await;
        id
    }

    pub async fn add_price(&self, plan_id: &str, changes: Value) -> Value {
        let mut price = json!({
            "entity_type": "PLAN", "entity_id": plan_id, "type": "FIXED", "billing_model": "FLAT_FEE",
            "billing_period": "MONTHLY", "billing_period_count": 1, "currency": "INR",
            "invoice_cadence": "ADVANCE", "price_unit_type": "FIAT",
        });
        for (name, value) in changes.as_object().unwrap() {
            price[name] = value.clone();
        }
        self.post("/v1/prices", price).await.expect(201)
    }

    /// A customer with this external id.
    pub async fn customer(&self, external_id: &str) -> Value {
        let body = json!({"external_id": external_id, "name": "Jane Smith", "email": "jane@example.com", "currency": "INR"});
        self.post("/v1/customers", body).await.expect(201)
    }

    /// The guide's request for a session.
    pub fn session_request(plan_id: &str) -> Value {
        json!({
            "customer_external_id": "user_12345",
            "action": "create_subscription",
            "payment_provider": "razorpay",
            "configuration": {"create_subscription_params": {"plan_id": plan_id, "currency": "INR", "billing_period": "monthly"}},
            "success_url": "https://app.example.com/welcome?session_id={CHECKOUT_SESSION_ID}",
            "failure_url": "https://app.example.com/pricing?error=payment_failed",
            "cancel_url": "https://app.example.com/pricing",
        })
    }

    /// A pending session of the customer `user_12345`, who is made when missing.
    pub async fn session(&self) -> Value {
        let plan = self.plan().await;
        self.customer_if_missing().await;
        self.post("/v1/checkout/sessions", Self::session_request(&plan)).await.expect(201)
    }

    pub async fn customer_if_missing(&self) {
        if self.get("/v1/customers/external/user_12345").await.status != 200 {
            self.customer("user_12345").await;
        }
    }

    /// The session as it is now.
    pub async fn read_session(&self, session: &Value) -> Value {
        self.get(&format!("/v1/checkout/sessions/{}", session["id"].as_str().unwrap())).await.expect(200)
    }

    /// Registers `receiver` for every event. The endpoint, with its secret.
    pub async fn endpoint(&self, receiver: &super::Receiver) -> Value {
        self.post("/v1/webhook_endpoints", json!({"url": receiver.url()})).await.expect(201)
    }
}

pub async fn send(request: reqwest::RequestBuilder) -> Reply {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let reply = Reply { status, headers, text: response.text().await.unwrap() };
    super::described::check(&method, &path, &reply);
    reply
}
