# The predictor on a CPU: voc-serve, the model folder mounted at /models/voc. Two images:
#   docker build -t voc-cls:dev .                             TensorFlow: every export
#   docker build -t voc-cls:openvino --target openvino .      OpenVINO: exports that have a model.xml; ARM64 too
#   docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD/models/voc:/models/voc:ro" voc-cls:openvino

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
RUN python3 -m venv /opt/voc-cls
COPY constraints.txt /src/

FROM build AS build-openvino
COPY pyproject.toml README.md /src/
COPY voc_cls /src/voc_cls
COPY serving /src/serving
COPY export /src/export
# OpenCV stays behind (155 MB; Pillow and NumPy give the same pixels in twice the time), as do OpenVINO's plugins for other
# devices and readers of other formats, pip, tests and headers
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/voc-cls/bin/pip install '/src[serve-openvino,trace]' \
    && /opt/voc-cls/bin/pip uninstall --yes opencv-python-headless openvino-telemetry setuptools pip \
    && cd /opt/voc-cls/lib/python3*/site-packages/openvino \
    && find libs -type f \( -name 'cache.json' -o -name '*_plugin.so' -o -name '*_frontend.so*' \) \
        ! -name '*_cpu_plugin.so' ! -name '*_ir_frontend.so*' -delete \
    && rm -r cmake tools torch frontend/*/ \
    && find /opt/voc-cls -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +

FROM build AS build-tensorflow
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

FROM python:3.11-slim-bookworm AS base
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin voc \
    && rm -rf /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/idlelib /usr/local/lib/python3*/site-packages/* \
        /usr/lib/python3/dist-packages /usr/lib/*-linux-gnu/perl /usr/lib/*-linux-gnu/libperl.so* /usr/share/perl \
        /usr/share/doc /usr/share/locale /usr/share/man

# copied, as what a layer removes of those below it takes space all the same
FROM scratch AS run
COPY --from=base / /
# 0.0.0.0: a port of the container that docker publishes; who may reach that, docker run -p decides
ENV PATH=/opt/voc-cls/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1 VOC_SERVE_HOST=0.0.0.0
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "serving.probe", "127.0.0.1:8500"]
ENTRYPOINT ["voc-serve"]
CMD ["--model-dir", "/models/voc", "--port", "8500"]

FROM run AS openvino
COPY --from=build-openvino /opt/voc-cls /opt/voc-cls
USER 10001

FROM run AS tensorflow
COPY --from=build-tensorflow /opt/voc-cls /opt/voc-cls
USER 10001
