# The predictor on a CPU: voc-serve, the model folder mounted at /models/voc. Two images, for x86-64 and ARM64:
#   docker build -t voc-cls:dev .                             TensorFlow: every export
#   docker build -t voc-cls:openvino --target openvino .      OpenVINO: exports that have a model.xml
#   docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD/models/voc:/models/voc:ro" voc-cls:openvino

# What decodes and resizes of OpenCV, built from its source: its wheel has 155 MB of codecs for video, networks and BLAS.
# The version is that of constraints.txt, or pip refuses it below.
FROM python:3.11-slim-bookworm AS opencv
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake g++ libpython3-dev nasm ninja-build \
    && rm -rf /var/lib/apt/lists/*
ENV CMAKE_ARGS="-DBUILD_LIST=core,imgproc,imgcodecs,python3 -DWITH_ADE=OFF -DWITH_AVIF=OFF -DWITH_EIGEN=OFF \
-DWITH_IPP=OFF -DWITH_ITT=OFF -DWITH_JASPER=OFF -DWITH_LAPACK=OFF -DWITH_OPENCL=OFF -DWITH_OPENEXR=OFF \
-DWITH_OPENJPEG=OFF -DWITH_TIFF=OFF"
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --no-binary opencv-python-headless --wheel-dir /wheels opencv-python-headless==5.0.0.93

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
RUN python3 -m venv /opt/voc-cls
COPY constraints.txt /src/
RUN --mount=type=bind,from=opencv,source=/wheels,target=/wheels \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/voc-cls/bin/pip install /wheels/*.whl

FROM build AS build-openvino
COPY pyproject.toml README.md /src/
COPY voc_cls /src/voc_cls
COPY serving /src/serving
COPY export /src/export
# plugins for other devices, other formats of networks, pip, tests and headers stay behind
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/voc-cls/bin/pip install '/src[serve-openvino,trace]' \
    && /opt/voc-cls/bin/pip uninstall --yes openvino-telemetry setuptools pip \
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

FROM python:3.11-slim-bookworm AS run
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin voc
# 0.0.0.0: a port of the container that docker publishes; who may reach that, docker run -p decides
ENV PATH=/opt/voc-cls/bin:$PATH PYTHONUNBUFFERED=1 VOC_SERVE_HOST=0.0.0.0
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "serving.probe", "127.0.0.1:8500"]
ENTRYPOINT ["voc-serve"]
CMD ["--model-dir", "/models/voc", "--port", "8500"]

FROM run AS openvino
COPY --from=build-openvino /opt/voc-cls /opt/voc-cls
USER 10001

FROM run
COPY --from=build-tensorflow /opt/voc-cls /opt/voc-cls
USER 10001
