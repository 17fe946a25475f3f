# Triscale for CPUs, built from the source in this folder. Not built where it was written (no container runtime there);
# the workflow .github/workflows/ci.yml builds it.
#
#   docker build -t triscale .
#   docker run --rm -v "$PWD/photos:/photos:ro" -v "$PWD/runs:/data/runs" triscale fit /photos --budget 30M
#
# TORCH_INDEX is the index of PyTorch's wheels for CPUs, which pytorch.org shows under "Get started"; without it pip
# installs PyTorch with the CUDA libraries, which a CPU does not need:
#
#   docker build --build-arg TORCH_INDEX=ADDRESS -t triscale .
FROM python:3.11-slim

ARG TORCH_INDEX=""
# A compiler for the native CPU kernels, which are compiled at the first training.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision

COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir "/src[serve,parquet]" && rm -rf /src

RUN useradd --create-home triscale \
    && mkdir -p /data/runs /cache \
    && chown -R triscale /data /cache
ENV TRISCALE_CACHE=/cache
USER triscale
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["triscale"]
CMD ["--help"]
