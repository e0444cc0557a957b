"""A real S3 server in a process of its own: moto's, on a port of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import s3fs

from tests.integration.serving.test_life_cycle import free_port

BUCKET = "stores"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class ObjectStore:
    """An S3 server with one empty bucket."""

    def __init__(self) -> None:
        self._port = free_port()
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
                            "AWS_MAX_ATTEMPTS": "1"}  # by default it takes 6 s until a store counts as gone
        """For those who are to use it."""
        s3fs.S3FileSystem.clear_instance_cache()  # fsspec would go on with a store that this process has used before
        self.start()

    def start(self) -> None:
        """Starts it on its port; it has nothing but an empty bucket then."""
        self.process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    f"{self.environment['AWS_ENDPOINT_URL']}/moto-api/", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        self._client = boto3.client("s3", endpoint_url=self.environment["AWS_ENDPOINT_URL"],
                                    aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
        self._client.create_bucket(Bucket=BUCKET)

    def end(self) -> None:
        """As a store that is gone: connections are refused."""
        self.process.kill()
        self.process.wait()

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=BUCKET, Key=key)

    def upload(self, folder: Path, key: str, without: str = "") -> None:
        """Uploads the files of a folder but one."""
        for parent, _, names in os.walk(folder):
            for name in names:
                file = Path(parent, name)
                if str(file.relative_to(folder)) != without:
                    self.put(f"{key}/{file.relative_to(folder)}", file.read_bytes())
