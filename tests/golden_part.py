#!/usr/bin/env python3
"""Copies the part of a set of golden values that the suites carry: golden_part.py SET TARGET

SET is a folder with manifest.json, TARGET becomes a folder of the same layout whose manifest lists the cases and files
that are there. Files are copied as they are, with three exceptions that halve the size: float64 arrays under ROUNDED
become float32 (the suites compare these networks in float32), of gradients of losses the first rows are taken, GRADIENTS
numbers at most (the manifest has the norm of all), and the roles in LEFT_OUT are not taken. PART names the cases.
"""
import array
import ast
import fnmatch
import hashlib
import json
import math
import os
import sys

# For each set rows of (kind, pattern of ids).
PART = {
    "public": [
        ("logits", "*"),
        ("loss", "*"),
        ("loss_schedule", "*"),
        ("gamma", "*"),
        ("gamma_schedule", "*"),
        ("metrics", "*"),
        ("temperature", "temperature/k10_*"),
        ("ood", "ood/k10_*"),
        ("ood", "ood/all_equal"),
        ("ood", "ood/separated"),
        ("optimizer", "*"),
        ("lr_schedule", "*"),
        ("layer", "layers/conv*"),
        ("layer", "layers/batchnorm*"),
        ("layer", "layers/*pool*"),
        ("layer", "layers/linear"),
        ("layer", "layers/relu"),
        ("layer", "layers/layernorm"),
        ("layer", "layers/log_softmax"),
        ("layer", "layers/embedding*"),
        ("layer", "layers/treelstm*"),
        ("network_small", "*"),
        ("training_trace", "*"),
        ("network_inventory", "*"),
        ("data_split", "*"),
    ],
    "public/text": [
        ("layer", "layers/embedding_*"),
        ("layer", "layers/layernorm_*"),
        ("layer", "layers/mha_*"),
        ("layer", "layers/position*"),
        ("layer", "layers/tied_*"),
        ("layer", "layers/conv1d_*"),
        ("layer", "layers/maxpool1d_*"),
        ("layer", "layers/global_maxpool1d_*"),
        ("network_small", "networks/news_cnn_*"),
        ("network_small", "networks/treelstm_*"),
        ("newsgroups_text", "*"),
        ("sst_text", "*"),
    ],
    "public/study": [
        ("data", "data/k10_votes"),
        ("data", "data/k3_under"),
        ("recalibration", "recalibration/k3_under/*"),
        ("recalibration", "recalibration/tiny_rules/*"),
        ("recalibration", "recalibration/k10_votes/*"),
        ("recalibration", "recalibration/k10_missing/*"),
        ("recalibration", "recalibration/k2_beta_bound/*"),
        ("smooth_ece", "smooth_ece/k10_votes"),
        ("smooth_ece", "smooth_ece/k3_under"),
        ("kernel_calibration_error", "kernel/k10_votes"),
        ("kernel_calibration_error", "kernel/k3_calibrated_labels_shifted"),
        ("brier_decomposition", "brier/k10_votes"),
        ("brier_decomposition", "brier/k3_under"),
        ("consistency_bars", "consistency/k10_votes"),
        ("verified_calibration", "verified/k10_votes"),
        ("verified_calibration", "verified/k3_under"),
        ("theory_g", "*"),
        ("theory_minimiser", "*"),
        ("theory_gamma", "*"),
        ("gradient_norms", "gradient_norms/k2"),
    ],
}
# Folders of which all files are taken: a file that the manifest names there names others.
WHOLE = {"public": [], "public/text": ["newsgroups/"], "public/study": []}
ROUNDED = {"public": ["networks/"], "public/text": [], "public/study": []}
GRADIENTS = 1280
# (pattern of ids, role)
LEFT_OUT = [
    ("networks/small/resnet_bottleneck", "grads_eval_ce_mean"),
    ("networks/small/wide_resnet", "grads_eval_ce_mean"),
    ("ood/*", "entropy_f64"),
    ("ood/*", "confidence_f64"),
]


def files_of(roles):
    """All paths in a table of roles, which may hold tables and lists."""
    if isinstance(roles, str):
        return [roles]
    children = roles.values() if isinstance(roles, dict) else roles if isinstance(roles, list) else []
    return [path for child in children for path in files_of(child)]


def read_npy(data):
    """The header of an .npy file of version 1.0, and where its numbers begin."""
    start = 10 + int.from_bytes(data[8:10], "little")
    return ast.literal_eval(data[10:start].decode()), start


def npy(header, numbers):
    text = repr(header)
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + numbers


def rounded_to_float32(data):
    header, start = read_npy(data)
    if header["descr"] != "<f8":
        return data
    return npy(header | {"descr": "<f4"}, array.array("f", array.array("d", data[start:])).tobytes())


def first_rows(data):
    header, start = read_npy(data)
    row = math.prod(header["shape"][1:])
    shape = (min(header["shape"][0], GRADIENTS // row),) + header["shape"][1:]
    return npy(header | {"shape": shape}, data[start:start + math.prod(shape) * int(header["descr"][2:])])


def copy_file(source, target, path, rounded):
    """Copies one file and returns what the manifest says of it."""
    os.makedirs(os.path.dirname(os.path.join(target, path)), exist_ok=True)
    with open(os.path.join(source, path), "rb") as file:
        data = file.read()
    if rounded and path.endswith(".npy"):
        data = rounded_to_float32(data)
    if fnmatch.fnmatchcase(path, "loss/*.grad.npy"):
        data = first_rows(data)
    with open(os.path.join(target, path), "wb") as file:
        file.write(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if path.endswith(".npy"):
        header, _ = read_npy(data)
        names = {"<f4": "float32", "<f8": "float64", "<i8": "int64", "|u1": "uint8"}
        entry = {"dtype": names[header["descr"]], "shape": list(header["shape"])} | entry
    return entry


def without_left_out(case):
    def is_left_out(role):
        return any(fnmatch.fnmatchcase(case["id"], pattern) and fnmatch.fnmatchcase(role, name)
                   for pattern, name in LEFT_OUT)

    def kept(roles):
        return {role: kept(what) if isinstance(what, dict) else what
                for role, what in roles.items() if not is_left_out(role)}

    return case | {"expected_files": kept(case["expected_files"])}


def is_taken(case, rows):
    return any(case["kind"] == kind and fnmatch.fnmatchcase(case["id"], pattern) for kind, pattern in rows)


def main():
    source, target = sys.argv[1:]
    with open(os.path.join(source, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    name = manifest["set"]
    cases = [without_left_out(case) for case in manifest["cases"] if is_taken(case, PART[name])]
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
