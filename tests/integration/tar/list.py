"""Lists a tar as Python's tarfile reads it: one JSON object per member, bytes in hexadecimal.

    list.py ARCHIVE
"""

import hashlib
import json
import os
import sys
import tarfile

KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.LNKTYPE: "hardlink",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.DIRTYPE: "dir",
    tarfile.FIFOTYPE: "fifo",
}
# what is read to be hashed
MOST = 64 << 20


def nanos(member):
    """The time as whole nanoseconds, from the text of the record: tarfile makes it a float."""
    text = member.pax_headers.get("mtime")
    if not text:
        return int(member.mtime) * 10**9
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.lstrip("-").partition(".")
    return sign * (int(whole) * 10**9 + int((fraction + "0" * 9)[:9]))


def entry(archive, member):
    is_file = member.isreg()
    digest = None
    if is_file and member.size <= MOST:
        digest = hashlib.sha256(archive.extractfile(member).read()).hexdigest()
    is_device = member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE)
    sparse = member.sparse
    # of a sparse file with a long name, tarfile shows the made-up one in its `path` record
    name = member.pax_headers.get("GNU.sparse.name", member.name)
    return {
        "path": os.fsencode(name).hex(),
        "kind": KINDS.get(member.type, "other"),
        "size": member.size if is_file else 0,
        "mode": member.mode & 0o7777,
        "uid": member.uid,
        "gid": member.gid,
        "uname": os.fsencode(member.uname).hex(),
        "gname": os.fsencode(member.gname).hex(),
        "mtime": str(nanos(member)),
        "link": os.fsencode(member.linkname).hex() if member.issym() or member.islnk() else "",
        "device": [member.devmajor, member.devminor] if is_device else [0, 0],
        "header_offset": member.offset,
        "data_offset": member.offset_data,
        "sparse": None if sparse is None else [list(pair) for pair in sparse if pair[1]],
        "sha256": digest,
    }


with tarfile.open(sys.argv[1], "r:", encoding="utf-8", errors="surrogateescape") as archive:
    for member in archive:
        print(json.dumps(entry(archive, member)))
