#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""oci-layout.py TREE IMAGE-NAME COMMAND OUT.tar [USER]: packs a directory as a one-layer OCI image.

With a USER the command is the image's entrypoint, and arguments are added to it.

The same tree gives the same bytes: fixed times, owners and order."""

import hashlib
import io
import json
import os
import sys
import tarfile


def add(archive, name, *, data=None, path=None, mode=None):
    if path is not None:
        entry = archive.gettarinfo(path, name)
    else:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        entry.mode = 0o644
    if mode is not None:
        entry.mode = mode
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    if data is not None:
        archive.addfile(entry, io.BytesIO(data))
    elif entry.isreg():
        with open(path, "rb") as content:
            archive.addfile(entry, content)
    else:
        archive.addfile(entry)


def pack_layer(tree):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        paths = []
        for directory, subdirectories, files in os.walk(tree):
            paths += [os.path.join(directory, name) for name in subdirectories + files]
        for path in sorted(paths):
            add(archive, os.path.relpath(path, tree), path=path)
    return layer.getvalue()


def main(tree, image_name, command, out, user=None):
    blobs = {}

    def blob(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def document(value):
        return json.dumps(value, sort_keys=True).encode()

    layer = blob(pack_layer(tree), "application/vnd.oci.image.layer.v1.tar")
    config = blob(
        document({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "WorkingDir": "/"}
            | ({"Entrypoint": [command], "User": user} if user else {"Cmd": [command]}),
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }),
        "application/vnd.oci.image.config.v1+json",
    )
    manifest = blob(
        document({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        }),
        "application/vnd.oci.image.manifest.v1+json",
    )
    # containerd names the image after its own annotation; the OCI one is for other tools.
    manifest["annotations"] = {
        "io.containerd.image.name": image_name,
        "org.opencontainers.image.ref.name": image_name.rpartition(":")[2],
    }
    manifest["platform"] = {"architecture": "amd64", "os": "linux"}

    with tarfile.open(out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "oci-layout", data=document({"imageLayoutVersion": "1.0.0"}))
        add(archive, "index.json", data=document({"schemaVersion": 2, "manifests": [manifest]}))
        for digest in sorted(blobs):
            add(archive, f"blobs/sha256/{digest}", data=blobs[digest])


main(*sys.argv[1:])
