"""Recovery: makes an examined journal safe to serve and to append to.

It is what an opening writes before it serves anything.

`journal.file.examine` has said what is proven, what is torn and what lacks its newline; nothing here is done to damage.

- A linked record that verifies is never cut, whether or not it was acknowledged: an append in flight when the process died
  is undetermined, and keeping it is one of its two outcomes. If only its newline is wrong, that is restored.
- After a failed sync the page cache may show bytes that the disk never got, marked clean. So before anything of the unproven
  tail is adopted, it is **rewritten over itself and synced**: what is then served is on the medium.
- Every step can be cut by a crash and done again: the torn bytes are saved under a name made of segment, offset and hash
  before they are cut; the cut is synced before anything is appended.
"""

from __future__ import annotations

from pathlib import Path

from journal.file.examine import Examination
from journal.file.files import Files, read_all, write_all
from journal.file.segment import name_of
from journal.file.torn import save_torn


def repair_end(files: Files, directory: Path, found: Examination) -> None:
    """Make an examined journal without damage safe to adopt and append to. Raises OSError.

    Order, and why: (1) the torn bytes are saved, name and content synced, so cutting loses nothing that a person may want;
    (2) newlines are restored and the unproven tail is rewritten over itself; (3) the tail is cut; (4) one sync makes 2 and 3
    durable before the caller appends or serves; (5) the directory is synced, for a name whose rename may not be durable yet.
    A crash between any two leaves a journal that examines to the same records.
    """
    if found.header is None:
        return
    path = directory / name_of(found.segment)
    fd = files.open(path, write=True)
    try:
        if found.torn is not None:
            save_torn(files, directory, fd, found.torn)
        for offset in found.newlines:
            write_all(files, fd, b"\n", offset)
        if found.end > found.unproven_from:
            rewrite(files, fd, found.unproven_from, found.end)
        if files.size(fd) > found.end:
            files.truncate(fd, found.end)
        files.fdatasync(fd)
    finally:
        files.close(fd)
    files.fsync_dir(directory)


def rewrite(files: Files, fd: int, start: int, end: int, chunk: int = 1 << 20) -> None:
    """Write bytes over themselves, so that pages a failed sync left marked clean are dirty again, and the next sync is real."""
    while start < end:
        data = read_all(files, fd, start, min(end, start + chunk))
        if not data:
            break
        write_all(files, fd, data, start)
        start += len(data)


def remove_drafts(files: Files, directory: Path) -> None:
    """Remove `.tmp` files: those that a crash kept from being published. Nothing refers to them."""
    drafts = [name for name in files.listdir(directory) if name.endswith(".tmp")]
    for name in drafts:
        files.unlink(directory / name)
    if drafts:
        files.fsync_dir(directory)
