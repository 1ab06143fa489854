# One worker for one device: CUDA where there is a GPU, the processor where there is none.
# torch brings CUDA's libraries along; the base gives what the driver asks of a container.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS packages
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY docker/worker.lock /
RUN python3 -m venv /packages \
    && /packages/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /worker.lock

FROM nvidia/cuda:13.0.1-base-ubuntu24.04
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 razor \
    && useradd --uid 10001 --gid razor --no-create-home --shell /usr/sbin/nologin razor \
    && install -d -o razor -g razor -m 0700 /data
COPY --from=packages /packages /packages
ENV PATH=/packages/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    RAZOR_DATA_FOLDER=/data
COPY api_schemas /app/api_schemas
COPY patches /app/patches
COPY evidence /app/evidence
COPY registry /app/registry
COPY razor /app/razor
COPY worker /app/worker
# What a run needs can be imported, and the front cannot: an image that is otherwise is not made.
RUN python -P -c "import worker.runner, registry.s3, boto3" \
    && python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('fastapi') is not None)"
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 9101
CMD ["python", "-P", "-m", "worker"]
