"""What speaks against a request once its grammar is known."""

from __future__ import annotations

from engine.decode.requests.job import Job
from engine.errors import BudgetTooSmall, EngineError, EngineFailure
from engine.grammar import NO_ENDING


def refusal(job: Job) -> EngineError | None:
    """The typed error of a failed compilation, or of a budget under the shortest document; None where it may decode."""
    try:
        grammar = job.compiled()
        budget = job.samples[0].budget
        least = 0 if grammar is None else len(grammar.least_with(job.languages).tokens) or NO_ENDING
        if least > budget:
            tokens = "1 token" if budget == 1 else f"{budget} tokens"
            return BudgetTooSmall(
                f"max_tokens allows {tokens}, the shortest document needs {least}",
                param="max_tokens",
            )
    except EngineError as error:
        return error
    except BaseException as error:  # noqa: BLE001 - our bug in a compilation is that request's error
        return EngineFailure(f"the grammar could not be compiled: {error!r}")
    return None
