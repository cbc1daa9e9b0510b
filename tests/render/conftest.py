import numpy as np
import pytest

from mmel_cli.types import Explanation


@pytest.fixture
def explained():
    """An explanation with the given map and box."""

    def make(values, box, size=(400, 400), **changes):
        given = {"id": "a.png#0", "image": "a.png", "caption": "a red dog", "truncated": False, "score": 0.31}
        given |= {"tokens": ("a", "re", "d", "dog")}
        fields = {"map": np.float32(values), "tokens/map": np.float32(changes.pop("token_map", [0.1, 1, 0.5, -0.8]))}
        return Explanation(**given | {"image_size": size, "box": box, "fields": fields} | changes)

    return make
