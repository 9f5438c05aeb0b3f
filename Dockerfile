# syntax=docker/dockerfile:1
# Three images from one file: api (no torch), worker-cpu, worker-gpu. Every one runs as uid 10001.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN groupadd --gid 10001 prunery \
    && useradd --uid 10001 --gid prunery --create-home --shell /usr/sbin/nologin prunery \
    && install --directory --owner=prunery --group=prunery /data \
    && install --directory --owner=prunery --group=prunery --mode=0700 /keys
WORKDIR /srv/prunery
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY pruning pruning
COPY core core
COPY app app
COPY worker worker
COPY client client
COPY cli cli
COPY migrations migrations

FROM base AS api
RUN pip install --constraint requirements.lock '.[s3,otel]'
USER prunery
EXPOSE 8000
CMD ["uvicorn", "--factory", "app.main:app_from_env", "--host", "0.0.0.0", "--port", "8000", "--no-server-header", "--timeout-graceful-shutdown", "5"]

# The CPU build of torch is a fifth of the CUDA build: name an index that carries it, or take the default build.
FROM base AS worker-cpu
ARG TORCH_INDEX_URL=""
RUN PIP_EXTRA_INDEX_URL="${TORCH_INDEX_URL}" pip install --constraint requirements.lock '.[worker,onnx,s3,otel]'
USER prunery
CMD ["prunery", "worker"]

# The default Linux build of torch carries its CUDA libraries; the host needs the NVIDIA driver and container toolkit only.
FROM base AS worker-gpu
RUN pip install --constraint requirements.lock '.[worker,onnx,s3,otel]'
ENV PRUNERY_WORKER_QUEUE=gpu
USER prunery
CMD ["prunery", "worker"]
