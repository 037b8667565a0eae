"""Makes fashion/request.json and digits/request.json, the bodies that the first curl lines send: the first test image, and the first clip of a speaker
whom the shipped body has never heard. Python's standard library only. usage: requests.py"""
import gzip
import json
import pathlib

HERE = pathlib.Path(__file__).parent


def first(path: pathlib.Path) -> bytes:
    """The first item of an idx3 file: its bytes, row-major."""
    data = gzip.open(path).read()
    rows, columns = int.from_bytes(data[8:12], "big"), int.from_bytes(data[12:16], "big")
    return data[16:16 + rows * columns]


def write(path: pathlib.Path, request: dict) -> None:
    path.write_text(json.dumps(request, separators=(",", ":")) + "\n")


image = first(HERE / "fashion" / "test-images-idx3-ubyte.gz")
write(HERE / "fashion" / "request.json", {"input": [round(b / 255, 4) for b in image], "explain": True})

clip = first(HERE / "digits" / "george-logmel-idx3-ubyte.gz")
write(HERE / "digits" / "request.json", {"user": "george", "input": [round((b - 128) / 42, 4) for b in clip], "explain": True})
