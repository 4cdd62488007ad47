"""What a power cut would take, at its worst: all that was written since the last sync of its file is gone.

A model, for SIGKILL leaves to the kernel what was written: a library that the servers are started with notes what each write
overwrites, until a sync of that file succeeds; after the kill, what is still noted is put back. Directories and their names are
kept as they are, and so is whatever is written through a mapping. A real disk keeps some of what was not synced; which, nobody
knows beforehand. It takes a C compiler.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

RECORD = struct.Struct("=qqq")
"""Before the bytes that were overwritten: where they were, how many there were, and how long the file was."""
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int note_of(const struct stat *file, int flags)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%lu-%lu", getenv("POWER_CUT_NOTES"), (unsigned long)file->st_dev,
             (unsigned long)file->st_ino);
    return open(path, flags | O_CLOEXEC, 0666);
}

/* Note what `size` bytes at `at` are going to overwrite. */
static void note(int fd, int64_t at, int64_t size)
{
    struct stat file;
    if (getenv("POWER_CUT_NOTES") == NULL || fstat(fd, &file) || !S_ISREG(file.st_mode) || size < 0)
        return;
    int64_t there = file.st_size > at ? file.st_size - at : 0;
    if (there > size)
        there = size;
    int64_t head[3] = {at, there, file.st_size};
    char *bytes = malloc(there + 1), name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int from = there ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (there && (from < 0 || pread(from, bytes, there, at) != there))
        abort(); /* a note that is wrong is worse than none */
    if (from >= 0)
        close(from);
    int to = note_of(&file, O_WRONLY | O_CREAT | O_APPEND);
    struct iovec parts[2] = {{head, sizeof head}, {bytes, there}};
    if (to < 0 || REAL(writev)(to, parts, 2) != (ssize_t)sizeof head + there)
        abort();
    fchmod(to, 0666);
    close(to);
    free(bytes);
}

static int synced(int fd, int (*sync)(int))
{
    struct stat file;
    pthread_mutex_lock(&one);
    int result = sync(fd);
    if (!result && getenv("POWER_CUT_NOTES") && !fstat(fd, &file) && S_ISREG(file.st_mode)) {
        int noted = note_of(&file, O_WRONLY | O_TRUNC);
        if (noted >= 0)
            close(noted);
    }
    pthread_mutex_unlock(&one);
    return result;
}

static int64_t sum(const struct iovec *parts, int count)
{
    int64_t size = 0;
    for (int n = 0; n < count; n++)
        size += parts[n].iov_len;
    return size;
}

static int64_t place(int fd)
{
    struct stat file;
    if (fcntl(fd, F_GETFL) & O_APPEND)
        return fstat(fd, &file) ? 0 : file.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

#define NOTED(at, size, call) \
    pthread_mutex_lock(&one); note(fd, at, size); __typeof__(call) result = call; pthread_mutex_unlock(&one); return result

static int a_file(int fd)
{
    struct stat file;
    return !fstat(fd, &file) && S_ISREG(file.st_mode);
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { NOTED(at, n, REAL(pwrite)(fd, b, n, at)); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { NOTED(at, n, REAL(pwrite64)(fd, b, n, at)); }
ssize_t pwritev(int fd, const struct iovec *v, int c, off_t at) { NOTED(at, sum(v, c), REAL(pwritev)(fd, v, c, at)); }
ssize_t pwritev64(int fd, const struct iovec *v, int c, off64_t at) { NOTED(at, sum(v, c), REAL(pwritev64)(fd, v, c, at)); }
ssize_t pwritev2(int fd, const struct iovec *v, int c, off_t at, int f) { NOTED(at, sum(v, c), REAL(pwritev2)(fd, v, c, at, f)); }
ssize_t pwritev64v2(int fd, const struct iovec *v, int c, off64_t at, int f)
{
    NOTED(at, sum(v, c), REAL(pwritev64v2)(fd, v, c, at, f));
}
ssize_t write(int fd, const void *b, size_t n)
{
    if (!a_file(fd)) /* a pipe may wait for its reader */
        return REAL(write)(fd, b, n);
    NOTED(place(fd), n, REAL(write)(fd, b, n));
}
ssize_t writev(int fd, const struct iovec *v, int c)
{
    if (!a_file(fd))
        return REAL(writev)(fd, v, c);
    NOTED(place(fd), sum(v, c), REAL(writev)(fd, v, c));
}
int ftruncate(int fd, off_t size) { NOTED(size, INT64_MAX / 2, REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { NOTED(size, INT64_MAX / 2, REAL(ftruncate64)(fd, size)); }
int fallocate(int fd, int mode, off_t at, off_t size) { NOTED(at, size, REAL(fallocate)(fd, mode, at, size)); }
int fallocate64(int fd, int mode, off64_t at, off64_t size) { NOTED(at, size, REAL(fallocate64)(fd, mode, at, size)); }
int posix_fallocate(int fd, off_t at, off_t size) { NOTED(at, size, REAL(posix_fallocate)(fd, at, size)); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { NOTED(at, size, REAL(posix_fallocate64)(fd, at, size)); }
"""


class PowerCut:
    """The library, and the notes that it takes, in a directory of its own. Raises LookupError without a C compiler."""

    def __init__(self, directory: Path) -> None:
        self.notes = directory / "notes"
        self.notes.mkdir()
        self.notes.chmod(0o777)  # a database server's user notes, too
        source, library = directory / "power_cut.c", directory / "power_cut.so"
        source.write_text(SOURCE)
        try:
            done = subprocess.run(
                ["cc", "-O1", "-shared", "-fPIC", "-pthread", "-o", str(library), str(source), "-ldl"],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            raise LookupError("there is no C compiler") from None
        if done.returncode:
            raise LookupError(f"the C compiler doesn't make it: {done.stderr.strip()[-300:]}")
        preloaded = [str(library), *filter(None, [os.environ.get("LD_PRELOAD")])]
        self.environment = {"LD_PRELOAD": " ".join(preloaded), "POWER_CUT_NOTES": str(self.notes)}

    def cut(self, directory: Path) -> int:
        """Put back what was overwritten in the files below, which nobody has open; how many bytes were never synced."""
        files = {}
        for path in directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found = path.stat()
                files[f"{found.st_dev}-{found.st_ino}"] = path
        undone = 0
        for note in self.notes.iterdir():
            path = files.get(note.name)
            if path is not None:
                undone += _undo(path, note.read_bytes())
            note.unlink()
        return undone


def _undo(path: Path, noted: bytes) -> int:
    """Put back, newest first; how many bytes were written since."""
    records, at = [], 0
    while at + RECORD.size <= len(noted):
        place, length, size = RECORD.unpack_from(noted, at)
        at += RECORD.size
        records.append((place, noted[at : at + length], size))
        at += length
    if not records:
        return 0
    before = path.stat().st_size
    with path.open("r+b", buffering=0) as file:
        for place, content, size in reversed(records):
            file.seek(place)
            file.write(content)
            file.truncate(size)
    return abs(before - records[0][2]) + sum(len(content) for _, content, _ in records)
