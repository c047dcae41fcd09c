"""SPDY/3.1 framing, as far as port-forwarding needs it: bytes in, events out, and the frames to send. No I/O.

kubectl tunnels SPDY through a WebSocket for port-forward. There is no flow control: kubectl's implementation has none.
Source: draft-mbelshe-httpbis-spdy-00 (frames) and SPDY draft 3, section 2.6.10.1 (the dictionary).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_VERSION: Final = 3
_SYN_REPLY: Final = 2
_PING: Final = 6
_FIN: Final = 0x01
_HEADER_BYTES: Final = 8
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024

# The words of the dictionary, each written with its length; a comma separates them because some hold a space.
_WORDS: Final = (
    "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,accept-ranges,age,allow,"
    "authorization,cache-control,connection,content-base,content-encoding,content-language,content-length,"
    "content-location,content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,"
    "if-modified-since,if-none-match,if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,"
    "proxy-authenticate,proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,"
    "user-agent,vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,set-cookie,"
    "keep-alive,origin"
)
_CODES: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS.split(",")) + _CODES.encode()
)


class SpdyError(Exception):
    """The peer does not speak SPDY/3.1. The connection is of no more use."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """headers: names in lower case."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DataReceived:
    """is_last: the peer sends nothing more on this stream."""

    stream: int
    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int


@dataclass(frozen=True, slots=True)
class PingReceived:
    """frame: what to send back."""

    frame: bytes


Event = StreamOpened | DataReceived | StreamReset | PingReceived


class SpdySession:
    """The server's side of one connection. Header compression has state: send frames in the order they are made."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> Iterator[Event]:
        """Events of whole frames; the rest waits for more. Raises SpdyError."""
        self._pending += data
        while len(self._pending) >= _HEADER_BYTES:
            first, second = struct.unpack_from(">II", self._pending)
            length = second & 0xFFFFFF
            if length > MAX_FRAME_BYTES:
                raise SpdyError(f"a frame of {length} bytes is too long")
            if len(self._pending) < _HEADER_BYTES + length:
                return
            body = bytes(self._pending[_HEADER_BYTES : _HEADER_BYTES + length])
            del self._pending[: _HEADER_BYTES + length]
            yield from self._events(first, second >> 24, body)

    def _events(self, first: int, flags: int, body: bytes) -> Iterator[Event]:
        if not first & 0x80000000:
            yield DataReceived(first, body, bool(flags & _FIN))
            return
        if (first >> 16) & 0x7FFF != _VERSION:
            raise SpdyError("not SPDY version 3")
        try:
            match first & 0xFFFF:
                case 1:
                    stream = struct.unpack_from(">I", body)[0] & 0x7FFFFFFF
                    yield StreamOpened(stream, self._headers(body[10:]))
                    if flags & _FIN:
                        yield DataReceived(stream, b"", True)
                case 3:
                    yield StreamReset(struct.unpack_from(">I", body)[0] & 0x7FFFFFFF)
                case 6:
                    yield PingReceived(_control(_PING, 0, body))
                case _:
                    # Settings, window updates, goaway: nothing here depends on them.
                    return
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise SpdyError(f"malformed frame: {error}") from error

    def _headers(self, block: bytes) -> dict[str, str]:
        plain = self._inflate.decompress(block)
        (count,) = struct.unpack_from(">I", plain)
        position = 4
        texts: list[str] = []
        for _ in range(2 * count):
            (length,) = struct.unpack_from(">I", plain, position)
            position += 4
            texts.append(plain[position : position + length].decode())
            position += length
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def accept(self, stream: int) -> bytes:
        """The frame that answers a StreamOpened."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(_SYN_REPLY, 0, struct.pack(">I", stream) + block)

    @staticmethod
    def data(stream: int, data: bytes, *, is_last: bool = False) -> bytes:
        """A data frame. data: up to MAX_FRAME_BYTES."""
        return struct.pack(">II", stream, (_FIN if is_last else 0) << 24 | len(data)) + data


def _control(type_: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | _VERSION, type_, flags << 24 | len(body)) + body
