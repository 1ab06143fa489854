"""A job's data key: what a job holds of people is unreadable without it, and gone with it.

The wrapped key lies in the job's row and nowhere else. To delete it is to erase everything that it
sealed, blocks and copies of the blobs that a disk or a backup still holds included.
"""

from __future__ import annotations

import json
import secrets
from typing import Final

from api_schemas.requests import PERSONAL, WITHOUT_PERSONAL, UnlearnRequest
from registry import installation
from registry.installation import KEY_BYTES, Keys

#: How a sealed picture begins. No picture format does.
PICTURE_MARK: Final = b"RAZOR-SEALED-1\n"
_REQUEST: Final = b"request"
_PICTURE: Final = b"picture"


class DataKey:
    """One job's key. Its repr shows nothing."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def random(cls) -> DataKey:
        """A key that no other job has."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def unwrapped(cls, wrapped: bytes, installation: Keys, job_id: str) -> DataKey:
        """The key that lies in the job's row. Raises ``SealBroken``."""
        return cls(installation.unwrap(wrapped, job_id))

    def wrapped(self, installation: Keys, job_id: str) -> bytes:
        """What may lie in the job's row."""
        return installation.wrap(self._secret, job_id)

    def __repr__(self) -> str:
        return "DataKey()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataKey) and secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self._secret)

    def seal_picture(self, picture: bytes) -> bytes:
        """The picture as it may be stored; two sealings of one picture have nothing in common."""
        return PICTURE_MARK + installation.seal(self._secret, picture, _PICTURE)

    def open_picture(self, stored: bytes) -> bytes:
        """The picture. One that was stored in the clear, before there were keys, is as it is.

        Raises ``SealBroken``.
        """
        if not is_picture(stored):
            return stored
        return installation.unseal(self._secret, stored[len(PICTURE_MARK) :], _PICTURE)

    def seal_request(self, request: UnlearnRequest) -> bytes:
        """Whom the request is about, and its free text."""
        part = request.model_dump(mode="json", include=set(PERSONAL))
        return installation.seal(self._secret, json.dumps(part).encode(), _REQUEST)

    def open_request(self, sealed: bytes, rest: UnlearnRequest) -> UnlearnRequest:
        """The whole request, from its sealed part and the rest. Raises ``SealBroken``."""
        part = json.loads(installation.unseal(self._secret, sealed, _REQUEST))
        whole = rest.model_dump(mode="json") | part
        return UnlearnRequest.model_validate(whole, context={WITHOUT_PERSONAL: True})


def is_picture(stored: bytes) -> bool:
    """Whether a blob that begins so is a sealed picture."""
    return stored.startswith(PICTURE_MARK)
