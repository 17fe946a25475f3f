"""Bodies of ``multipart/form-data`` made by hand, so that tests can also make wrong ones."""

from __future__ import annotations

BOUNDARY = "----triscale7d1"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(content: bytes, filename: str, name: str = "file") -> bytes:
    """Return the headers and the content of a part that is a file."""
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: image/png\r\n\r\n'
    return head.encode() + content


def form(*parts: bytes) -> bytes:
    """Return a body of parts."""
    line = f"--{BOUNDARY}\r\n".encode()
    return b"".join(line + one + b"\r\n" for one in parts) + f"--{BOUNDARY}--\r\n".encode()
