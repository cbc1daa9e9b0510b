"""HuggingFace CLIP behind the Adapter protocol."""

import copy
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize, pad
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPImageProcessorPil, CLIPModel

from mmel_cli.errors import ModelError
from mmel_cli.model.adapter import Captions, CaptureRequest, ModelSpec
from mmel_cli.model.capture import Recording, activations, one_head, record
from mmel_cli.model.gradients import cosine, pull_back, pull_back_batched
from mmel_cli.model.preprocess import describe, preprocess
from mmel_cli.model.words import token_texts, words_of
from mmel_cli.scoring import Scoring
from mmel_cli.tensors import Capture, Pixels, Tower

# float16 gradients of a cosine underflow; a power of two is exact to multiply and to divide out
_GRADIENT_SCALE = {torch.float16: 2.0**10}
_PATCHES = slice(1, None)  # CLS comes first
LEGACY_EOS = 2  # configurations older than transformers 4.31: the pooled token is the one with the highest id


@dataclass(frozen=True)
class _Encoded:
    """Both towers' recordings for the distinct images and captions of a batch."""

    vision: Recording
    text: Recording
    image_embeds: Tensor  # (images, D), in the graph
    text_embeds: Tensor  # (captions, D), in the graph


class HfClip:
    """A loaded CLIP with frozen weights (implements adapter.Adapter)."""

    def __init__(
        self,
        name: str,
        files: dict[str, str],
        model: CLIPModel,
        tokenizer: Any,
        processor: CLIPImageProcessorPil,
        family: str = "clip",
    ) -> None:
        self._model, self._tokenizer, self._processor = model, tokenizer, processor
        vision, text = model.config.vision_config, model.config.text_config
        side = vision.image_size // vision.patch_size
        self._eos = tokenizer.eos_token_id
        self.spec = ModelSpec(
            name=name,
            family=family,
            files=files,
            gives=frozenset({"query", "hidden", "alignment", "one_head"}),
            image_size=(vision.image_size, vision.image_size),
            patch=vision.patch_size,
            grid=(side, side),
            layers=vision.num_hidden_layers,
            text_layers=text.num_hidden_layers,
            max_tokens=text.max_position_embeddings - 2,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            scoring=_scoring(model),
            processor=describe(processor),
        )

    def preprocess(self, image: Image, geometry: str) -> Pixels:
        """See adapter.Adapter."""
        return preprocess(image, self._processor, self.spec.image_size, geometry)

    def tokenize(self, captions: list[str]) -> Captions:
        """See adapter.Adapter. A special token that a caption spells out is text like any other.

        Raises:
            ModelError: if the tokenizer gives no EOS token, without which the text tower would pool another token.
        """
        encoded = self._tokenizer(captions, split_special_tokens=True, return_offsets_mapping=True)
        whole: list[list[int]] = encoded["input_ids"]
        ids, mask = self._padded(whole)
        end = self._pooled(ids, captions)
        stops = end.tolist()  # the keys are the tokens 1 to stop - 1
        spans = [row[1:-1] for row in encoded["offset_mapping"]]
        positions = torch.arange(1, max(1, *stops))
        return Captions(
            ids=ids,
            mask=mask,
            query=end,
            places=positions.where(positions < end[:, None], -1),
            tokens=tuple(
                token_texts(caption, own[: stop - 1], row[1:stop], self._tokenizer.decode)
                for caption, own, row, stop in zip(captions, spans, whole, stops, strict=True)
            ),
            words=tuple(words_of(*given) for given in zip(captions, spans, (stop - 1 for stop in stops), strict=True)),
            truncated=torch.tensor([len(own) > stop - 1 for own, stop in zip(spans, stops, strict=True)]),
        )

    def _padded(self, whole: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Token ids cut to the context with their EOS, padded at the end, and their attention mask."""
        context = self.spec.max_tokens + 2
        rows = [torch.tensor(row if len(row) <= context else [*row[: context - 1], row[-1]]) for row in whole]
        padding = self._eos if self._tokenizer.pad_token_id is None else self._tokenizer.pad_token_id
        ids = pad_sequence(rows, batch_first=True, padding_value=padding)
        return ids, pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)

    def _pooled(self, ids: Tensor, captions: list[str]) -> Tensor:
        """The position of the token that the text tower pools, which must be EOS."""
        end = pooled_position(ids, self._model.config.text_config.eos_token_id)
        wrong = (ids.gather(1, end[:, None])[:, 0] != self._eos).nonzero()
        if len(wrong):
            raise ModelError(
                f"model {self.spec.name}: the token that its text tower pools is no EOS token (id {self._eos}) for the "
                f"caption {captions[int(wrong[0])][:60]!r}; use the tokenizer that the model was trained with"
            )
        return end

    def capture(
        self, images: list[Pixels], captions: Captions, pairs: list[tuple[int, int]], request: CaptureRequest
    ) -> Capture:
        """See adapter.Adapter."""
        rows, columns = torch.tensor(pairs, device=self._model.device).T
        encoded = self._encode(images, captions, request)
        image_embeds, text_embeds = encoded.image_embeds[rows], encoded.text_embeds[columns]
        score, to_image, to_text = cosine(image_embeds, text_embeds)
        if request.one_head:  # each modified tower is explained against the other as the model runs it
            true_image = self.embed_images(torch.stack([image.values for image in images]))
            true_text = self.embed_texts(captions)
            score, to_image, _ = cosine(image_embeds, true_text[columns])
            _, _, to_text = cosine(true_image[rows], text_embeds)
        scale = _GRADIENT_SCALE.get(self._model.dtype, 1.0)
        w_image = pull_back(encoded.image_embeds, encoded.vision.o, rows, to_image * scale)
        w_text = pull_back_batched(encoded.text_embeds, encoded.text.o, columns, to_text * scale)
        return Capture(
            score=score,
            grid=self.spec.grid,
            image=self._image_tower(encoded.vision, [w.float() / scale for w in w_image], rows, request),
            text=self._text_tower(encoded.text, [w.float() / scale for w in w_text], columns, (captions, request)),
            hidden=tuple(x[rows][:, _PATCHES].float() for x in encoded.vision.outputs) if request.hidden else (),
            alignment=self._alignment(encoded, rows, columns) if request.alignment else None,
        )

    def embed_images(self, values: Tensor, *, graph: bool = False) -> Tensor:
        """See adapter.Adapter."""
        values = values.to(self._model.device, self._model.dtype)
        with torch.set_grad_enabled(graph):
            return normalize(self._model.get_image_features(pixel_values=values).pooler_output.float(), dim=-1)

    @torch.no_grad()
    def embed_texts(self, captions: Captions) -> Tensor:
        """See adapter.Adapter."""
        ids, mask = captions.ids.to(self._model.device), captions.mask.to(self._model.device)
        embeds = self._model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        return normalize(embeds.float(), dim=-1)

    def randomised(self, layers: int, seed: int) -> "HfClip":
        """See adapter.Adapter."""
        model = copy.deepcopy(self._model)
        top = [model.visual_projection, model.vision_model.post_layernorm]
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for block in [*top, *reversed(model.vision_model.encoder.layers[-layers:])]:
                for module in block.modules():
                    if isinstance(module, (nn.Linear, nn.LayerNorm)):
                        module.reset_parameters()
        return HfClip(self.spec.name, self.spec.files, model, self._tokenizer, self._processor, self.spec.family)

    def _forward(self, pixels: Tensor, captions: Captions) -> tuple[Tensor, Tensor]:
        model, device = self._model, self._model.device
        image_embeds = model.get_image_features(pixel_values=pixels.to(device, model.dtype)).pooler_output
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be differentiated in a batch
            ids, mask = captions.ids.to(device), captions.mask.to(device)
            return image_embeds, model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output

    def _encode(self, images: list[Pixels], captions: Captions, request: CaptureRequest) -> _Encoded:
        """One forward of each tower with the explained layers recorded."""
        model = self._model
        vision = [model.vision_model.encoder.layers[n - 1] for n in request.layers]
        text = [model.text_model.encoder.layers[n - 1] for n in request.text_layers]
        with ExitStack() as stack:
            if request.one_head:
                stack.enter_context(one_head([*vision, *text]))
                captions = self._to_context(captions)
            seen = stack.enter_context(record(vision, outputs=request.hidden or request.alignment))
            read = stack.enter_context(record(text))
            image_embeds, text_embeds = self._forward(torch.stack([image.values for image in images]), captions)
        return _Encoded(seen, read, image_embeds, text_embeds)

    def _to_context(self, captions: Captions) -> Captions:
        """Padded to the model's context with token 0 and nothing masked, as the published Grad-ECLIP reads captions.

        The tower is causal, so keys and query do not see the difference; the padding's own activations are defined.
        """
        ids = captions.ids.where(captions.mask.bool(), 0)
        ids = pad(ids, (0, self.spec.max_tokens + 2 - ids.shape[1]))
        return replace(captions, ids=ids, mask=torch.ones_like(ids))

    def _image_tower(self, recording: Recording, w: list[Tensor], rows: Tensor, request: CaptureRequest) -> Tower:
        """CLS explained over the patches."""
        blocks = self._model.vision_model.encoder.layers
        shape = (len(rows), recording.o[0].shape[1])
        tokens = torch.arange(shape[1], device=rows.device)
        return Tower(
            numbers=request.layers,
            query=torch.zeros_like(rows),
            places=tokens[_PATCHES].expand(len(rows), -1),
            visible=torch.ones(shape, dtype=torch.bool, device=rows.device),
            **activations(recording, w, rows, [blocks[n - 1] for n in request.layers]),
            heads=1 if request.one_head else self._model.config.vision_config.num_attention_heads,
        )

    def _text_tower(
        self, recording: Recording, w: list[Tensor], columns: Tensor, given: tuple[Captions, CaptureRequest]
    ) -> Tower:
        """EOS explained over the tokens between BOS and EOS; the causal mask is kept."""
        captions, request = given
        blocks = self._model.text_model.encoder.layers
        assert captions.query is not None  # noqa: S101 - CLIP pools EOS
        end = captions.query.to(columns.device)[columns]
        position = torch.arange(recording.o[0].shape[1], device=columns.device)
        return Tower(
            numbers=request.text_layers,
            query=end,
            places=captions.places.to(columns.device)[columns],
            visible=position <= end[:, None],
            **activations(recording, w, columns, [blocks[n - 1] for n in request.text_layers]),
            heads=1 if request.one_head else self._model.config.text_config.num_attention_heads,
            causal=True,
        )

    @torch.no_grad()
    def _alignment(self, encoded: _Encoded, rows: Tensor, columns: Tensor) -> Tensor:
        """cos(projection(post-norm(x_l[i])), text embedding) for every layer and patch (METHOD 3 step 5)."""
        model = self._model
        text = normalize(encoded.text_embeds[columns].float(), dim=-1)
        layers = []
        for output in encoded.vision.outputs:
            projected = model.visual_projection(model.vision_model.post_layernorm(output[rows][:, _PATCHES]))
            layers.append(torch.einsum("pid,pd->pi", normalize(projected.float(), dim=-1), text))
        return torch.stack(layers, 1)


def pooled_position(ids: Tensor, config_eos: int) -> Tensor:
    """The token position that HuggingFace CLIP pools: first EOS, or the highest id under the legacy EOS id."""
    if config_eos == LEGACY_EOS:
        return ids.argmax(-1)
    return (ids == config_eos).int().argmax(-1)


def _scoring(model: CLIPModel) -> Scoring:
    """Its temperature, and its bias where it was trained with a sigmoid loss (open_clip)."""
    scale, bias = float(model.logit_scale.float().exp()), getattr(model, "logit_bias", None)
    return Scoring(scale) if bias is None else Scoring(scale, float(bias.float()), "sigmoid")
