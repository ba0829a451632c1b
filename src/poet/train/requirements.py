"""What trainings need beside the pinned environment, said before the first of them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from poet.files import UserError


def check_optimizer(optim: str) -> None:
    """Check that the package of an optimizer (``preference.optim``) is there.

    Raises:
        UserError: it is not installed.
    """
    if optim == "adamw_bnb_8bit" and find_spec("bitsandbytes") is None:
        raise UserError(
            "optim is adamw_bnb_8bit, but bitsandbytes is not installed; install it (it is not in "
            "envs/main.txt: 8-bit states are not the paper's) or choose adamw_torch"
        )


def check_reporting(names: Iterable[str]) -> None:
    """Check that transformers knows what ``report_to`` names, and finds its packages.

    Raises:
        UserError: naming the one, with what transformers says of it.
    """
    from transformers.integrations import get_reporting_integration_callbacks

    for name in names:
        try:
            (callback,) = get_reporting_integration_callbacks([name])
            callback()
        except (ImportError, RuntimeError, ValueError) as error:
            raise UserError(
                f"report_to: {name} cannot be used: {str(error).splitlines()[0]} Name others, or "
                "none (`report_to: []`)."
            ) from None
