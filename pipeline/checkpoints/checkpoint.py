"""Loads a checkpoint in either published format as modules. Missing and extra keys are errors, with their names."""

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
    """An open checkpoint folder. Modules are built one by one, so that an actor loads only its own stage."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if (self.folder / "config.json").exists():
            self.format: HuggingFaceFormat | SunoFormat = HuggingFaceFormat(self.folder)
        elif (self.folder / "text_2.pt").exists() or (self.folder / "text.pt").exists():
            self.format = SunoFormat(self.folder)
        else:
            raise CheckpointError(
                f"{self.folder}: not a Bark checkpoint: it has neither config.json (Hugging Face format) "
                "nor text_2.pt or text.pt (Suno's format)"
            )

    @cached_property
    def vocabulary(self) -> spec.Vocabulary:
        return self.format.vocabulary()

    @property
    def width(self) -> int:
        """Width C of the semantic and coarse transformers; in published models all transformers have the same."""
        return self.format.gpt_config("coarse").n_embd

    def gpt_config(self, stage: str) -> GPTConfig:
        """Sizes of one transformer, checked against what its stage needs: an id past the end of an embedding would
        end the process in the middle of a run.

        Raises:
            CheckpointError: a size is too small; names the file, the key and the reason.
        """
        config = self.format.gpt_config(stage)
        for size, (minimum, reason) in minimum_sizes(stage, self.vocabulary).items():
            if (actual := getattr(config, size)) < minimum:
                raise CheckpointError(
                    f"{self.format.where(stage)}: {size} is {actual}, must be at least {minimum} for {reason}"
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
        """The text-to-semantic transformer; its head computes the semantic tokens and EOS only."""
        model = GPT(self.gpt_config("semantic"), merged_len=spec.TEXT_LEN)
        model.head_rows = (0, self.vocabulary.semantic_vocab_size + 1)
        return self._fill(model, "semantic")

    def coarse(self) -> GPT:
        """The semantic-to-coarse transformer; its head computes the codes of the two coarse codebooks only."""
        model = GPT(self.gpt_config("coarse"))
        model.head_rows = (self.vocabulary.coarse_range(0)[0], self.vocabulary.coarse_range(1)[1])
        return self._fill(model, "coarse")

    def fine(self) -> FineGPT:
        """The coarse-to-fine transformer."""
        return self._fill(FineGPT(self.gpt_config("fine")), "fine")

    def codec(self) -> Codec:
        """EnCodec's decoder, with weight norm folded into plain weights."""
        return self._fill(Codec(self.format.codec_config()), "codec")

    def check(self) -> None:
        """Check all names and shapes against the config without loading weights, as the driver does before a run.

        The empty models cost no memory, because their pages are never touched; torch's meta device would cost 800
        imports.

        Raises:
            CheckpointError: a file, key or shape is wrong.
        """
        try:
            empty = {
                "semantic": GPT(self.gpt_config("semantic")),
                "coarse": GPT(self.gpt_config("coarse")),
                "fine": FineGPT(self.gpt_config("fine")),
                "codec": Codec(self.format.codec_config()),
            }
        except RuntimeError as error:  # torch raises it where memory runs out
            raise CheckpointError(f"{self.folder}: a model of these sizes can't be built: {one_line(error)}") from error
        for part, model in empty.items():
            self._state(model, part)

    def _fill(self, model: M, part: str) -> M:
        """Load one part's weights strictly, in float32. They stay in the memory-mapped file: weights that are never
        read cost no memory, and all processes of a machine share the pages."""
        state = {name: tensor.float() for name, tensor in self._state(model, part).items()}
        model.load_state_dict(
            state, assign=not isinstance(model, Codec)
        )  # the codec's LSTM keeps references to its tensors
        return model.eval().requires_grad_(False)

    def _state(self, model: nn.Module, part: str) -> dict[str, Tensor]:
        """One part's weights under the module's names.

        Raises:
            CheckpointError: names, shapes or dtypes don't match the module.
        """
        where = f"{self.folder}: {part} model"
        state = canonical(self.format.tensors(part), model, where)
        expected = model.state_dict()
        problems = []
        if missing := sorted(expected.keys() - state.keys()):
            problems.append(f"missing keys {shorten(missing)}")
        if extra := sorted(state.keys() - expected.keys()):
            problems.append(f"extra keys {shorten(extra)}")
        for name in sorted(expected.keys() & state.keys()):
            if expected[name].shape != state[name].shape:
                problems.append(f"{name} is {tuple(state[name].shape)}, the config says {tuple(expected[name].shape)}")
            elif not state[name].is_floating_point():
                problems.append(f"{name} is {state[name].dtype}, must be floating-point")
        if problems:
            raise CheckpointError(f"{where}: " + "; ".join(problems[:5]))
        return state

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the files' names and contents; a resumed run must find the same."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.suffix in {".safetensors", ".bin", ".pt", ".th", ".json", ".txt"}:
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]


def canonical(tensors: dict[str, Tensor], model: nn.Module, where: str) -> dict[str, Tensor]:
    """The tensors of a format as a module's state: buffers dropped, tied weights completed, weight norm folded."""
    if isinstance(model, Codec):
        return canonical_codec(tensors, model, where)
    state = {n: t for n, t in tensors.items() if not n.endswith((".attn.bias", ".attn.masked_bias"))}  # masks
    if isinstance(model, FineGPT):
        first = model.config.n_codes_given
        for i in range(len(model.lm_heads)):  # a tied pair may be stored once, or twice with equal values
            pair = (f"wtes.{first + i}.weight", f"lm_heads.{i}.weight")
            stored = [state[name] for name in pair if name in state]
            if len(stored) == 2 and not torch.equal(*stored):
                raise CheckpointError(f"{where}: {pair[0]} and {pair[1]} must be the same weights and differ")
            if stored:
                state |= dict.fromkeys(pair, stored[0])
    return state


def minimum_sizes(stage: str, vocabulary: spec.Vocabulary) -> dict[str, tuple[int, str]]:
    """The minimum of each size of a stage's transformer, and the reason."""
    if stage == "fine":
        codes = (spec.CODEBOOK_SIZE, "the codes of a codebook")
        return {
            "input_vocab_size": (spec.FINE_PAD + 1, "the codes of a codebook and the padding code"),
            "output_vocab_size": codes,
            "block_size": (spec.FINE_WINDOW, "a window"),
            "n_codes_total": (spec.NUM_CODEBOOKS, "all codebooks"),
        }
    if stage == "semantic":
        names = ["text_pad_token", "semantic_infer_token", "semantic_pad_token"]
        highest_output, reason = vocabulary.semantic_pad_token, "semantic_vocab_size and EOS"
        positions = spec.BLOCK_SIZE
    else:
        names = ["coarse_semantic_pad_token", "coarse_infer_token"]
        highest_output, reason = vocabulary.coarse_range(1)[1] - 1, "semantic_vocab_size and two codebooks"
        positions = spec.COARSE_PROMPT_LEN + spec.MAX_COARSE_HISTORY + spec.COARSE_WINDOW
    highest, name = max((getattr(vocabulary, name), name) for name in names)
    output = (highest_output + 1, reason)  # sampled tokens are inputs of the next step
    special = (highest + 1, f"{name} {highest} (generation_config.json)")
    return {
        "input_vocab_size": special if highest > highest_output else output,
        "output_vocab_size": output,
        "block_size": (positions, "its prompt"),
    }


def canonical_codec(tensors: dict[str, Tensor], model: Codec, where: str) -> dict[str, Tensor]:
    """The decoder with weight norm folded, and the first eight codebooks. The encoder is not needed."""
    expected = model.state_dict()
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("encoder."):
            continue
        if name.startswith("quantizer."):
            if name in expected and name.endswith("._codebook.embed"):
                state[name] = tensor
            continue
        if name.endswith("weight_g"):
            name = name.removesuffix("_g")
            direction = tensors.get(f"{name}_v")
            if direction is None:
                continue  # the caller reports the weight as missing
            direction = direction.float()
            try:
                tensor = direction * (tensor.float() / torch.norm_except_dim(direction, 2, 0))
            except (RuntimeError, IndexError) as error:
                raise CheckpointError(
                    f"{where}: {name}_g and {name}_v don't fit each other: {one_line(error)}"
                ) from error
        elif name.endswith("weight_v"):
            continue
        # Hugging Face has one name for plain and transposed convolutions: the expected name decides
        transposed = name.replace(".conv.conv.", TRANSPOSED)
        state[transposed if transposed in expected and name not in expected else name] = tensor
    for name, tensor in expected.items():  # training statistics of the codebooks: never read here
        if name.startswith("quantizer.") and not name.endswith("._codebook.embed"):
            state[name] = tensor
    return state


def shorten(names: list[str], limit: int = 4) -> str:
    """The first few names and how many more."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
