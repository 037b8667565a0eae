"""Cut the ratings that ship with the films app out of the whole ratings file.

Keeps the header and, in the file's order, the rows of `ratings.csv.gz` whose `group` is `stream`: users that theta
never saw, each one's ratings in true time order. The bytes depend on the rows alone: no file name and no time go into
the gzip header.

    python3 slice.py --raw FOLDER_WITH_RATINGS_CSV_GZ --out ..

Standard library only.
"""
import argparse
import gzip
from pathlib import Path


def stream_rows(lines):
    """Header line, then the lines whose last column is `stream`; lines are bytes with their line end."""
    header = next(lines)
    if header.rstrip() != b"user,item,imdb_id,rating,timestamp,group":
        raise SystemExit(f"unexpected header: {header!r}")
    yield header
    for line in lines:
        if line.rstrip().endswith(b",stream"):
            yield line


def main():
    parser = argparse.ArgumentParser(description="make ratings-stream.csv.gz from ratings.csv.gz")
    parser.add_argument("--raw", type=Path, required=True, help="folder that holds ratings.csv.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for ratings-stream.csv.gz")
    args = parser.parse_args()

    with gzip.open(args.raw / "ratings.csv.gz", "rb") as whole:
        kept = list(stream_rows(whole))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "ratings-stream.csv.gz"
    with open(path, "wb") as file:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=9, mtime=0) as packed:
            packed.write(b"".join(kept))
    print(f"{path}: {len(kept) - 1} ratings, {len({line.split(b',')[0] for line in kept[1:]})} users")


if __name__ == "__main__":
    main()
