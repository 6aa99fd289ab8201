"""The options that benches share, each declared once. Knows argparse; knows nothing of what is measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODEL: dict[str, dict[str, Any]] = {
    "model": {"help": "any model name, or random:CONFIG.json"},
    "tokenizer": {"help": "folder or tokenizer.json; the model's own otherwise"},
    "quantization": {},
    "device": {"default": "auto"},
}


class Options(argparse.ArgumentParser):
    """The command line of the bench `name`: `--out`, mostly `--quick`, and what else is added as to any parser."""

    def __init__(self, name: str, doc: str | None, quick: str = "") -> None:
        """`doc` is the bench's own description; `quick` says what `--quick` runs; without it there is no such form."""
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=f"python -m bench.{name}", description=doc, formatter_class=layout)
        if quick:
            self.add_argument("--quick", action="store_true", help=quick)
        self.add_argument("--out", type=Path, help="folder to which the JSON line is appended")

    def add(self, **defaults: Any) -> None:
        """Options by name and default, whose type is the option's (a tuple: a list of such, comma-separated)."""
        for name, default in defaults.items():
            flag = f"--{name.replace('_', '-')}"
            if isinstance(default, tuple):
                self.add_argument(flag, type=listed(type(default[0])), default=list(default))
            else:
                self.add_argument(flag, type=type(default), default=default)

    def add_model(self, *names: str, model: str | None = None) -> None:
        """Those of MODEL that are named, all of them without a name; `model` is the default of `--model`."""
        for name in names or MODEL:
            self.add_argument(f"--{name}", **MODEL[name])
        self.set_defaults(model=model)

    def read(self, arguments: Sequence[str] | None, **quick: Any) -> argparse.Namespace:
        """The options; with `--quick` those named here have these values whatever else was said."""
        options = self.parse_args(arguments)
        if quick and options.quick:
            vars(options).update(quick)
        return options


def listed(kind: type) -> Any:
    """The type of an option that takes several values, comma-separated."""
    return lambda text: [kind(part) for part in text.split(",") if part]
