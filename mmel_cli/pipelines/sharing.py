"""What several methods that explain one batch have in common: the captures of the model.

Methods that go backwards by the same rules, or not at all, and need the same parts of a capture but for the outputs of
layers share a capture of all layers that any of them explains, and each sees of it what it asked for. A gradient at a
layer does not depend on how much further back the backward goes, so a method's numbers are those that it has alone, to
the bit on a CPU (a test).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from mmel_cli.attribution.views import View
from mmel_cli.model import CaptureRequest
from mmel_cli.model.balanced import RULES
from mmel_cli.tensors import Capture, Entering, Tower

_JOINED = {"layers", "text_layers", "hidden", "alignment", "gradient", "whole"}
"""Parts of a request in which those that share a capture may differ; in every other they must agree."""

_Asking = tuple[CaptureRequest, tuple[View, ...]]


class SharedCaptures:
    """The captures of one batch, each kept until the last method that shares it has had it."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, list[CaptureRequest]] = {}
        self._kept: dict[Hashable, Capture] = {}
        self._taken: dict[Hashable, int] = {}
        self._names: tuple[str, ...] = ()

    def begin(self, asked: Sequence[_Asking]) -> None:
        """Forget the batch before.

        Args:
            asked: what each method that explains the coming batch asks for, and of which views.
        """
        self._forget()
        self._asked = {}
        for request, views in asked:
            for view in views:
                self._asked.setdefault((_group(request), view), []).append(request)

    def capture(
        self, request: CaptureRequest, view: View, names: tuple[str, ...], make: Callable[[CaptureRequest], Capture]
    ) -> Capture:
        """What a method asks for, made by the first one that does.

        Args:
            request: the method's.
            view: of the images.
            names: ids of the records. Others than before are a part of the batch, or the rest of it: memory may have
                run out, so nothing is kept of those before.
            make: captures these records.
        """
        key = (_group(request), view)
        together = self._asked.get(key, [])
        if names != self._names:
            self._forget()
            self._names = names
        if len(together) < 2:
            return make(request)
        asked = _union(together)
        capture = self._kept.pop(key) if key in self._kept else make(asked)
        self._taken[key] = self._taken.get(key, 0) + 1
        if self._taken[key] < len(together):
            self._kept[key] = capture
        return _part(capture, asked, request)

    def _forget(self) -> None:
        self._kept, self._taken, self._names = {}, {}, ()


def _group(request: CaptureRequest) -> Hashable:
    """Requests with the same group can share a capture.

    As one head, the explained layers decide the forward; surgery is one path through all of them, what is behind
    layers' own scores need not be one tower layer for each, and directions are read by one reader over all layers:
    these share with the same layers only.
    """
    others = tuple(getattr(request, field.name) for field in fields(request) if field.name not in _JOINED)
    fixed = request.one_head or request.surgery or request.own or request.directed
    return RULES[request.gradient], others, (request.layers, request.text_layers) if fixed else ()


def _union(requests: Sequence[CaptureRequest]) -> CaptureRequest:
    """What a group asks for together."""
    gradients = [request.gradient for request in requests]
    return replace(
        requests[0],
        layers=tuple(sorted({number for request in requests for number in request.layers})),
        text_layers=tuple(sorted({number for request in requests for number in request.text_layers})),
        hidden=any(request.hidden for request in requests),
        alignment=any(request.alignment for request in requests),
        gradient=next((gradient for gradient in gradients if gradient != "none"), "none"),
        whole=any(request.whole for request in requests),
    )


def _part(capture: Capture, asked: CaptureRequest, request: CaptureRequest) -> Capture:
    """What of a capture a method asked for itself."""
    rows = [asked.layers.index(number) for number in request.layers]
    entering = tuple(capture.entering[row] for row in rows) if request.entering else ()
    return replace(
        capture,
        image=_layers(capture.image, request.layers, whole=request.whole),
        text=_layers(capture.text, request.text_layers, whole=request.whole),
        hidden=tuple(capture.hidden[row] for row in rows) if request.hidden else (),
        alignment=_rows(capture.alignment, rows) if request.alignment else None,
        directed=capture.directed if request.directed else (),
        entering=entering if request.whole else tuple(Entering(part.values) for part in entering),
        alone=_rows(capture.alone, rows),
    )


def _rows(values: Tensor | None, rows: list[int]) -> Tensor | None:
    return None if values is None else values[:, rows]


def _layers(tower: Tower, numbers: tuple[int, ...], *, whole: bool) -> Tower:
    """A tower with some of its layers: every tuple in it runs over them; without gradients, unless they are wanted."""
    tower = tower if whole else replace(tower, w=())
    if tower.numbers == numbers:
        return tower
    rows = [tower.numbers.index(number) for number in numbers]
    parts = {field.name: getattr(tower, field.name) for field in fields(tower)}
    chosen: dict[str, Any] = {n: tuple(v[row] for row in rows) for n, v in parts.items() if isinstance(v, tuple) and v}
    return replace(tower, **chosen)
