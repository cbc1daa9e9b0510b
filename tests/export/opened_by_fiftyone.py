"""Import a FiftyOneDataset folder with FiftyOne itself and print what it holds; run by test_fiftyone.py.

FiftyOne keeps datasets in MongoDB, which it starts, or which FIFTYONE_DATABASE_URI names.
"""

import json
import sys

try:
    import fiftyone as fo

    fo.list_datasets()
except Exception as error:
    sys.stdout.write(json.dumps({"missing": f"{type(error).__name__}: {error}"[:200]}))
    sys.exit()

dataset = fo.Dataset.from_dir(dataset_dir=sys.argv[1], dataset_type=fo.types.FiftyOneDataset)
try:
    dataset.compute_metadata(num_workers=1, progress=False)
    samples = [
        {
            "filepath": sample.filepath,
            "thumbnail": sample["thumbnail_path"],
            "size": [sample.metadata.height, sample.metadata.width],
            "record": sample["record"],
            "caption": sample["caption"],
            "score": sample["score"],
            "rank": sample["rank"],
            "words": list(sample["words"]),
            "word_values": list(sample["word_values"]),
            "range": list(sample["evidence"].range),
            "dtype": str(sample["evidence"].map.dtype),
            "map": sample["evidence"].map.tolist(),
            "regions": [
                {"label": d.label, "box": list(d.bounding_box), "confidence": d.confidence, "peak": d["peak"]}
                for d in sample["regions"].detections
            ],
        }
        for sample in dataset
    ]
    schema = {name: type(field).__name__ for name, field in dataset.get_field_schema().items()}
    low = [s["record"] for s in dataset.sort_by("score")[:1]]
    confident = dataset.filter_labels("regions", fo.ViewField("confidence") > 0.5).count("regions.detections")
    told = {"samples": samples, "schema": schema, "info": dataset.info, "lowest": low, "confident": confident}
    dataset.save()
    sys.stdout.write(json.dumps(told))
finally:
    dataset.delete()
