curl -sS -X POST https://<HOST>/v1/customers \
  -H "Authorization: Bearer <API_KEY>" \
  -H "X-Environment-ID: <ENVIRONMENT_ID>" \
  -H "Content-Type: application/json" \
  -d '{"external_id":"user_12345","name":"Jane Smith","email":"jane@example.com","currency":"INR"}'
