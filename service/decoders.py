"""The processes that decode pictures: a few kept warm, each replaced once it dies or hangs.

What a decoder says is no more trusted than the pictures it was given: its answers have sizes and
a deadline, and what it makes is checked to be a plain PNG file (:mod:`service.plain_png`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from registry.settings import Settings
from service import decoding
from service.errors import DecoderUnavailable

#: Turning a large picture and leaving its transparency out holds six copies of it at once (read
#: in Pillow's code), at four bytes for each pixel; two more to spare.
_BYTES_PER_PIXEL: Final = 8 * 4
#: What the interpreter and the libraries need themselves; measured 20 MB, the rest is for arenas.
_BASE_BYTES: Final = 96 * 2**20
#: For one picture. The largest allowed, 40 megapixels, take about 4 s (measured, one slow core).
CPU_SECONDS: Final = 20
#: The same on the clock, where others want the processor too.
WALL_SECONDS: Final = 60.0
#: A decoder that served so many batches makes place for a new one: memory gets into pieces.
_BATCHES: Final = 500
_CHUNK_BYTES: Final = 2**18
#: No code of a flaw is longer.
_CODE_BYTES: Final = 64
_PROGRAM: Final = str(Path(decoding.__file__).resolve())
#: Without it some interpreters do not start; it is no secret.
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH",)


class DecoderLost(Exception):
    """The decoder died; ``number`` is the picture it was at, None while it was given them."""

    def __init__(self, number: int | None) -> None:
        super().__init__(number)
        self.number = number


class DecoderSlow(DecoderLost):
    """The decoder took too long for a picture, or too much processor time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a picture's header says."""

    width: int
    height: int
    still: bool


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a picture cannot be used: a code of ``service.intake.FLAWS``."""

    code: str


class Decoder:
    """One process. Its methods follow each other as in the batch that ``service.decoding`` tells.

    Every method raises ``DecoderLost`` when the process is gone, and ``DecoderSlow`` when it takes
    longer than ``wall_seconds``; then it is of no use any more.
    """

    def __init__(self, memory_bytes: int, cpu_seconds: int, wall_seconds: float) -> None:
        ours, theirs = socket.socketpair()
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", _PROGRAM, str(memory_bytes), str(cpu_seconds)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env=kept,
                    # Ctrl-C in a terminal is for the service; it ends its decoders itself.
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise DecoderUnavailable from None
        self._link = ours
        self._wall_seconds = wall_seconds
        self._until = 0.0
        self._number: int | None = None
        self.batches = 0

    def send(self, pictures: Sequence[BinaryIO]) -> None:
        """Hand over the pictures of one batch."""
        self.batches += 1
        self._begin(None)
        self._send(decoding.NUMBER.pack(len(pictures)))
        for picture in pictures:
            size = picture.seek(0, os.SEEK_END)
            picture.seek(0)
            self._send(decoding.NUMBER.pack(size))
            while chunk := picture.read(_CHUNK_BYTES):
                self._send(chunk)
        # Whoever dies before this is not to be blamed on a picture.
        self._expect(self._answer(0)[0] == decoding.TAKEN)

    def look(self) -> Seen | Flaw:
        """What the next picture's header says."""
        self._begin(self._next())
        kind, content = self._answer(decoding.SEEN.size)
        if kind == decoding.FLAW:
            return self._flaw(content)
        self._expect(kind == decoding.HEADER and len(content) == decoding.SEEN.size)
        return Seen(*decoding.SEEN.unpack(content))

    def go_on(self, *, decode: bool) -> None:
        """After all headers: whether the pictures are decoded, or the batch ends here."""
        self._begin(None)
        self._send(decoding.GO if decode else decoding.STOP)

    def clean_into(self, target: BinaryIO, max_bytes: int) -> Flaw | None:
        """Write the next picture, clean, as a PNG file."""
        self._begin(self._next())
        while True:
            kind, content = self._answer(max_bytes)
            if kind == decoding.DATA:
                max_bytes -= len(content)
                target.write(content)
            elif kind == decoding.FLAW:
                return self._flaw(content)
            else:
                self._expect(kind == decoding.END)
                return None

    def lied(self) -> DecoderLost:
        """What to raise where something that it said shows to be false."""
        return self._lost(None)

    def end(self) -> None:
        """The process is gone; safe to call again."""
        self.process.kill()
        self.process.wait()
        self._link.close()

    def _next(self) -> int:
        return 0 if self._number is None else self._number + 1

    def _begin(self, number: int | None) -> None:
        self._number = number
        self._until = time.monotonic() + self._wall_seconds

    def _wait(self) -> None:
        """Let the next call on the link wait until the deadline and no longer."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise DecoderSlow(self._number)
        self._link.settimeout(left)

    def _send(self, data: bytes) -> None:
        self._wait()
        try:
            self._link.sendall(data)
        except OSError as exc:
            raise self._lost(exc) from None

    def _answer(self, max_bytes: int) -> tuple[bytes, bytes]:
        kind, size = decoding.ANSWER.unpack(self._read(decoding.ANSWER.size))
        self._expect(size <= max(max_bytes, _CODE_BYTES))
        return kind, self._read(size)

    def _read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            self._wait()
            try:
                piece = self._link.recv(min(size - len(found), _CHUNK_BYTES))
            except OSError as exc:
                raise self._lost(exc) from None
            self._expect(bool(piece))
            found += piece
        return bytes(found)

    def _flaw(self, content: bytes) -> Flaw:
        code = content.decode("ascii", "replace")
        self._expect(code in decoding.CODES)
        return Flaw(code)

    def _expect(self, fits: bool) -> None:
        if not fits:
            raise self._lost(None)

    def _lost(self, exc: OSError | None) -> DecoderLost:
        if isinstance(exc, TimeoutError):
            return DecoderSlow(self._number)
        self.process.kill()
        slow = self.process.wait() == -signal.SIGXCPU
        return (DecoderSlow if slow else DecoderLost)(self._number)


class Decoders:
    """Hands decoders out, one to a caller at a time, and keeps them for the next.

    As many run as there are callers at once, so the callers are bounded elsewhere. Shared by
    threads.
    """

    def __init__(
        self,
        memory_bytes: int,
        cpu_seconds: int = CPU_SECONDS,
        wall_seconds: float = WALL_SECONDS,
    ) -> None:
        self._limits = (memory_bytes, cpu_seconds, wall_seconds)
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._closed = False

    @classmethod
    def of(cls, settings: Settings) -> Decoders:
        """With memory for the largest picture and the largest body that the operator allows."""
        pixels = settings.max_image_pixels
        return cls(_BASE_BYTES + settings.max_body_bytes + _BYTES_PER_PIXEL * pixels)

    def warm(self, count: int) -> None:
        """Start so many, without waiting for them."""
        for _ in range(count):
            self._keep(Decoder(*self._limits))

    @contextmanager
    def borrowed(self) -> Iterator[Decoder]:
        """A decoder for one batch. Raises ``DecoderUnavailable`` when none can be started."""
        decoder = self._take() or Decoder(*self._limits)
        try:
            yield decoder
        except BaseException:
            # In the middle of a batch: nobody knows what it would say next.
            decoder.end()
            raise
        self._keep(decoder)

    def close(self) -> None:
        """No decoder is left, but those that are at work: they end when given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.end()

    def _take(self) -> Decoder | None:
        with self._lock:
            while self._idle:
                decoder = self._idle.pop()
                if decoder.process.poll() is None:
                    return decoder
                decoder.end()
        return None

    def _keep(self, decoder: Decoder) -> None:
        with self._lock:
            if not self._closed and decoder.batches < _BATCHES:
                self._idle.append(decoder)
                return
        decoder.end()
