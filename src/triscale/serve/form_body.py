"""Split the body of a form (``multipart/form-data``, RFC 7578) into its files."""

from __future__ import annotations

from email.message import Message
from email.parser import HeaderParser

from triscale.serve.problems import problem
from triscale.serve.upload import UploadedImage, check_count

MAX_BOUNDARY = 70  # RFC 2046, section 5.1.1
MAX_TYPE = 500
MAX_PART_HEAD = 4096


def files_of_form(body: bytes, content_type: str, limit: int) -> tuple[UploadedImage, ...]:
    r"""Return the files of a form in their order.

    ::

        --BOUNDARY CRLF                 the delimiter: CRLF--BOUNDARY, the first CRLF may be absent
        Content-Disposition: ... CRLF   headers of the part
        CRLF
        bytes CRLF                      content; this CRLF belongs to the next delimiter
        --BOUNDARY-- CRLF               the end

    Args:
        body: The body of the request.
        content_type: Its Content-Type header, which states the boundary.
        limit: Maximum number of parts.

    Raises:
        HTTPException: Status 400 (malformed), 413 (too many parts) or 422 (no file, or a field that is no file).

    Example:
        >>> head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        >>> files_of_form(head + b"PNG\r\n--x--\r\n", "multipart/form-data; boundary=x", 1)
        (UploadedImage(content=b'PNG', name='a.png'),)
    """
    # One more split than a form with `limit` parts needs, so that a form of many thousand parts is never split whole.
    pieces = (b"\r\n" + body).split(b"\r\n--" + _boundary(content_type), limit + 2)
    if len(pieces) == 1:
        raise problem(400, "the form does not contain the boundary that its Content-Type header states")
    check_count(len(pieces) - 2, limit)
    if not pieces[-1].startswith(b"--"):
        raise problem(400, "the form ends before its last boundary; send it again")
    files = tuple(_file(piece) for piece in pieces[1:-1])
    if not files:
        raise problem(422, "the form holds no file; with curl, write -F file=@image.jpg")
    return files


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type[:MAX_TYPE]
    boundary = message.get_boundary() or ""
    if not 0 < len(boundary) <= MAX_BOUNDARY or not boundary.isascii():
        raise problem(
            400,
            "the Content-Type header multipart/form-data needs a boundary of 1 to 70 ASCII characters; "
            "let the HTTP client set this header",
        )
    return boundary.encode("ascii")


def _file(piece: bytes) -> UploadedImage:
    head, found, content = piece.partition(b"\r\n\r\n")
    padding, line_end, head = head.partition(b"\r\n") if b"\r\n" in head else (head, b"\r\n", b"")
    if not found or padding.strip(b" \t") or not line_end or len(head) > MAX_PART_HEAD:
        raise problem(400, "a part of the form has no valid headers; use the form support of an HTTP client")
    headers = HeaderParser().parsestr(head.decode("utf-8", "replace"))
    if headers.get_content_disposition() != "form-data":
        raise problem(400, "a part of the form has no header Content-Disposition: form-data")
    name = _file_name(headers)
    if name is None:
        field = headers.get_param("name", "", "content-disposition")
        raise problem(422, f"the form field {str(field)[:100]!r} is not a file; with curl, write -F file=@image.jpg")
    return UploadedImage(content=content, name=name[:255] or None)


def _file_name(headers: Message) -> str | None:
    raw = headers.get_param("filename", None, "content-disposition", unquote=False)
    if isinstance(raw, str):  # email's own unquoting would also remove angle brackets
        return raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] == '"' else raw
    return headers.get_filename()
