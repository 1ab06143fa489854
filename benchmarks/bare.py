"""A bare FastAPI application that carries the same bytes: what the service is measured against.

``python -m benchmarks.bare``: the folder that ``BARE_FOLDER`` names holds ``view.json``, which
every answer about a job is, and ``patch``, which is downloaded. The server is set as ours is.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import FileResponse, Response, StreamingResponse

PORT, FOLDER, DATABASE = "BARE_PORT", "BARE_FOLDER", "BARE_DATABASE"


def make_app(folder: Path) -> FastAPI:
    """The application; every route is as short as it can be."""
    app = FastAPI()
    view = (folder / "view.json").read_bytes()
    rows = sqlite3.connect(folder / "bare.db", check_same_thread=False, isolation_level=None)
    for line in (
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE jobs (id, body)",
    ):
        rows.execute(line)

    @app.post("/carried", status_code=202)
    async def carried(request: Request) -> Response:
        """Take the body apart and answer: the same bytes on the wire, and nothing else."""
        async with request.form() as form:
            assert len(form.getlist("samples"))
        return Response(view, 202, media_type="application/json")

    @app.post("/kept", status_code=202)
    async def kept(request: Request) -> Response:
        """The same bytes on the disk as well: each picture re-encoded and synced, one row."""
        async with request.form() as form:
            await run_in_threadpool(keep, form)
        return Response(view, 202, media_type="application/json")

    def keep(form: FormData) -> None:
        for part in form.getlist("samples"):
            assert isinstance(part, UploadFile)
            temporary = folder / uuid.uuid4().hex
            with Image.open(part.file) as image, temporary.open("wb") as file:
                image.convert("RGB").save(file, "PNG", compress_level=1)
                file.flush()
                os.fsync(file.fileno())
            with temporary.open("rb") as written:
                digest = hashlib.file_digest(written, "sha256").hexdigest()
            temporary.rename(folder / digest)
        rows.execute("INSERT INTO jobs VALUES (?, ?)", (uuid.uuid4().hex, view))

    @app.get("/jobs/{job_id}")
    async def job(job_id: str) -> Response:
        """The same bytes on the wire, and nothing else."""
        return Response(view, media_type="application/json")

    read = reader(folder, view)

    @app.get("/rows/{job_id}")
    def row(job_id: str) -> Response:
        """The same bytes out of a row of the same database, found by its key."""
        return Response(read(job_id), media_type="application/json")

    @app.get("/patch")
    async def patch() -> Response:
        return FileResponse(folder / "patch")

    @app.get("/events")
    async def events() -> Response:
        return StreamingResponse(silence(), media_type="text/event-stream")

    return app


def reader(folder: Path, view: bytes) -> Callable[[str], bytes]:
    """Reads a row of one table, with a connection for each thread and the driver alone."""
    held = threading.local()
    url = os.environ.get(DATABASE)

    def connected() -> Any:
        if url is None:
            return sqlite3.connect(folder / "rows.db", isolation_level=None)
        return psycopg.connect(url, autocommit=True)

    rows = connected()
    rows.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, body TEXT)")
    rows.execute(f"INSERT INTO rows VALUES ('1', '{view.decode()}')")
    rows.close()

    def read(job_id: str) -> bytes:
        if not hasattr(held, "rows"):
            held.rows = connected()
        mark = "?" if url is None else "%s"
        found = held.rows.execute(f"SELECT body FROM rows WHERE id = {mark}", (job_id,)).fetchone()
        return str(found[0]).encode()

    return read


async def silence() -> AsyncIterator[bytes]:
    """A stream on which nothing happens but that it is kept alive."""
    while True:
        yield b": ping\n\n"
        await asyncio.sleep(15)


def main() -> None:
    """Serve until told to stop."""
    uvicorn.run(
        make_app(Path(os.environ[FOLDER])),
        port=int(os.environ[PORT]),
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
