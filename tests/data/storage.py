"""A local S3 server (moto) behind a proxy that injects network faults."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

boto3 = pytest.importorskip("boto3")
pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "NO_PROXY": "127.0.0.1",
}


class Storage:
    """Buckets behind a proxy.

    Attributes:
        faults: by path suffix, the faults of the next requests: "500", "503", "403", "half", "hang", or none.
        requests: number of requests by method and path.
        down: whether the proxy closes all connections.
    """

    def __init__(self, port: int) -> None:
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.requests: Counter[tuple[str, str]] = Counter()
        self.down = False
        self._moto = port
        self._client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        storage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                storage.answer(self)

            def do_HEAD(self) -> None:
                storage.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def upload(self, bucket: str, folder: Path, prefix: str = "") -> str:
        """Upload all files below a folder to a new bucket, and return the URL."""
        self._client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, f"{prefix}{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{bucket}/{prefix}".rstrip("/")

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Put an object."""
        self._client.put_object(Bucket=bucket, Key=key, Body=content)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object."""
        self._client.delete_object(Bucket=bucket, Key=key)

    def fetched(self, suffix: str = "") -> int:
        """Return the number of requests for objects whose path has this suffix."""
        return sum(
            count
            for (method, path), count in self.requests.items()
            if method == "GET" and "?list-type" not in path and path.endswith(suffix)
        )

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Forward a request, or inject a fault."""
        path = unquote(handler.path)
        self.requests[handler.command, path] += 1
        fault = next((faults.pop(0) for end, faults in self.faults.items() if path.endswith(end) and faults), None)
        if self.down:
            handler.close_connection = True
            return
        if fault == "hang":
            time.sleep(4)
            handler.close_connection = True
            return
        if fault and fault.isdigit():
            code = {"500": "InternalError", "503": "ServiceUnavailable", "403": "AccessDenied"}[fault]
            body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            self._send(handler, int(fault), {"Content-Length": str(len(body))}, body)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self._moto, timeout=10)
        headers = {name: value for name, value in handler.headers.items() if name.lower() != "connection"}
        connection.request(handler.command, handler.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in ("connection", "date")}
        if fault == "half":
            body = body[: len(body) // 2]
            handler.close_connection = True
        if fault == "short":  # half the object, and a header that agrees
            body = body[: len(body) // 2]
            kept["Content-Length"] = str(len(body))
        self._send(handler, answer.status, kept, body)
        connection.close()

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def close(self) -> None:
        """Stop the proxy."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running() -> Iterator[Storage]:
    """Run an S3 and its proxy."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    storage = Storage(port)
    try:
        yield storage
    finally:
        storage.close()
        server.stop()
