"""Models on a hub: names, downloads and uploads, by huggingface_hub. Weights are safetensors, never pickles."""

import re
from pathlib import Path
from typing import Any

from heteroseg.errors import HeterosegError

PREFIX = "hf://"
FILES = ("config.json", "model.safetensors", "taxonomy.yaml", "label_spaces/*.yaml", "README.md")
_NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w][\w./-]*))?", re.ASCII)


def parse_name(name: str) -> tuple[str, str | None]:
    """'hf://owner/name' or 'hf://owner/name@revision' (the prefix may be left out) to repository and revision."""
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise HeterosegError(
            f"{name}: expected the name of a model on a hub, as hf://owner/name or hf://owner/name@revision; "
            "a folder is named without hf://"
        )
    return match["repo"], match["revision"]


def _reason(error: Exception) -> str:
    """The first line of a message that says something; huggingface_hub puts request ids and hints behind it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .")


def _failures() -> tuple[type[Exception], ...]:
    """What a request may end in: the base of huggingface_hub's own error is that of all errors of its http library."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)), OSError, ValueError)


def download(name: str, revision: str | None = None, **options: Any) -> Path:
    """The folder in huggingface_hub's cache with a model's files, fetched where they are not there yet.

    `options` are those of `huggingface_hub.snapshot_download` (token, cache_dir, local_files_only).
    """
    from huggingface_hub import errors, snapshot_download

    repo, at = parse_name(name)
    revision = revision or at
    unknown = "there is no such model on the hub, or it is private; check the name, or `hf auth login`"
    alone = "the hub cannot be reached and the model is not in the cache; fetch it once with a network"
    reasons = {
        errors.GatedRepoError: "access must be asked for on the hub, then `hf auth login`",
        errors.RepositoryNotFoundError: unknown,
        errors.RevisionNotFoundError: f"the model has no revision {revision!r}; name a branch, tag or commit",
        errors.LocalEntryNotFoundError: alone,
    }  # the first that fits counts: a gated repository is one that was not found, too
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILES), **options))
    except _failures() as error:
        fitting = (reason for kind, reason in reasons.items() if isinstance(error, kind))
        reason = next(fitting, f"could not be fetched, {_reason(error)}")
        raise HeterosegError(f"{PREFIX}{repo}: {reason}") from None


def upload(
    folder: Path,
    name: str,
    private: bool | None = None,
    token: str | None = None,
    message: str = "Upload model",
    create_pr: bool = False,
) -> str:
    """Put a MODEL folder on the hub, in a new repository or as a commit to one that is there; returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    repo, revision = parse_name(name)
    api = HfApi(token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=list(FILES), revision=revision, commit_message=message,
            create_pr=create_pr,
        )  # fmt: skip
    except LocalTokenNotFoundError:
        raise HeterosegError(f"{PREFIX}{repo}: uploading needs an account; `hf auth login`, or give a token") from None
    except _failures() as error:
        raise HeterosegError(f"{PREFIX}{repo}: could not be uploaded, {_reason(error)}") from None
    return str(done.pr_url or f"{api.endpoint}/{repo}")
