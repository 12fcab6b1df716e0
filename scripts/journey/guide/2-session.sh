curl -sS -X POST https://<HOST>/v1/checkout/sessions \
  -H "Authorization: Bearer <API_KEY>" \
  -H "X-Environment-ID: <ENVIRONMENT_ID>" \
  -H "Content-Type: application/json" \
  -d '{"customer_external_id":"user_12345","action":"create_subscription","payment_provider":"razorpay","configuration":{"create_subscription_params":{"plan_id":"plan_pro_monthly","currency":"INR","billing_period":"monthly"}},"success_url":"https://app.example.com/welcome?session_id={CHECKOUT_SESSION_ID}","failure_url":"https://app.example.com/pricing?error=payment_failed","cancel_url":"https://app.example.com/pricing","idempotency_key":"order_1"}'
