"""Text towers of HuggingFace models: which token they pool, which are attended to, and how captions are padded."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from mmel_cli.errors import ModelError
from mmel_cli.model.adapter import Captions, CaptureRequest
from mmel_cli.model.balanced import balanced
from mmel_cli.model.capture import AttentionLayer, Recording, activations, one_head, record
from mmel_cli.model.tokens import captions_of, context_of, padded, read, room
from mmel_cli.tensors import Tower

LEGACY_EOS = 2  # configurations older than transformers 4.31: the pooled token is the one with the highest id


@dataclass(frozen=True)
class EosText:
    """CLIP's: causal, pools the end of the caption (CLIP, MetaCLIP 2); `end` is that token's id."""

    model: Any
    tokenizer: Any
    name: str
    highest: bool  # the token with the highest id is pooled, as LEGACY_EOS has it; else the first `end`

    @property
    def layers(self) -> int:
        """See TextSide."""
        return int(self.model.config.text_config.num_hidden_layers)

    @property
    def context(self) -> int:
        """Tokens of a caption, start and end included."""
        return context_of(self.tokenizer, self.model.config.text_config.max_position_embeddings)

    @property
    def attentions(self) -> list[AttentionLayer]:
        """See TextSide."""
        return [AttentionLayer.of(block) for block in self.model.text_model.encoder.layers]

    @property
    def max_tokens(self) -> int:
        """See TextSide."""
        return room(self.tokenizer, self.context)

    @property
    def neutral(self) -> int:
        """See TextSide: padding, else the unknown token, else 0 (OpenAI's padding); whichever is not the end."""
        end = self.tokenizer.eos_token_id
        others = (self.tokenizer.pad_token_id, self.tokenizer.unk_token_id, 0, 1)
        return next(token for token in others if token is not None and (token < end if self.highest else token != end))

    def tokenize(self, captions: list[str]) -> Captions:
        """See TextSide.

        Raises:
            ModelError: if the token that is pooled is not the end, without which another token would be explained.
        """
        readings = [reading.cut(self.context) for reading in read(self.tokenizer, captions)]
        end = self.tokenizer.eos_token_id
        padding = end if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        ids, mask = padded(readings, padding)
        query = pooled_position(ids, None if self.highest else end)
        wrong = (ids.gather(1, query[:, None])[:, 0] != end).nonzero()
        if len(wrong):
            raise ModelError(
                f"model {self.name}: the token that its text tower pools is no end token (id {end}) for the caption "
                f"{captions[int(wrong[0])][:60]!r}; use the tokenizer that the model was trained with"
            )
        # what stands behind the pooled token is not read
        readings = [
            replace(r, read=min(r.read, q - len(r.before))) for r, q in zip(readings, query.tolist(), strict=True)
        ]
        return captions_of(readings, ids, mask, query, self.tokenizer)

    def embed(self, captions: Captions) -> Tensor:
        """See TextSide."""
        return _text_features(self.model, captions.ids, captions.mask)

    def capture(self, captions: Captions, request: CaptureRequest) -> tuple[Recording, Tensor]:
        """See TextSide."""
        blocks = _blocks(self.model.text_model.encoder.layers, request)
        captions = self._to_context(captions) if request.one_head else captions
        layers = [AttentionLayer.of(block) for block in blocks]
        single = one_head(blocks if request.one_head else ())
        with balanced(request.gradient, self.model.text_model, self.attentions), single, record(layers) as recording:
            return recording, self.embed(captions)

    def tower(
        self, recording: Recording, w: list[Tensor], index: Tensor, captions: Captions, request: CaptureRequest
    ) -> Tower:
        """See TextSide: tokens see those before them, and none is behind the end."""
        position = torch.arange(recording.o[0].shape[1], device=index.device)
        layers = _blocks(self.attentions, request)
        return _tower(
            (recording, w, index),
            (captions, request, layers),
            visible=position <= _query(captions, index)[:, None],
            heads=1 if request.one_head else self.model.config.text_config.num_attention_heads,
            causal=True,
        )

    def _to_context(self, captions: Captions) -> Captions:
        """Padded to the model's context with token 0 and nothing masked, as the published Grad-ECLIP reads captions.

        The tower is causal, so keys and query do not see the difference; the padding's own activations are defined.
        """
        ids = captions.ids.where(captions.mask.bool(), 0)
        ids = pad(ids, (0, self.context - ids.shape[1]))
        return replace(captions, ids=ids, mask=torch.ones_like(ids))


@dataclass(frozen=True)
class FirstText:
    """BERT's and RoBERTa's: tokens see each other, the first one is pooled (Chinese-CLIP, AltCLIP).

    `positions` is how many tokens have a position embedding.
    """

    model: Any
    tokenizer: Any
    positions: int

    @property
    def layers(self) -> int:
        """See TextSide."""
        return int(self.model.config.text_config.num_hidden_layers)

    @property
    def context(self) -> int:
        """Tokens of a caption, start and end included."""
        return context_of(self.tokenizer, self.positions)

    @property
    def attentions(self) -> list[AttentionLayer]:
        """See TextSide."""
        return [AttentionLayer.of_bert(block) for block in self._encoder]

    @property
    def max_tokens(self) -> int:
        """See TextSide."""
        return room(self.tokenizer, self.context)

    @property
    def neutral(self) -> int:
        """See TextSide: the unknown token, for padding has no position of its own in a RoBERTa."""
        return int(self.tokenizer.unk_token_id)

    def tokenize(self, captions: list[str]) -> Captions:
        """See TextSide."""
        readings = [reading.cut(self.context) for reading in read(self.tokenizer, captions)]
        ids, mask = padded(readings, self.tokenizer.pad_token_id)
        return captions_of(readings, ids, mask, torch.zeros(len(ids), dtype=torch.long), self.tokenizer)

    def embed(self, captions: Captions) -> Tensor:
        """See TextSide."""
        return _text_features(self.model, captions.ids, captions.mask)

    def capture(self, captions: Captions, request: CaptureRequest) -> tuple[Recording, Tensor]:
        """See TextSide."""
        layers = _blocks(self.attentions, request)
        with balanced(request.gradient, self.model.text_model, self.attentions), record(layers) as recording:
            return recording, self.embed(captions)

    def tower(
        self, recording: Recording, w: list[Tensor], index: Tensor, captions: Captions, request: CaptureRequest
    ) -> Tower:
        """See TextSide: padding is not attended to."""
        layers = _blocks(self.attentions, request)
        return _tower(
            (recording, w, index),
            (captions, request, layers),
            visible=captions.mask.to(index.device)[index].bool(),
            heads=self.model.config.text_config.num_attention_heads,
        )

    @property
    def _encoder(self) -> Any:
        tower = self.model.text_model
        encoder = getattr(tower, "roberta", tower).encoder
        return encoder.layer if hasattr(encoder, "layer") else encoder.layers


@dataclass(frozen=True)
class LastText:
    """SigLIP's: a fixed length, padding is attended to like text, the last position is pooled whatever stands there."""

    model: Any
    tokenizer: Any

    @property
    def layers(self) -> int:
        """See TextSide."""
        return int(self.model.config.text_config.num_hidden_layers)

    @property
    def length(self) -> int:
        """Tokens of every caption: that of training, since unpadded captions score wrongly."""
        return int(self.model.config.text_config.max_position_embeddings)

    @property
    def attentions(self) -> list[AttentionLayer]:
        """See TextSide."""
        return [AttentionLayer.of(block) for block in self.model.text_model.encoder.layers]

    @property
    def max_tokens(self) -> int:
        """See TextSide."""
        return room(self.tokenizer, self.length)

    @property
    def neutral(self) -> int:
        """See TextSide: padding, which is all that an empty caption has."""
        return int(self.tokenizer.pad_token_id)

    def tokenize(self, captions: list[str]) -> Captions:
        """See TextSide."""
        readings = [reading.cut(self.length) for reading in read(self.tokenizer, captions)]
        missing = [self.length - len(reading.row) for reading in readings]
        left = self.tokenizer.padding_side == "left"
        padding = self.tokenizer.pad_token_id
        rows = [
            [padding] * count + reading.row if left else reading.row + [padding] * count
            for reading, count in zip(readings, missing, strict=True)
        ]
        ids = torch.tensor(rows)
        query = torch.full((len(rows),), self.length - 1)
        shifts = missing if left else [0] * len(rows)
        return captions_of(readings, ids, torch.ones_like(ids), query, self.tokenizer, shifts)

    def embed(self, captions: Captions) -> Tensor:
        """See TextSide; the mask is left out where it masks nothing, as the model's processor leaves it out."""
        mask = None if bool(captions.mask.all()) else captions.mask
        return _text_features(self.model, captions.ids, mask)

    def capture(self, captions: Captions, request: CaptureRequest) -> tuple[Recording, Tensor]:
        """See TextSide."""
        layers = _blocks(self.attentions, request)
        with balanced(request.gradient, self.model.text_model, self.attentions), record(layers) as recording:
            return recording, self.embed(captions)

    def tower(
        self, recording: Recording, w: list[Tensor], index: Tensor, captions: Captions, request: CaptureRequest
    ) -> Tower:
        """See TextSide."""
        layers = _blocks(self.attentions, request)
        return _tower(
            (recording, w, index),
            (captions, request, layers),
            visible=captions.mask.to(index.device)[index].bool(),
            heads=self.model.config.text_config.num_attention_heads,
        )


def pooled_position(ids: Int[Tensor, "captions length"], end: int | None) -> Int[Tensor, "captions"]:
    """The token position that HuggingFace CLIP pools: the first `end`, or the highest id if that is None."""
    return ids.argmax(-1) if end is None else (ids == end).int().argmax(-1)


def _tower(
    seen: tuple[Recording, list[Tensor], Tensor],
    asked: tuple[Captions, CaptureRequest, list[AttentionLayer]],
    **attends: Any,
) -> Tower:
    """The explained layers of P pairs, in which one token asks: that which is pooled."""
    (recording, w, index), (captions, request, layers) = seen, asked
    return Tower(
        numbers=request.text_layers,
        queries=(_query(captions, index),) * len(layers),
        places=captions.places.to(index.device)[index],
        **activations(recording, w, index, [layer.out for layer in layers]),
        **attends,
    )


def _query(captions: Captions, index: Tensor) -> Tensor:
    assert captions.query is not None  # noqa: S101 - these towers pool one token
    return captions.query.to(index.device)[index]


def _blocks(layers: Any, request: CaptureRequest) -> list[Any]:
    return [layers[number - 1] for number in request.text_layers]


def _text_features(model: Any, ids: Tensor, mask: Tensor | None) -> Tensor:
    device = model.device
    given = {} if mask is None else {"attention_mask": mask.to(device)}
    return model.get_text_features(input_ids=ids.to(device), **given).pooler_output
