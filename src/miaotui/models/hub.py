"""Models of the Hugging Face hub, by way of its own cache: what is there needs no network."""

from pathlib import Path

from miaotui.errors import ModelError, first_line

_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model")


def hub_folder(name: str, revision: str | None) -> Path:
    """The folder of one commit in the cache, downloaded where the hub can be reached; else what the
    cache has of the revision. No network and nothing in the cache are a ModelError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # The HTTP library's own base differs by version; a proxy that refuses raises a kind of it.
    kinds = [kind for kind in HfHubHTTPError.__mro__ if issubclass(kind, Exception)]
    transport = next(kind for kind in kinds if kind.__name__ == "HTTPError")

    def snapshot(local: bool) -> Path:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(_PATTERNS), local_files_only=local
            )
        )

    try:
        try:
            folder = snapshot(local=False)
        except HfHubHTTPError:
            raise
        except transport:
            folder = snapshot(local=True)
    except LocalEntryNotFoundError as error:
        raise _absent(name, revision) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = first_line(error)
        raise ModelError(f"{name} is not a folder and not a model on the hub: {reason}") from error
    _refuse_part(folder, name)
    return folder


def _absent(name: str, revision: str | None) -> ModelError:
    from huggingface_hub.constants import HF_HUB_CACHE

    what = name if revision is None else f"{name} at revision {revision}"
    return ModelError(
        f"{what} is not a folder and not whole in the hub's cache ({HF_HUB_CACHE}), and the hub "
        "cannot be reached or is switched off (HF_HUB_OFFLINE); give the path of a model folder, "
        "or run this once with a network"
    )


def _refuse_part(folder: Path, name: str) -> None:
    if any(folder.glob("*.safetensors")):
        return
    raise ModelError(
        f"{name} has no weights in safetensors in the hub's cache ({folder}): its download was not "
        "finished (run this with a network), or the hub has pickled ones alone, which can run code "
        "when opened"
    )
