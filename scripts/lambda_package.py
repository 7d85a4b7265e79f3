"""Builds the Lambda function's zip: the producer and its locked dependencies, from wheels, with reproducible bytes.

    python scripts/lambda_package.py [--arch arm64] [--python 3.13] [--add global-bundle.pem] [--out dist]

Prints the zip's path on stdout, its sizes and SHA-256 on stderr.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORMS = {"x86_64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}  # Amazon Linux 2023 has glibc 2.34
PACKAGES = ("cdckit", "producer")
MAX_ZIPPED, MAX_UNZIPPED = 50 * 1024**2, 250 * 1024**2  # Lambda's limits
DROPPED_FILES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", ".lock", "uv_cache.json"}
DROPPED_FOLDERS = {"bin", "__pycache__"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can store


def main() -> int:
    """Build the zip, check Lambda's limits, report."""
    options = _arguments()
    target = options.out / f"cdc-producer-{options.arch}-py{options.python}.zip"
    with tempfile.TemporaryDirectory() as folder:
        try:
            _install(Path(folder), options.arch, options.python)
        except subprocess.CalledProcessError:
            sys.stderr.write(
                f"error: the wheels for {options.arch} and Python {options.python} could not be installed\n"
            )
            return 1
        files = _files(Path(folder)) | {path.name: path for path in options.add}
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, files)
        unzipped = sum(path.stat().st_size for path in files.values())
    return _report(target, unzipped)


def _arguments() -> argparse.Namespace:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(description="Build the Lambda function's zip.")
    parser.add_argument("--arch", choices=PLATFORMS, default="x86_64", help="the function's architecture")
    parser.add_argument("--python", default="3.13", help=f"the function's Python (here: {here}) [3.13]")
    parser.add_argument("--add", type=Path, action="append", default=[], help="a file to add beside the code")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the zip [dist]")
    options = parser.parse_args()
    if missing := [str(path) for path in options.add if not path.is_file()]:
        parser.error(f"no such file: {missing[0]}")
    return options


def _install(folder: Path, arch: str, python: str) -> None:
    command = [
        sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(folder), "--link-mode", "copy",
        "--python-platform", PLATFORMS[arch], "--python-version", python, "--only-binary", ":all:", "--no-deps",
        "--require-hashes", "--requirement", str(ROOT / "requirements-lambda.lock"),
    ]  # fmt: skip
    subprocess.run(command, check=True)


def _files(dependencies: Path) -> dict[str, Path]:
    """All files, by name in the zip."""
    places = [(dependencies, dependencies)] + [(ROOT / name, ROOT) for name in PACKAGES]
    found = [(path.relative_to(base), path) for place, base in places for path in place.rglob("*") if path.is_file()]
    return {str(name): path for name, path in found if _wanted(name)}


def _wanted(name: Path) -> bool:
    return name.name not in DROPPED_FILES and not DROPPED_FOLDERS.intersection(name.parts)


def _write(target: Path, files: dict[str, Path]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (0o755 if ".so" in name else 0o644) << 16
            archive.writestr(entry, files[name].read_bytes(), compresslevel=9)


def _report(target: Path, unzipped: int) -> int:
    data = target.read_bytes()
    sha, size = hashlib.sha256(data).hexdigest(), len(data)
    sys.stderr.write(f"{size / 1e6:.1f} MB zipped, {unzipped / 1e6:.1f} MB unzipped, sha256 {sha}\n")
    if size > MAX_ZIPPED or unzipped > MAX_UNZIPPED:
        sys.stderr.write("error: Lambda accepts at most 50 MB zipped and 250 MB unzipped\n")
        return 1
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
