"""What a caller imports: providers with LIFT's interface, the IR, the fallback. Needs httpx and nothing else."""

from engine.client.ir import IR
from engine.client.providers.fallback import FallbackProvider
from engine.client.providers.function import ModalFunctionProvider
from engine.client.providers.http import ModalProvider, Provider, ProviderCapabilities
from engine.client.providers.problems import BadAnswer, ColdStart, ProviderError, Refused, Unreachable
from engine.client.translator import XGrammarIRTranslator

__all__ = [
    "IR",
    "BadAnswer",
    "ColdStart",
    "FallbackProvider",
    "ModalFunctionProvider",
    "ModalProvider",
    "Provider",
    "ProviderCapabilities",
    "ProviderError",
    "Refused",
    "Unreachable",
    "XGrammarIRTranslator",
]
