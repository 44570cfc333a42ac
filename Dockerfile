# The HTTP service: docker build -t agno-session .
# It listens on 8080 and is told its database by AGNO_PG_DSN or AGNO_SESSION_DSN_MAP; docs/reference/http.md has the rest.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY requirements/lock.txt requirements/
# What others wrote changes seldom, so it is a layer of its own; versions and hashes are those of the lock.
RUN uv venv /opt/service && \
    uv pip install --python /opt/service --constraints requirements/lock.txt --only-binary :all: \
        --requirements pyproject.toml --extra api --extra postgres --extra mysql --extra redis
COPY unified_storage unified_storage
COPY session_adapter session_adapter
COPY legacy legacy
COPY session_api session_api
COPY session_bridges session_bridges
COPY unified_storage_cli unified_storage_cli
RUN uv pip install --python /opt/service --build-constraints requirements/lock.txt --no-deps .

FROM python:${PYTHON}-slim
RUN pip uninstall --yes pip && \
    groupadd --gid 10001 service && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin service
COPY --from=build /opt/service /opt/service
ENV PATH=/opt/service/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /opt/service
EXPOSE 8080
# A service that lives answers; whether its database does is told by /readyz, and starting again would not mend it.
HEALTHCHECK --interval=15s --timeout=6s --start-period=30s --retries=4 CMD ["python", "-c", "\
import http.client, os; \
service = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('AGNO_SERVICE_PORT') or 8080), timeout=5); \
service.request('GET', '/healthz'); \
raise SystemExit(service.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "session_api"]
