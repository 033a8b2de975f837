# An image for machines with NVIDIA GPUs. CUDA comes with TensorFlow's wheels: the host needs its driver
# and the NVIDIA Container Toolkit.
#
#   docker build -t train .
#   docker run --gpus all -v "$PWD/runs:/app/runs" train make gpu-check
#   docker run --gpus all --shm-size 8g -v "$PWD/data:/data" -v "$PWD/runs:/app/runs" train \
#     .venv/bin/python -m train.run --dataset fetal_health/kaggle --data-dir /data
FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# In the build no GPU is seen: so `gpu` is named. The variable also keeps `make` from installing anew.
ENV EXTRAS=gpu
COPY Makefile setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY builders builders/
COPY records records/
COPY models models/
COPY train train/
COPY benchmarks benchmarks/
COPY docs/notes/gpu_audit.md docs/notes/
RUN make install
CMD [".venv/bin/python", "-m", "train.run", "--help"]
