"""The judges of finished texts: one a kind of constraint, made from the caller's source alone.

No judge shares code with the compiler of its kind, so that it can judge what the grammar let through.
"""

from engine.judge.dispatch import judge, judge_of, refuse_unreadable
from engine.judge.judgement import Judge, Judgement, Undecided

__all__ = ["Judge", "Judgement", "Undecided", "judge", "judge_of", "refuse_unreadable"]
