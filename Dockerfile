# The predictor on a CPU: voc-serve, the model folder mounted at /models/voc.
#   docker build -t voc-cls:dev .
#   docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD/models/voc:/models/voc:ro" voc-cls:dev
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
RUN python3 -m venv /opt/voc-cls
COPY constraints.txt /src/
RUN --mount=type=cache,target=/root/.cache/pip /opt/voc-cls/bin/pip install tensorflow-cpu
COPY pyproject.toml README.md /src/
COPY voc_cls /src/voc_cls
COPY serving /src/serving
COPY export /src/export
# what TensorFlow needs to be built, pip, tests and headers stay behind
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/voc-cls/bin/pip install '/src[server,trace]' \
    && /opt/voc-cls/bin/pip uninstall --yes libclang setuptools pip \
    && find /opt/voc-cls -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin voc
COPY --from=build /opt/voc-cls /opt/voc-cls
# 0.0.0.0: a port of the container that docker publishes; who may reach that, docker run -p decides
ENV PATH=/opt/voc-cls/bin:$PATH PYTHONUNBUFFERED=1 VOC_SERVE_HOST=0.0.0.0
USER 10001
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "serving.probe", "127.0.0.1:8500"]
ENTRYPOINT ["voc-serve"]
CMD ["--model-dir", "/models/voc", "--port", "8500"]
