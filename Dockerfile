# The program and nothing else: a static binary, without a shell, as a user without rights.
#
#   docker build -t tunnel .
#   docker run -p 443:8443 -p 80:8080 -v /srv/tunnel:/etc/tunnel:ro tunnel proxy --config /etc/tunnel/proxy.toml
#   docker run -v tunnel-key:/var/lib/tunnel tunnel http://service:3000 --proxy https://tunnels.example.com
#
# proxy.toml listens on 0.0.0.0:8443 and 0.0.0.0:8080 then, and its certificates can be read by the user 65532. Replace them in the
# folder that is mounted, not as single files: a file that is mounted by itself stays the old one.

FROM rust:1-alpine AS build
# For the TLS library's C and assembly. Alpine's libc is musl, so that what is built is static.
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package tunnel \
 && mkdir -p /state/cache

FROM scratch
COPY --from=build /src/target/release/tunnel /tunnel
# Whom clients trust, and plugins that are granted https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Keys, and compiled plugins.
COPY --from=build --chown=65532:65532 /state /var/lib/tunnel
ENV XDG_CONFIG_HOME=/var/lib/tunnel XDG_CACHE_HOME=/var/lib/tunnel/cache SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
VOLUME /var/lib/tunnel
USER 65532:65532
# A stopping proxy waits for what is under way, 30 s at most: docker stop --time 40.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/tunnel"]
