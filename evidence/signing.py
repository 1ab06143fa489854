"""A patch folder signed as OpenSSF Model Signing has it, with the service's key, offline.

The library is imported where it is used: it takes a second or two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from evidence.errors import SignatureInvalid
from evidence.keys import PublicKey, SigningKey

SIGNATURE_NAME: Final = "model.sig"
#: What the library raises for a signature file that is none, however deep or odd.
_NOT_READ: Final = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def sign_folder(folder: Path, key: SigningKey) -> None:
    """``model.sig`` in the folder covers every other file of it; write the model card before."""
    from model_signing import hashing, signing

    files = hashing.Config().use_file_serialization()
    files.set_ignored_paths(paths=[SIGNATURE_NAME], ignore_git_paths=False)
    config = signing.Config().set_hashing_config(files)
    config.use_elliptic_key_signer(private_key=key.path).sign(folder, folder / SIGNATURE_NAME)


def check_folder(folder: Path, key: PublicKey, key_file: Path) -> None:
    """Pass if ``model.sig`` is this key's over exactly these files; else SignatureInvalid.

    ``key_file`` holds the public key's PEM: the library takes keys by their path.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import hashing, verifying

    assert key_file.read_bytes() == key.pem
    # Ours and not the one that the signature names: it would pass over files of git's.
    files = hashing.Config().use_file_serialization()
    files.set_ignored_paths(paths=[SIGNATURE_NAME], ignore_git_paths=False)
    config = verifying.Config().set_hashing_config(files)
    config.use_elliptic_key_verifier(public_key=key_file)
    try:
        config.verify(folder, folder / SIGNATURE_NAME)
    except (*_NOT_READ, InvalidSignature) as error:
        raise SignatureInvalid("the patch folder") from error
