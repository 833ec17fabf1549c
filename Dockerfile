# qoetwin, for docker-compose.yml. TORCH_INDEX_URL is where PyTorch's page keeps wheels for the CPU; without it pip
# installs the default, which brings CUDA and is 5 GB larger. The parser's library is built where there is a Rust toolchain.
FROM rust:1-slim-bookworm AS library
WORKDIR /build
COPY ingest/ordinary ingest/ordinary
RUN cargo build --release --locked --manifest-path ingest/ordinary/Cargo.toml --target-dir target

FROM python:3.12-slim
ARG TORCH_INDEX_URL=
RUN useradd --create-home --uid 1000 qoetwin && install -d -o qoetwin -g qoetwin /home/qoetwin/data
WORKDIR /opt/qoetwin
COPY constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt \
    ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch
COPY pyproject.toml hatch_build.py README.md LICENSE NOTICE ./
COPY app app
COPY domain domain
COPY gnn gnn
COPY ingest ingest
COPY kg kg
COPY qoe qoe
COPY testbed testbed
COPY twin twin
RUN pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .
COPY --from=library /build/target/release/libordinary.so /usr/local/lib/python3.12/site-packages/ingest/ordinary/
USER qoetwin
WORKDIR /home/qoetwin
ENTRYPOINT ["qoetwin"]
