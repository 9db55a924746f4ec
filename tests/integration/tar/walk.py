"""Lists a directory as the system sees it: one JSON object per entry, paths in hexadecimal.

    walk.py DIRECTORY
"""

import hashlib
import json
import os
import stat
import sys

MOST = 64 << 20


def entry(path, root):
    found = os.lstat(path)
    is_file = stat.S_ISREG(found.st_mode)
    digest = None
    if is_file and found.st_size <= MOST:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    is_device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    is_directory = stat.S_ISDIR(found.st_mode)
    return {
        "path": os.path.relpath(path, root).hex(),
        "mode": found.st_mode,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime": str(found.st_mtime_ns),
        "size": found.st_size if is_file else 0,
        "has_holes": is_file and found.st_blocks * 512 < found.st_size,
        "sha256": digest,
        "link": os.readlink(path).hex() if stat.S_ISLNK(found.st_mode) else None,
        "device": found.st_rdev if is_device else 0,
        "names": 0 if is_directory else found.st_nlink,
    }


root = os.fsencode(sys.argv[1])
paths = [root]
for folder, directories, files in os.walk(root):
    paths += [os.path.join(folder, name) for name in directories + files]
for path in sorted(paths):
    print(json.dumps(entry(path, root)))
