"""The text of a file in whatever encoding people save it, compressed or not."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from miaotui.errors import DataError

COMPRESSIONS = (".gz", ".zst")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_COMMON = 0.9
"""Of a Chinese text's characters those that GB2312 has: other bytes read as Chinese have few."""


@dataclass(frozen=True)
class FileText:
    """`notes` say which encoding was found, where it is not UTF-8."""

    text: str
    notes: tuple[str, ...] = ()


def read_text(path: Path) -> FileText:
    """Without its byte order mark. UTF-8, UTF-16 with a mark, or GB18030 (of which GBK and GB2312
    are parts); others are a DataError."""
    raw = _bytes(path)
    if raw.startswith(_UTF16_MARKS):
        try:
            return FileText(raw.decode("utf-16"), (f"{path} is read as UTF-16",))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} begins as UTF-16 and is not (byte {error.start})") from error
    try:
        return FileText(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        chinese = _chinese(raw)
        if chinese is not None:
            return FileText(chinese, (f"{path} is read as GB18030 (GBK)",))
        raise DataError(
            f"{path} is neither UTF-8 (byte {error.start}) nor UTF-16 nor GB18030; convert it "
            f"with: iconv -f ENCODING -t UTF-8 {path.name}"
        ) from error


def file_kind(path: Path) -> str:
    """The extension that says what is in a file, in small letters, a compression's left out."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _bytes(path: Path) -> bytes:
    compression = path.suffix.lower()
    try:
        raw = path.read_bytes()
        if compression == ".gz":
            return gzip.decompress(raw)
        return _unpacked(raw) if compression == ".zst" else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}); copy it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _unpacked(raw: bytes) -> bytes:
    import pyarrow as pa  # costs start-up time, which plain files do not need

    with pa.CompressedInputStream(pa.BufferReader(raw), "zstd") as stream:
        return stream.read()  # type: ignore[no-any-return]


def _chinese(raw: bytes) -> str | None:
    try:
        text = raw.decode("gb18030")
    except UnicodeDecodeError:
        return None
    beyond = [character for character in text if not character.isascii()]
    common = sum(bool(character.encode("gb2312", "ignore")) for character in beyond)
    return text if common >= _COMMON * len(beyond) else None
