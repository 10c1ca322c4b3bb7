"""Files that appear under their name only when complete."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fli2moe.errors import InputError, MachineError

if TYPE_CHECKING:
    from torch import Tensor


PARTIAL = ".partial"
"""End of the name of a file that is being written."""
HOLDER = ".in-use"
"""In a locked folder: which process works on it, for the message that others get."""


@contextlib.contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder that becomes `path` when the block ends well.

    The file is flushed to disk before it is renamed, and the folder after, so that neither a kill
    nor a power cut leaves half a file under the final name.

    Raises:
        MachineError: when the folder cannot be written, or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name[:100]}.", suffix=PARTIAL
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError(
            str(path), f"cannot write: {reason}", "", "free space or rights"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds a folder that exists, so that no second process works on it at the same time.

    What killed writers left half-written in it is removed first. The system gives the lock back
    when the process ends, however it ends: there are no stale ones. Nothing is locked where the
    system has no such locks.

    Args:
        folder: what is held.
        wait: until another process is done with it, instead of an error.

    Raises:
        MachineError: when another process holds it; it says which.
    """
    try:
        import fcntl
    except ImportError:  # not a Unix
        yield
        return
    handle, note = os.open(folder, os.O_RDONLY), folder / HOLDER
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            remedy = "wait for it, or choose another folder"
            found = f"another fli2moe process works on it{_holder(note)}"
            raise MachineError(str(folder), found, "", remedy) from None
        except OSError:  # a file system without locks
            pass
        try:
            with contextlib.suppress(OSError):  # what cannot be written says so where it matters
                for left in (*folder.glob(f".*{PARTIAL}"), *folder.glob(f"*/.*{PARTIAL}")):
                    left.unlink(missing_ok=True)
                now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
                who = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
                note.write_text(json.dumps(who), encoding="utf-8")
            yield
        finally:
            with contextlib.suppress(OSError):
                note.unlink()
    finally:
        os.close(handle)


def _holder(note: Path) -> str:
    try:
        who = json.loads(note.read_text(encoding="utf-8"))
        return f": {who['process']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write in it, so that a long job fails before it starts.

    Raises:
        MachineError: when it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "choose another folder, or mend its rights"
        raise MachineError(str(folder), f"cannot write: {reason}", "a folder", remedy) from None


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file, complete or not at all."""
    with complete_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Writes JSON with a final line break, complete or not at all; NaN is refused."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file, with texts in its header if any, complete or not at all.

    Raises:
        MachineError: when the folder cannot be written, or the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with complete_file(path) as temporary:
        try:
            kept = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
            save_file(kept, temporary, None if about is None else dict(about))
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from None


def read_json(path: Path, remedy: str = "") -> Any:
    """Reads a JSON file.

    Args:
        path: the file.
        remedy: what to do when it is missing or damaged; part of the message.

    Raises:
        InputError: when it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "a JSON file", remedy) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(str(path), f"not readable: {error}", "a JSON file", remedy) from None


def json_digest(**of: Any) -> str:
    """Returns the sha256 of values as hex, the same for equal JSON; others count as they print."""
    return hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Returns the sha256 of a file's bytes as hex, read once in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
