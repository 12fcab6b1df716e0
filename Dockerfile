# docker build --tag checkoutd .
FROM rust:1.95-bookworm AS build
WORKDIR /src

# Dependencies first, against empty crates, so that a change of our code does not compile them again.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir -p src tests/it \
    && touch src/lib.rs tests/it/main.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked

COPY . .
# The copied files are older than the empty crates that were just built.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked

FROM debian:bookworm-slim
# Razorpay's and merchants' certificates are checked against the system's roots.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin checkoutd
COPY --from=build /src/target/release/checkoutd /usr/local/bin/checkoutd
USER checkoutd
# Inside a container, loopback would reach nobody.
ENV CHECKOUTD_BIND=0.0.0.0:8080
EXPOSE 8080
ENTRYPOINT ["checkoutd"]
CMD ["serve"]
