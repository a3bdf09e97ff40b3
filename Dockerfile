# syntax=docker/dockerfile:1
# The bot with its backups: `docker build -t gpt-messenger-sales-bot .`; docs/deployment.md has more.

FROM python:3.11-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /venv
# requirements-postgres.txt for several hosts: docs/several-hosts.md
ARG REQUIREMENTS=requirements.txt
COPY requirements.txt requirements-postgres.txt ./
# The lock allows wheels only: nothing is compiled, so no compiler is needed here either.
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r "$REQUIREMENTS" \
    && /venv/bin/pip uninstall --yes pip setuptools
COPY app.py bot ./
COPY shared/ shared/
COPY backups/ backups/
COPY facebook_integration/ facebook_integration/
COPY shopify_integration/ shopify_integration/
# Bytecode is written here, because the root file system will be read-only.
RUN python -m compileall -q .

FROM python:3.11-slim-bookworm
RUN pip uninstall --root-user-action ignore --yes pip setuptools wheel \
    && groupadd --gid 10001 bot \
    && useradd --uid 10001 --gid bot --no-create-home --home-dir /data --shell /usr/sbin/nologin bot \
    && install --directory --owner bot --group bot --mode 0700 /data
COPY --from=build /venv /venv
COPY --from=build /app /app
# TOKEN_DB_PATH is a path, not a token:
# hadolint ignore=DL3064
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=5000 \
    TOKEN_DB_PATH=/data/tokens.db \
    SESSION_DB_PATH=/data/sessions.db \
    INBOX_DB_PATH=/data/inbox.db \
    BACKUP_DIR=/data/backups \
    BACKUP_LOCAL_STORE=/data/spaces
WORKDIR /app
USER 10001:10001
VOLUME /data
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=4)"]
CMD ["python", "app.py"]
