"""The deployment on Modal: image, volumes, one GPU class, one CPU health function, entry points. Nothing else.

    modal run modal_app.py::quantize          once: the checkpoint onto the weights volume
    modal deploy modal_app.py                 then: the service
    modal run modal_app.py::test_inference    one request, printed
    modal run modal_app.py::acceptance        the six criteria

Settings: `engine.serve.deployment`, read from MASKLOOP_* once and baked into the image. No torch, no credentials here.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import modal

from engine.serve import deployment as settings

WEIGHTS, CACHE = "/weights", "/cache"
DEPLOYMENT = settings.Deployment.from_env()
app = modal.App(DEPLOYMENT.modal_app)
weights, cache = (modal.Volume.from_name(f"maskloop-{name}", create_if_missing=True) for name in ("weights", "cache"))
states = modal.Dict.from_name(f"{DEPLOYMENT.modal_app}-state", create_if_missing=True)


def _image(packages: tuple[str, ...], *commands: str) -> modal.Image:
    """Exact versions from constraints.txt; our own source last, so that a code change rebuilds nothing."""
    here = Path(__file__).parent
    base = modal.Image.debian_slim(python_version=settings.PYTHON_VERSION).apt_install("gcc")
    pinned = base.add_local_file(here / "constraints.txt", "/constraints.txt", copy=True)
    installed = pinned.uv_pip_install(*packages, extra_options="--constraints /constraints.txt").run_commands(*commands)
    own = installed.env(DEPLOYMENT.container_env(WEIGHTS, CACHE)).add_local_python_source("engine", "bench")
    return own.add_local_dir(here / "schemas", "/root/schemas").add_local_dir(here / "bench/data", "/root/bench/data")


image, health_image = _image(settings.PACKAGES, settings.SMOKE_TEST), _image(settings.HEALTH_PACKAGES)
KEYS = modal.Secret.from_name("maskloop", required_keys=["MASKLOOP_API_KEYS"])
HEAVY: dict[str, Any] = {
    "image": image,
    "gpu": DEPLOYMENT.gpu,
    "cpu": float(settings.CPU_CORES),
    "memory": settings.RAM_GIB * 1024,
    "volumes": {WEIGHTS: weights, CACHE: cache},
}


def replace_container() -> None:
    """What the watchdog does with a wedged engine: no more inputs, then out."""
    from engine.serve import watchdog

    modal.experimental.stop_fetching_inputs()
    watchdog.leave()


@app.cls(
    **HEAVY,
    secrets=[KEYS] if DEPLOYMENT.auth == "bearer" else [],
    timeout=DEPLOYMENT.timeout,
    startup_timeout=DEPLOYMENT.startup_timeout,
    scaledown_window=DEPLOYMENT.scaledown_window,
    max_containers=DEPLOYMENT.max_containers,
    enable_memory_snapshot=DEPLOYMENT.snapshot != "off",
    experimental_options={"enable_gpu_snapshot": True} if DEPLOYMENT.snapshot == "gpu" else {},
)
@modal.concurrent(max_inputs=DEPLOYMENT.concurrent_inputs)
class Engine:
    """One loaded model. Methods are async and forward to `engine.serve.functions`; plain JSON types in and out."""

    @modal.enter(snap=DEPLOYMENT.snapshot != "off")
    def prepare(self) -> None:
        """What a snapshot may hold: imports on a CPU snapshot, the loaded model too on a GPU snapshot."""
        from engine.serve.modal_service import ModalService

        self.service = ModalService(DEPLOYMENT, WEIGHTS, states, on_wedged=replace_container)
        if DEPLOYMENT.snapshot == "gpu":
            self.service.load()

    @modal.enter()
    def load(self) -> None:
        self.service.load()

    @modal.exit()
    def stop(self) -> None:
        self.service.stop()

    @modal.method()
    async def generate(
        self,
        prompt: str | None = None,
        schema: dict[str, Any] | bool | None = None,
        max_tokens: int | None = 2048,
        temperature: float = 0.3,
        top_p: float = 0.95,
        **options: Any,
    ) -> dict[str, Any]:
        return await self.service.functions.generate(prompt, schema, max_tokens, temperature, top_p, **options)

    @modal.method()
    async def generate_ir(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self.service.functions.generate_ir(request)

    @modal.method()
    async def generate_batch(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return await self.service.functions.generate_batch(requests)

    @modal.method(is_generator=True)
    async def stream(self, request: dict[str, Any]) -> Any:
        async for item in self.service.functions.stream(request):
            yield item

    @modal.method()
    async def check(self, schema: dict[str, Any] | bool, conformance: str = "tight") -> dict[str, Any]:
        return await self.service.functions.check(schema, conformance)

    @modal.method()
    async def info(self) -> dict[str, Any]:
        return await self.service.functions.info()

    @modal.method()
    async def warmup(self) -> dict[str, Any]:
        return await self.service.functions.warmup()

    @modal.asgi_app(label=f"{DEPLOYMENT.label_prefix}generate", requires_proxy_auth=DEPLOYMENT.auth == "proxy")
    def web(self) -> Any:
        return self.service.app()


@app.function(image=health_image)
async def state() -> dict[str, Any]:
    """cold, loading or ready, with model and versions; asks Modal, not the engine."""
    from engine.serve.remote_state import state_report

    stats = await modal.Cls.from_name(DEPLOYMENT.modal_app, "Engine")().generate.get_current_stats.aio()
    told = await states.get.aio("engine", {})
    return state_report(stats.num_total_runners, told, DEPLOYMENT.identity)


@app.function(image=health_image)
@modal.concurrent(max_inputs=100)
@modal.asgi_app(label=f"{DEPLOYMENT.label_prefix}health", requires_proxy_auth=DEPLOYMENT.auth == "proxy")
def health() -> Any:
    """`/` and `/health` without starting a GPU."""
    from engine.serve.remote_state import create_health_app

    return create_health_app(state.local)


@app.function(**HEAVY, timeout=3600)
def run_module(module: str, arguments: list[str]) -> None:
    """`module.main(arguments)` on the GPU, with the volumes: quantising, studies. What it wrote is kept if it fails."""
    code = importlib.import_module(module).main(arguments)
    weights.commit()
    if code:
        raise RuntimeError(f"{module} ended with exit code {code}")


@app.local_entrypoint()
def quantize(to: str = DEPLOYMENT.quantization) -> None:
    """The product's model as a checkpoint on the weights volume; an interrupted run goes on where it stopped."""
    from engine.serve.modal_service import quantize_command

    run_module.remote("engine.cli.main", quantize_command(DEPLOYMENT, to, WEIGHTS))


@app.local_entrypoint()
def quantization_study(arguments: str = "") -> None:
    """The study on the deployment's GPU; results land on the weights volume."""
    product = [DEPLOYMENT.model, "--revision", DEPLOYMENT.revision]
    run_module.remote("bench.quantization", [*product, "--out", f"{WEIGHTS}/studies", *arguments.split()])


@app.local_entrypoint()
def test_inference(local: bool = False) -> None:  # noqa: PT028 - an entry point, not a test
    """One request, printed. With `local` the embedded model answers here and nothing of Modal is used."""
    from engine.client.acceptance import show
    from engine.client.acceptance_plan import inference_request
    from engine.serve.modal_service import answer_here

    request = inference_request()
    raise SystemExit(show(answer_here(request) if local else Engine().generate.remote(**request)))


@app.local_entrypoint()
def acceptance(url: str = "", out: str = "acceptance.json", fallback_model: str = "") -> None:
    """The six criteria, by function calls or with --url over HTTP; exit 1 when one is not met."""
    from engine.client.acceptance import judge_deployment

    told = {"usd_per_s": DEPLOYMENT.container_usd_per_s, "scaledown_s": DEPLOYMENT.scaledown_window}
    raise SystemExit(judge_deployment(Engine(), **told, url=url, out=Path(out), fallback_model=fallback_model))


if __name__ == "__main__":
    test_inference(local=True)
elif "deploy" in sys.argv and modal.is_local():
    print(DEPLOYMENT.announcement())
