"""Parquet files with embedded images, as Hugging Face's `datasets` and pyarrow write them.

    pip install datasets==5.2.0 pyarrow==26.0.1 pillow
    python tools/make_parquet_fixtures.py

Writes tests/fixtures/lab/parquet. Each picture is 8x6 and of one grey, 10 times its number, so that
a test can tell which one it was given.
"""

import io
import json
import pathlib

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/lab/parquet"
COUNT = 10


def jpeg(number):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (10 * number,) * 3).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def rows(count=COUNT):
    return [{"bytes": jpeg(number), "path": f"{number}.jpg"} for number in range(count)]


def with_datasets(names, label):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    table = {"image": rows(), "label": [label(number) for number in range(COUNT)]}
    return datasets.Dataset.from_dict(table, features=features)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    # A class label, several row groups; the odd pictures show roadwork.
    path = OUT / "classes/data/train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with_datasets(["not_roadwork", "roadwork"], lambda n: n % 2).to_parquet(str(path), batch_size=4)
    # The same labels, but the classes are numbered the other way round; zstd.
    turned = with_datasets(["roadwork", "not_roadwork"], lambda n: 1 - n % 2).data.table
    pq.write_table(turned, OUT / "turned.parquet", compression="zstd")
    # The subnet's form: no label; roadwork has a description.
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    described = pa.table(
        {
            "image": pa.array(rows(), type=image),
            "scene_description": [f"cones {n}" if n % 2 else [None, ""][n % 4 // 2] for n in range(COUNT)],
        }
    )
    pq.write_table(described, OUT / "described.parquet", compression="snappy", row_group_size=3)
    # Plain binary, a boolean label, other facts, pages of one image, no dictionary, data pages v2.
    plain = pa.table(
        {
            "image": [jpeg(number) for number in range(COUNT)],
            "label": [number % 2 == 1 for number in range(COUNT)],
            "group": pa.array([number // 2 for number in range(COUNT)], pa.int32()),
            "origin": ["real" if number < 5 else "synthetic" for number in range(COUNT)],
            "transform_level": pa.array([number % 4 for number in range(COUNT)], pa.uint8()),
            "difficulty": [number / 10 for number in range(COUNT)],
        }
    )
    pq.write_table(
        plain,
        OUT / "plain.parquet",
        compression="zstd",
        use_dictionary=False,
        data_page_size=1,
        write_batch_size=1,
        data_page_version="2.0",
    )
    # A picture without bytes, as `datasets` writes it when files are not embedded.
    empty = rows(2)
    empty[1]["bytes"] = None
    pq.write_table(
        pa.table({"image": pa.array(empty, type=image), "label": [0, 1]}), OUT / "no_bytes.parquet"
    )
    versions = {"datasets": datasets.__version__, "pyarrow": pa.__version__}
    (OUT / "versions.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()
