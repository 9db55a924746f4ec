"""Writes a tar with Python's tarfile.

    write.py ARCHIVE FORMAT          # ustar, gnu, pax

Headers that no tree of files brings about: large numbers, global records, names that occur twice.
"""

import io
import sys
import tarfile

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
path, name = sys.argv[1:]
kind = FORMATS[name]
is_long = name != "ustar"
globals_ = {"comment": "of all members", "gname": "global group"} if name == "pax" else None


def member(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, io.BytesIO(content)


members = [
    member("plain", b"plain content", mode=0o640, mtime=1234567890, uid=1000, gid=1001, uname="user", gname="group"),
    member("twice", b"first"),
    member("twice", b"second, longer"),
    member("x" * 99 + "/" + "y" * 90, b"prefix"),
    member("x" * 100, b"one hundred"),
    member("directory", type=tarfile.DIRTYPE, mode=0o1777),
    member("hard", type=tarfile.LNKTYPE, linkname="plain"),
    member("soft", type=tarfile.SYMTYPE, linkname="../" * 30),
    member("pipe", type=tarfile.FIFOTYPE),
    member("tty", type=tarfile.CHRTYPE, devmajor=5, devminor=1),
    member("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0o177),
    member("contiguous", b"old", type=tarfile.CONTTYPE),
    member("setuid", b"s", mode=0o6755),
]
if is_long:
    members += [
        member("z" * 101, b"a hundred and one"),
        member("z" * 255, b"255"),
        member("z" * 256, b"256"),
        member("/".join(["deep"] * 700), b"3499 bytes"),
        member("link of 101", type=tarfile.SYMTYPE, linkname="t" * 101),
        member("hard link of 256", type=tarfile.LNKTYPE, linkname="z" * 256),
        member("ünïcödé/日本語/\U0001f4e6", b"unicode", uname="müller", gname="グループ"),
        member("not utf-8 \udcff\udc80", b"bytes"),
        member("large uid", b"1", uid=3_000_000_000, gid=4_294_967_294),
        member("large time", b"2", mtime=2**40),
        member("before 1970", b"3", mtime=-86400 * 365 * 30),
        member("fraction", b"4", mtime=1350244992.023960108),
        member("negative fraction", b"5", mtime=-1.5),
    ]
with tarfile.open(path, "w", format=kind, encoding="utf-8", errors="surrogateescape", pax_headers=globals_) as archive:
    for info, content in members:
        archive.addfile(info, content)
