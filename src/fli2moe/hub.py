"""A saved folder by its name, here or on the Hugging Face hub, and back to the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fli2moe.errors import InputError, MachineError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class HubOptions:
    """How the hub is asked; nothing of it concerns a local folder.

    Attributes:
        revision: branch, tag or commit; the main branch when None.
        token: of an account that may read the model; the stored one when None.
        cache_dir: where downloads are kept; the hub's usual place when None.
        local_files_only: take what an earlier download left, and never use the network.
    """

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False


def find_pretrained(name: str | Path, files: Sequence[str], options: HubOptions) -> Path:
    """Returns the folder called `name`; only a name that is none here is asked of the hub.

    Args:
        name: a folder, or `owner/name` on the Hugging Face hub.
        files: what is fetched from the hub, and nothing else.
        options: how the hub is asked.

    Raises:
        InputError: when there is no such folder, model or revision.
        MachineError: when the hub cannot be reached or does not deliver.
    """
    try:
        folder = Path(name).expanduser()
        if name != "" and folder.is_dir():
            return folder
    except (OSError, RuntimeError, ValueError):  # too long a name, no such user, a NUL
        pass
    if isinstance(name, Path) or not _HUB_NAME.fullmatch(name):
        expected = "a folder on this machine, or `owner/name` on the Hugging Face hub"
        raise InputError(str(name), "no such folder", expected, "check the path")
    return fetch(name, files, options)


def fetch(name: str, files: Sequence[str], options: HubOptions) -> Path:
    """Downloads the listed files of `owner/name`, those of its subfolders never.

    Raises:
        InputError: when there is no such model or revision.
        MachineError: when the hub cannot be reached or does not deliver.
    """
    import huggingface_hub
    from huggingface_hub import errors

    remedy = "give the path of a local folder instead"
    try:
        # a short timeout: without a network this must fail in seconds
        folder = huggingface_hub.snapshot_download(
            name,
            allow_patterns=[*files],
            ignore_patterns=["*/*"],
            etag_timeout=3,
            **asdict(options),
        )
    except errors.RevisionNotFoundError as error:
        raise InputError(name, f"no revision {options.revision!r}", "one of the hub's") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        expected = "a folder on this machine, or a public model on the Hugging Face hub"
        raise InputError(name, "no such folder or model", expected, "check the name") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        found = "no such folder here, and the Hugging Face hub cannot be reached"
        if options.local_files_only:
            found = "no such folder here, and no earlier download of it"
            remedy = "leave local_files_only out, or " + remedy
        raise MachineError(name, found, "", remedy) from error
    except (errors.HfHubHTTPError, OSError) as error:
        found = f"the Hugging Face hub did not deliver it ({type(error).__name__})"
        raise MachineError(name, found, "", remedy) from error
    return Path(folder)


def upload(
    name: str,
    folder: Path,
    files: Sequence[str],
    *,
    private: bool,
    token: str | bool | None,
    message: str,
) -> str:
    """Uploads the listed files of `folder` to `owner/name`, which is made if need be.

    Returns:
        the address of the model.

    Raises:
        InputError: when the name is none of the hub's, or the account may not write there.
        MachineError: when the hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub import errors

    if not _HUB_NAME.fullmatch(name):
        raise InputError(name, "no name of the Hugging Face hub", "owner/name")
    hub = huggingface_hub.HfApi(token=token)
    try:
        address = hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=[*files], commit_message=message
        )
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            remedy = "log in with `hf auth login`, or give a token that may write"
            found = "the Hugging Face hub does not let this account write here"
            raise InputError(name, found, "", remedy) from error
        found = f"the Hugging Face hub did not take it ({type(error).__name__})"
        raise MachineError(name, found, "", "try again") from error
    except errors.HFValidationError as error:
        raise InputError(name, "no name of the Hugging Face hub", "owner/name") from error
    except (errors.LocalTokenNotFoundError, OSError) as error:
        known = isinstance(error, errors.LocalTokenNotFoundError)
        found = "no token" if known else "the Hugging Face hub cannot be reached"
        remedy = "log in with `hf auth login`" if known else "try again with a network"
        raise MachineError(name, found, "", remedy) from error
    return str(address)
