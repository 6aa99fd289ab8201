"""Programs inside strings: an incremental parser that knows when no continuation can make a text valid.

`start("python", "body").feed("return (").alive`. A state is immutable: one can be kept for every token, and going back
is taking an earlier one. The grammar may be wider than the language, so that a text that is `whole` is still given to
the language's own parser; it is never narrower: what is not `alive` cannot be completed.
"""

from engine.syntax.asked.syntax import Syntax
from engine.syntax.languages import LANGUAGES
from engine.syntax.state import State, start

__all__ = ["LANGUAGES", "State", "Syntax", "start"]
