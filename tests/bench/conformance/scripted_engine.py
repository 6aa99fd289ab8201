"""An engine that does what its schema says: hang, die, refuse, raise, get stuck in a walk, or accept only "yes"."""

from __future__ import annotations

import os

from bench.peers import Compiled, RefusedError

WORD = b'"yes"'


def _spin():
    while True:
        pass


class ScriptedMatcher:
    def __init__(self, act, left=WORD):
        self.act, self.left = act, left

    def fill(self, mask):
        if self.act == "stuck":
            _spin()
        mask[:] = 0
        token = self.left[0] if self.left else 256
        mask[token >> 5] = 1 << (token & 31)

    def accept(self, token):
        self.left = self.left[1:]
        return True


class ScriptedEngine:
    packages = ()

    def compile(self, schema):
        act = schema.get("act")
        if act == "hang":
            _spin()
        if act == "die":
            os._exit(3)
        if act == "refuse":
            raise RefusedError("not today")
        if act == "raise":
            raise KeyError(act)
        return Compiled(act)

    def matcher(self, compiled):
        return ScriptedMatcher(compiled.grammar)


def load(vocabulary, options):
    return ScriptedEngine()
