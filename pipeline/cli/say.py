"""`barkery say` and `barkery voices`: one text into one sound file, and the voices to choose from."""

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Device, check_sound_file, write_sound_file

if TYPE_CHECKING:
    from pipeline.bark.synthesize import Bark


def say(
    text: Annotated[str, typer.Argument(help="Text to speak; a long text is split and the parts are joined.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Sound file: .wav, .flac or .mp3.")] = Path("say.wav"),
    model: Annotated[str, typer.Option(help="puppy (built in), a local folder, or a hub id.")] = "puppy",
    voice: Annotated[str | None, typer.Option(help="A voice of the model, a preset, or an .npz file.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same sound. (default: random)")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Folder or hub id; for models in Suno's format.")] = None,
    device: Device = "auto",
) -> None:
    """Speak one text into a sound file."""
    import secrets

    from pipeline.shards.audio import to_int16

    check_sound_file(output)
    seed = secrets.randbits(32) if seed is None else seed
    samples = load(model, device, tokenizer, text).say(text, voice=voice, seed=seed)
    write_sound_file(output, to_int16(samples))
    print(f"{output}: {samples.size / 24_000:.2f} s, seed {seed}")


def load(model: str, device: str, tokenizer: str | None, text: str) -> "Bark":
    """Load a model for one text. A narrow one, such as puppy, is computed on one thread and without compiled kernels.

    Importing numba takes half a second, and compiling six the first time; a short text needs half a second of
    arithmetic without them. Operators this small gain nothing from a second thread, and wait for it when cores are
    shared. A text of one segment needs one slot, which halves the arithmetic.
    """
    gc.disable()  # collecting torch's 200,000 objects, which stay until the end, takes 0.4 s at import and exit
    import torch

    from pipeline.bark.build import MIN_AUTOTUNE_WIDTH
    from pipeline.bark.synthesize import Bark
    from pipeline.bark.text import SegmentLimits
    from pipeline.checkpoints.checkpoint import Checkpoint
    from pipeline.checkpoints.hub import resolve
    from pipeline.kernels.reference import VARIABLE

    gc.freeze()
    gc.enable()
    checkpoint = Checkpoint(resolve(model))
    slots = None
    if checkpoint.width < MIN_AUTOTUNE_WIDTH:
        os.environ.setdefault(VARIABLE, "reference")
        torch.set_num_threads(1)
        slots = 1 if len(text) <= SegmentLimits().max_chars else None
    return Bark.load(checkpoint.folder, device=device, tokenizer=tokenizer, slots=slots)


def voices(
    model: Annotated[str | None, typer.Option(help="List this model's own voices instead.")] = None,
) -> None:
    """List Suno's voice presets, or the voices stored beside a model."""
    from pipeline.bark.voice import own_voices, preset_names
    from pipeline.checkpoints.hub import resolve

    print("\n".join(own_voices(resolve(model)) if model else preset_names()))
