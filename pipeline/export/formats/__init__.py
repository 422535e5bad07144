"""The formats of `barkery export`, by name. To add one, write its class (`base.Format`) and list it here."""

from pipeline.export.formats.base import Format
from pipeline.export.formats.folders import AudioFolder, Kaldi, LJSpeech
from pipeline.export.formats.hf import HuggingFace
from pipeline.export.formats.shar import Shar
from pipeline.export.formats.webdataset import Nemo, WebDataset

FORMATS: dict[str, Format] = {
    each.name: each for each in (HuggingFace(), WebDataset(), Nemo(), LJSpeech(), AudioFolder(), Shar(), Kaldi())
}
