"""A checkpoint: weights in either published layout, as ready modules. Strict: extra and missing keys are named."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from pipeline import spec
from pipeline.checkpoints.formats import HuggingFaceFormat, SunoFormat
from pipeline.errors import CheckpointError, one_line
from pipeline.model.codec import Codec
from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPT, GPTConfig

M = TypeVar("M", bound=nn.Module)

TRANSPOSED = ".convtr.convtr."


class Checkpoint:
    """An opened checkpoint folder; modules are built one by one, so that an actor holds only its own stage."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if (self.folder / "config.json").exists():
            self.format: HuggingFaceFormat | SunoFormat = HuggingFaceFormat(self.folder)
        elif (self.folder / "text_2.pt").exists() or (self.folder / "text.pt").exists():
            self.format = SunoFormat(self.folder)
        else:
            raise CheckpointError(
                f"{self.folder}: not a Bark checkpoint: neither config.json (Hugging Face layout) "
                "nor text_2.pt or text.pt (Suno's layout) is there"
            )

    @cached_property
    def vocabulary(self) -> spec.Vocabulary:
        return self.format.vocabulary()

    @property
    def width(self) -> int:
        """Of the semantic and coarse transformers; all of a published model's have the same."""
        return self.format.gpt_config("coarse").n_embd

    def gpt_config(self, stage: str) -> GPTConfig:
        """Sizes of one transformer. Raises CheckpointError where it has no place for what its stage feeds and reads:
        an id past an embedding would end the process, in the middle of the night."""
        config = self.format.gpt_config(stage)
        for size, (least, what) in needs(stage, self.vocabulary).items():
            if (has := getattr(config, size)) < least:
                raise CheckpointError(
                    f"{self.format.where(stage)}: {size} is {has}, must be at least {least} for {what}"
                )
        if stage == "fine" and not 1 <= config.n_codes_given <= spec.NUM_COARSE_CODEBOOKS:
            raise CheckpointError(
                f"{self.format.where(stage)}: n_codes_given is {config.n_codes_given}, must be 1 or 2"
            )
        if stage == "semantic" and self.vocabulary.text_encoding_offset >= self.vocabulary.text_pad_token:
            raise CheckpointError(
                f"{self.folder / 'generation_config.json'}: semantic_config: text_encoding_offset is "
                f"{self.vocabulary.text_encoding_offset}, must be less than text_pad_token"
            )
        return config

    def semantic(self) -> GPT:
        """The text-to-semantic transformer, its head cut to the semantic tokens and EOS."""
        model = GPT(self.gpt_config("semantic"), merged_len=spec.TEXT_LEN)
        model.head_rows = (0, self.vocabulary.semantic_vocab_size + 1)
        return self._fill(model, "semantic")

    def coarse(self) -> GPT:
        """The semantic-to-coarse transformer, its head cut to the codes of the two coarse codebooks."""
        model = GPT(self.gpt_config("coarse"))
        model.head_rows = (self.vocabulary.coarse_range(0)[0], self.vocabulary.coarse_range(1)[1])
        return self._fill(model, "coarse")

    def fine(self) -> FineGPT:
        """The coarse-to-fine transformer."""
        return self._fill(FineGPT(self.gpt_config("fine")), "fine")

    def codec(self) -> Codec:
        """EnCodec's decoder, weight norm folded."""
        return self._fill(Codec(self.format.codec_config()), "codec")

    def check(self) -> None:
        """Every part's names and shapes against its config, without filling a model: the driver's quick look.

        Memory that nobody touches costs nothing; torch's meta device would cost 800 imports."""
        try:
            empty = {
                "semantic": GPT(self.gpt_config("semantic")),
                "coarse": GPT(self.gpt_config("coarse")),
                "fine": FineGPT(self.gpt_config("fine")),
                "codec": Codec(self.format.codec_config()),
            }
        except RuntimeError as error:  # torch's word for no memory
            raise CheckpointError(f"{self.folder}: a model of these sizes can't be built: {one_line(error)}") from error
        for part, model in empty.items():
            self._state(model, part)

    def _fill(self, model: M, part: str) -> M:
        """Strictly load one part's weights, in float32. They stay where the file is mapped into memory: what is
        never read costs nothing, and all processes of a machine share it."""
        state = {name: tensor.float() for name, tensor in self._state(model, part).items()}
        model.load_state_dict(state, assign=not isinstance(model, Codec))  # the codec's LSTM holds on to its tensors
        return model.eval().requires_grad_(False)

    def _state(self, model: nn.Module, part: str) -> dict[str, Tensor]:
        """One part's weights under the module's names; raises CheckpointError where they don't match it."""
        where = f"{self.folder}: {part} model"
        state = canonical(self.format.tensors(part), model, where)
        wanted = model.state_dict()
        problems = []
        if missing := sorted(wanted.keys() - state.keys()):
            problems.append(f"missing keys {shorten(missing)}")
        if extra := sorted(state.keys() - wanted.keys()):
            problems.append(f"extra keys {shorten(extra)}")
        for name in sorted(wanted.keys() & state.keys()):
            if wanted[name].shape != state[name].shape:
                problems.append(f"{name} is {tuple(state[name].shape)}, the config says {tuple(wanted[name].shape)}")
            elif not state[name].is_floating_point():
                problems.append(f"{name} holds {state[name].dtype}, must hold floating-point numbers")
        if problems:
            raise CheckpointError(f"{where}: " + "; ".join(problems[:5]))
        return state

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weight files' names and contents: what a resumed run must find again."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.suffix in {".safetensors", ".bin", ".pt", ".th", ".json", ".txt"}:
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]


def canonical(tensors: dict[str, Tensor], model: nn.Module, where: str) -> dict[str, Tensor]:
    """What a layout holds, reduced to what the module wants: buffers dropped, ties completed, weight norm folded."""
    if isinstance(model, Codec):
        return canonical_codec(tensors, model, where)
    state = {n: t for n, t in tensors.items() if not n.endswith((".attn.bias", ".attn.masked_bias"))}  # masks
    if isinstance(model, FineGPT):
        given = model.config.n_codes_given
        for i in range(len(model.lm_heads)):  # a tied pair may be stored once or twice, but not as two
            pair = (f"wtes.{given + i}.weight", f"lm_heads.{i}.weight")
            held = [state[name] for name in pair if name in state]
            if len(held) == 2 and not torch.equal(*held):
                raise CheckpointError(f"{where}: {pair[0]} and {pair[1]} must be the same weights and differ")
            if held:
                state |= dict.fromkeys(pair, held[0])
    return state


def needs(stage: str, vocabulary: spec.Vocabulary) -> dict[str, tuple[int, str]]:
    """How large, at least, the sizes of a stage's transformer must be, and for what."""
    if stage == "fine":
        codes = (spec.CODEBOOK_SIZE, "the codes of a codebook")
        return {
            "input_vocab_size": (spec.FINE_PAD + 1, "the codes of a codebook and the one that stands for none"),
            "output_vocab_size": codes,
            "block_size": (spec.FINE_WINDOW, "a window"),
            "n_codes_total": (spec.NUM_CODEBOOKS, "all codebooks"),
        }
    if stage == "semantic":
        names = ["text_pad_token", "semantic_infer_token", "semantic_pad_token"]
        made, what = vocabulary.semantic_pad_token, "semantic_vocab_size and the end"
        positions = spec.BLOCK_SIZE
    else:
        names = ["coarse_semantic_pad_token", "coarse_infer_token"]
        made, what = vocabulary.coarse_range(1)[1] - 1, "semantic_vocab_size and two codebooks"
        positions = spec.COARSE_PROMPT_LEN + spec.MAX_COARSE_HISTORY + spec.COARSE_WINDOW
    highest, name = max((getattr(vocabulary, name), name) for name in names)
    fed = (highest + 1, f"{name} {highest} (generation_config.json)") if highest > made else (made + 1, what)
    return {"input_vocab_size": fed, "output_vocab_size": (made + 1, what), "block_size": (positions, "its prompt")}


def canonical_codec(tensors: dict[str, Tensor], model: Codec, where: str) -> dict[str, Tensor]:
    """The decoder with weight norm folded, and the first eight codebooks; the encoder is not needed."""
    wanted = model.state_dict()
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("encoder."):
            continue
        if name.startswith("quantizer."):
            if name in wanted and name.endswith("._codebook.embed"):
                state[name] = tensor
            continue
        if name.endswith("weight_g"):
            name = name.removesuffix("_g")
            direction = tensors.get(f"{name}_v")
            if direction is None:
                continue  # reported as a missing weight
            direction = direction.float()
            try:
                tensor = direction * (tensor.float() / torch.norm_except_dim(direction, 2, 0))
            except (RuntimeError, IndexError) as error:
                raise CheckpointError(f"{where}: {name}_g and {name}_v don't go together: {one_line(error)}") from error
        elif name.endswith("weight_v"):
            continue
        # Hugging Face calls plain and transposed convolutions alike: the wanted name decides
        transposed = name.replace(".conv.conv.", TRANSPOSED)
        state[transposed if transposed in wanted and name not in wanted else name] = tensor
    for name, tensor in wanted.items():  # training statistics of the codebooks: never read here
        if name.startswith("quantizer.") and not name.endswith("._codebook.embed"):
            state[name] = tensor
    return state


def shorten(names: list[str], most: int = 4) -> str:
    """The first few names and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
