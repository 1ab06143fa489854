"""Points at which a test makes a process stand still, to kill it, or something near it, just there.

``RAZOR_FAILPOINT_FOLDER`` arms them, when the process starts and in no other way: no setting, no
request and no row does. Unset, as it always is but in tests, reaching a point costs one look at a
variable that is None. Set, the protocol is files in that folder:

- ``<point>.armed``, made by the test: the next process to come by stands still, and it alone;
- ``<point>.here``, made of it by that process, holds its id: "I am here". It stands until it is
  killed, or until the test deletes the file, which means "go on".
"""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Final

VARIABLE: Final = "RAZOR_FAILPOINT_FOLDER"
_LOOK_SECONDS: Final = 0.01


class Point(StrEnum):
    """Where a crash leaves things half done.

    ``BEFORE_RENAME`` is met in a bucket too: right before an object appears, which nothing renames
    there, whether it is sent whole or its last part has been.
    """

    AFTER_ACCEPT = "after_accept"  # front: the job is committed, its 202 is not sent
    DURING_RELAY = "during_relay"  # front: the wake-up is with the broker, its row still says no
    BEFORE_RENAME = "before_rename"  # front and worker: the bytes are on the disk, without a name
    AFTER_CLAIM = "after_claim"  # worker: the lease is taken, nothing is begun
    MID_EDIT = "mid_edit"  # worker: weights in memory are being changed
    BEFORE_COMMIT = "before_commit"  # worker: patch, version and state are written, not committed
    BEFORE_ACK = "before_ack"  # worker: the job has ended, the broker has not been told


def _armed() -> Path | None:
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


_folder = _armed()


def reach(point: Point) -> None:
    """Returns at once, unless a test has armed this point: then when the test says so, if ever."""
    if _folder is not None:
        _stand_still(_folder, point)


def _stand_still(folder: Path, point: Point) -> None:
    here = folder / f"{point}.here"
    try:
        (folder / f"{point}.armed").rename(here)
    except FileNotFoundError:  # not armed, or another process was here first
        return
    # The name comes first and the id second: whoever reads waits for a whole one.
    here.write_text(f"{os.getpid()}\n")
    while here.exists():
        time.sleep(_LOOK_SECONDS)
