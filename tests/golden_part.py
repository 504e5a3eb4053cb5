#!/usr/bin/env python3
"""Copies the part of a set of golden values that the suites carry: golden_part.py SET TARGET

SET is a folder with manifest.json, TARGET becomes a folder of the same layout whose manifest lists the cases and files
that are there. Files are copied as they are, but for the float64 arrays under ROUNDED: they become float32, half as
large (the suites compare these networks in float32). PART names what is taken.
"""
import array
import ast
import fnmatch
import hashlib
import json
import os
import shutil
import sys

# For each set rows of (kind, pattern of ids).
PART = {
    "public/text": [
        ("layer", "layers/embedding_padding*"),
        ("layer", "layers/layernorm_*"),
        ("layer", "layers/conv1d_*"),
        ("layer", "layers/maxpool1d_*"),
        ("layer", "layers/global_maxpool1d_*"),
        ("network_small", "networks/news_cnn_*"),
        ("network_small", "networks/treelstm_*"),
        ("newsgroups_text", "*"),
        ("sst_text", "*"),
    ],
}
# Folders of which all files are taken: a file that the manifest names there names others.
WHOLE = {"public/text": ["newsgroups/"]}
ROUNDED = {"public/text": []}


def files_of(roles):
    """All paths in a table of roles, which may hold tables and lists."""
    if isinstance(roles, str):
        return [roles]
    children = roles.values() if isinstance(roles, dict) else roles if isinstance(roles, list) else []
    return [path for child in children for path in files_of(child)]


def round_to_float32(path):
    """The .npy file `path` with <f8 turned into <f4; None for a file of another type."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:8] != b"\x93NUMPY\x01\x00":
        return None
    start = 10 + int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10:start].decode())
    if header["descr"] != "<f8":
        return None
    values = array.array("d", data[start:])
    header["descr"] = "<f4"
    text = repr(header)
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return data[:8] + len(text).to_bytes(2, "little") + text.encode() + array.array("f", values).tobytes()


def copy_file(source, target, path, rounded):
    """Copies one file and returns what the manifest says of it."""
    os.makedirs(os.path.dirname(os.path.join(target, path)), exist_ok=True)
    to = os.path.join(target, path)
    data = round_to_float32(os.path.join(source, path)) if rounded and path.endswith(".npy") else None
    if data is None:
        shutil.copyfile(os.path.join(source, path), to)
    else:
        with open(to, "wb") as file:
            file.write(data)
    os.chmod(to, 0o644)
    with open(to, "rb") as file:
        data = file.read()
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if path.endswith(".npy"):
        header = ast.literal_eval(data[10:10 + int.from_bytes(data[8:10], "little")].decode())
        names = {"<f4": "float32", "<f8": "float64", "<i8": "int64", "|u1": "uint8"}
        entry = {"dtype": names[header["descr"]], "shape": list(header["shape"])} | entry
    return entry


def is_taken(case, rows):
    return any(case["kind"] == kind and fnmatch.fnmatchcase(case["id"], pattern) for kind, pattern in rows)


def main():
    source, target = sys.argv[1:]
    with open(os.path.join(source, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    name = manifest["set"]
    cases = [case for case in manifest["cases"] if is_taken(case, PART[name])]
    paths = {path for case in cases for path in files_of(case["inputs"]) + files_of(case["expected_files"])}
    paths |= {path for path in manifest["files"] if path.startswith(tuple(WHOLE[name]))}
    files = {path: copy_file(source, target, path, path.startswith(tuple(ROUNDED[name]))) for path in sorted(paths)}
    kinds = {}
    for case in cases:
        kinds[case["kind"]] = kinds.get(case["kind"], 0) + 1
    manifest |= {"kinds": kinds, "cases": None, "files": None}
    with open(os.path.join(target, "manifest.json"), "w", encoding="utf-8") as file:
        # One case and one file a line: a change shows in a comparison of versions.
        dense = {"ensure_ascii": False, "separators": (",", ":")}
        file.write("{\n")
        for key, value in manifest.items():
            if value is not None:
                file.write(f"{json.dumps(key)}: {json.dumps(value, **dense)},\n")
        file.write('"cases": [\n' + ",\n".join(json.dumps(case, **dense) for case in cases) + "\n],\n")
        lines = (f"{json.dumps(path)}: {json.dumps(entry, **dense)}" for path, entry in files.items())
        file.write('"files": {\n' + ",\n".join(lines) + "\n}\n}\n")
    print(f"{len(cases)} cases, {len(files)} files, {sum(entry['bytes'] for entry in files.values())} bytes")


if __name__ == "__main__":
    main()
