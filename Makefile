.PHONY: help dev test lint fmt sqlx sqlx-check deny ci

help: ## Show what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

dev: ## Run the service with a Postgres, a sandbox and a demo tenant of its own
	cargo run -- dev

test: ## Run all tests; they start their own Postgres
	cargo test

lint: ## Check the format and the lints as CI does
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --test rig --test webhook_load --test plans -- -D warnings

fmt: ## Format the code
	cargo fmt

sqlx: ## Write .sqlx anew, after a change of queries or migrations
	scripts/sqlx.sh

sqlx-check: ## Compare .sqlx with the queries and the migrations
	scripts/sqlx.sh --check

deny: ## Check licences, sources and advisories of dependencies (needs cargo-deny)
	cargo deny check

ci: ## Run all that CI runs
	.ci/run
