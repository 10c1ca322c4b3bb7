"""To and from the neighbours: shapiq, Captum, Quantus; each optional but Captum."""

from fli2moe.interop.captum import CaptumView, as_captum
from fli2moe.interop.quantus import QuantusView, as_quantus
from fli2moe.interop.shapiq import as_shapiq_game, from_shapiq, from_shapiq_game, to_shapiq

__all__ = [
    "CaptumView",
    "QuantusView",
    "as_captum",
    "as_quantus",
    "as_shapiq_game",
    "from_shapiq",
    "from_shapiq_game",
    "to_shapiq",
]
