# The HTTP front, and the razor command for whoever operates it. It holds no torch.
FROM python:3.12-slim-bookworm AS packages
COPY docker/service.lock /
RUN python -m venv /packages \
    && /packages/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /service.lock

FROM python:3.12-slim-bookworm
RUN groupadd --gid 10001 razor \
    && useradd --uid 10001 --gid razor --no-create-home --shell /usr/sbin/nologin razor \
    && install -d -o razor -g razor -m 0700 /data
COPY --from=packages /packages /packages
ENV PATH=/packages/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    RAZOR_DATA_FOLDER=/data
# What the front may import, and the command; the science stays outside.
COPY api_schemas /app/api_schemas
COPY patches /app/patches
COPY evidence /app/evidence
COPY registry /app/registry
COPY service /app/service
COPY client /app/client
COPY cli /app/cli
# An image in which torch can be imported is a mistake: it is not made.
RUN python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is not None)" \
    && python -P -c "import service.app, registry.s3, boto3"
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8731
# With -P the folder where it runs is never searched for modules.
CMD ["python", "-P", "-m", "service"]
