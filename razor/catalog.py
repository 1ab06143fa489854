"""Literal tables: which class does what a request names."""

from __future__ import annotations

from pathlib import Path

from api_schemas import methods as schemas
from api_schemas.families import Family as FamilyName
from api_schemas.shelf import ModelRecord
from razor import judges
from razor.errors import CheckpointInvalid
from razor.families import clip, diffusion, vlm
from razor.methods.ascent import Ascent
from razor.methods.esd import Esd
from razor.methods.razor import Razor
from razor.methods.salun import Salun
from razor.methods.slug import Slug
from razor.methods.ssd import Ssd
from razor.methods.uce import Uce
from razor.protocols import Family, Method, Study
from razor.studies.clip import ClipStudy
from razor.studies.diffusion import DiffusionStudy
from razor.studies.vlm import VlmStudy


def method(params: schemas.Method) -> Method:
    """The method that these parameters belong to."""
    match params:
        case schemas.Razor():
            return Razor(params)
        case schemas.Slug():
            return Slug(params)
        case schemas.Ascent():
            return Ascent(params)
        case schemas.Salun():
            return Salun(params)
        case schemas.Ssd():
            return Ssd(params)
        case schemas.Esd():
            return Esd(params)
        case schemas.Uce():
            return Uce(params)


def study(family: Family, pictures: int) -> Study:
    """What a run asks of this kind of model; a generator paints so many of the target."""
    match family:
        case clip.Clip():
            return ClipStudy(family)
        case diffusion.Diffusion():
            return DiffusionStudy(family, pictures)
        case vlm.Vlm():
            return VlmStudy(family)
    raise AssertionError(f"no study of {type(family).__name__}")


def load(record: ModelRecord, device: str) -> Family:
    """The model that a shelf record names. Raises CheckpointInvalid."""
    folder = Path(record.checkpoint)
    match record.family:
        case FamilyName.CLIP:
            return clip.load(folder, device)
        case FamilyName.DIFFUSION:
            if record.judge is None:
                raise CheckpointInvalid(
                    "a picture generator needs a judge; add the folder of one to its record"
                )
            judge = judges.load(Path(record.judge), device, dict(record.prompts))
            return diffusion.load(folder, device, judge)
        case FamilyName.VLM:
            return vlm.load(folder, device)
