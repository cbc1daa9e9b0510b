"""Which files a report has, and how many records each."""

RECORDS, MAPS, DETAILS = 5000, 64, 8
APP, DATA, PHOTOS = "report/app", "report/data", "photos"
HEAD_FILE, EVALUATION_FILE = f"{DATA}/head.js", f"{DATA}/eval.js"


def records_file(number: int) -> str:
    """Of the columns of RECORDS records."""
    return f"{DATA}/records-{number:05}.js"


def maps_file(run: int, number: int) -> str:
    """Of the maps of MAPS records of a run."""
    return f"{DATA}/maps-{run}-{number:05}.js"


def details_file(run: int, number: int) -> str:
    """Of the layers and words of DETAILS records of a run."""
    return f"{DATA}/details-{run}-{number:05}.js"
