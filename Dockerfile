# qoetwin, for docker-compose.yml. TORCH_INDEX_URL is where PyTorch's page keeps wheels for the CPU; without it pip
# installs the default, which brings CUDA and is 5 GB larger.
FROM python:3.12-slim
ARG TORCH_INDEX_URL=
RUN useradd --create-home --uid 1000 qoetwin && install -d -o qoetwin -g qoetwin /home/qoetwin/data
WORKDIR /opt/qoetwin
COPY constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt \
    ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY app app
COPY domain domain
COPY gnn gnn
COPY ingest ingest
COPY kg kg
COPY qoe qoe
COPY testbed testbed
COPY twin twin
RUN pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .
USER qoetwin
WORKDIR /home/qoetwin
ENTRYPOINT ["qoetwin"]
