"""The deployment on Modal: image, volumes, one GPU class, one CPU health function, entry points. Nothing else.

    modal run modal_app.py::quantize          once: the checkpoint onto the weights volume
    modal deploy modal_app.py                 then: the service
    modal run modal_app.py::test_inference    one request, printed
    modal run modal_app.py::acceptance        the criteria of acceptance

Settings: `engine.serve.modal.deployment`, read from MASKLOOP_* and baked into the image. No torch, no credentials here.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import modal

from engine.config import QUANTIZATIONS
from engine.serve.modal import deployment as settings

HERE = Path(__file__).parent
WEIGHTS, CACHE = "/weights", "/cache"
HOUR = 3600
DEPLOYMENT = settings.from_env_or_exit(check_files=modal.is_local())
app = modal.App(DEPLOYMENT.modal_app)
weights, cache = (modal.Volume.from_name(f"maskloop-{name}", create_if_missing=True) for name in ("weights", "cache"))
states = modal.Dict.from_name(f"{DEPLOYMENT.modal_app}-state", create_if_missing=True)


def _image(*packages: str) -> modal.Image:
    """Exact versions from constraints.txt."""
    base = modal.Image.debian_slim(python_version=settings.PYTHON_VERSION)
    pinned = base.add_local_file(HERE / "constraints.txt", "/constraints.txt", copy=True)
    return pinned.uv_pip_install(*packages, extra_options=settings.PINS)


def _own(image: modal.Image) -> modal.Image:
    """Our own source and settings last, so that a change of them rebuilds nothing."""
    return image.env(DEPLOYMENT.container_env(WEIGHTS, CACHE)).add_local_python_source("engine", "bench")


image = _image(*settings.PACKAGES).apt_install("gcc").run_commands(settings.SMOKE_TEST, gpu=DEPLOYMENT.gpu)
if DEPLOYMENT.embedded_packages:
    image = image.uv_pip_install(*DEPLOYMENT.embedded_packages, extra_options=f"--no-deps {settings.PINS}")
image = _own(image).add_local_dir(HERE / "schemas", "/root/schemas")
image = image.add_local_dir(HERE / "bench/data", "/root/bench/data")
if DEPLOYMENT.check_packages:
    image = image.add_local_python_source(*DEPLOYMENT.check_packages)
for source, place in DEPLOYMENT.uploads().values():
    image = image.add_local_file(source, place)
health_image = _own(_image(*settings.HEALTH_PACKAGES))
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
    from engine.serve.service import watchdog

    modal.experimental.stop_fetching_inputs()
    watchdog.leave()


@app.cls(
    **HEAVY,
    secrets=[KEYS] if DEPLOYMENT.auth == "bearer" else [],
    timeout=DEPLOYMENT.timeout,
    startup_timeout=DEPLOYMENT.startup_timeout,
    scaledown_window=DEPLOYMENT.scaledown_window,
    max_containers=DEPLOYMENT.max_containers,
    enable_memory_snapshot=DEPLOYMENT.snapshot == "cpu",
)
@modal.concurrent(max_inputs=DEPLOYMENT.concurrent_inputs)
class Engine:
    """One loaded model. Methods are async and forward to `engine.serve.lift.functions`; plain JSON types in and out."""

    @modal.enter(snap=DEPLOYMENT.snapshot == "cpu")
    def prepare(self) -> None:
        """What a snapshot may hold: imports. Settings, keys and the checkpoint are read after it."""
        if DEPLOYMENT.snapshot == "cpu":
            from engine.decode.imports import import_all

            import_all()

    @modal.enter()
    def load(self) -> None:
        from engine.serve.modal.container import ModalService

        self.service = ModalService(DEPLOYMENT, WEIGHTS, states, on_wedged=replace_container)
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
    async def check(
        self, schema: dict[str, Any] | bool | None = None, conformance: str | None = None, **options: Any
    ) -> dict[str, Any]:
        return await self.service.functions.check(schema, conformance, **options)

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
    """cold, loading or ready, with model and versions: the sum of what the containers last said; asks none of them."""
    from engine.serve.modal.remote_state import state_report

    return state_report([entry async for entry in states.values.aio()], DEPLOYMENT.identity)


@app.function(image=health_image)
@modal.concurrent(max_inputs=100)
@modal.asgi_app(label=f"{DEPLOYMENT.label_prefix}health", requires_proxy_auth=DEPLOYMENT.auth == "proxy")
def health() -> Any:
    """`/` and `/health` without starting a GPU."""
    from engine.serve.modal.remote_state import create_health_app

    return create_health_app(state.local)


@app.function(**HEAVY, timeout=6 * HOUR, single_use_containers=True)
def run_module(module: str, arguments: list[str], offline: bool = False) -> int:
    """`module.main(arguments)` on the GPU, with the volumes; its exit code. What it wrote is kept if it fails."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    weights.reload()
    try:
        return int(importlib.import_module(module).main(arguments) or 0)
    finally:
        weights.commit()


@app.function(
    image=image,
    cpu=4.0,
    memory=16 * 1024,
    volumes={WEIGHTS: weights},
    secrets=[modal.Secret.from_dict({"HF_TOKEN": os.environ["HF_TOKEN"]})] if os.environ.get("HF_TOKEN") else [],
    timeout=12 * HOUR,
    single_use_containers=True,
    retries=modal.Retries(max_retries=2, initial_delay=10.0, backoff_coefficient=1.0),
)
def make_checkpoint(to: str, keep_source: bool) -> int:
    """Download on these cores, quantise on a GPU, delete the download. Repeated twice at most; finished files stay."""
    from engine.serve.modal.checkpoint_job import CheckpointJob

    weights.reload()
    job = CheckpointJob(DEPLOYMENT, to, WEIGHTS)
    if job.done:
        print(f"{job.out} is there already; remove it to make it anew")
        return 0
    if job.from_hub:
        job.download()
        weights.commit()
    code = run_module.remote("engine.cli", job.command, offline=job.from_hub)
    if code == 0 and job.from_hub and not keep_source:
        job.remove_source()
        weights.commit()
    return job.outcome(code)


@app.local_entrypoint()
def quantize(to: str = DEPLOYMENT.quantization, keep_source: bool = False) -> None:
    """The deployment's model as a checkpoint on the weights volume; an interrupted run goes on where it stopped."""
    if to not in QUANTIZATIONS:
        raise SystemExit(f"maskloop: --to must be one of {', '.join(QUANTIZATIONS)}, got {to!r}")
    if not {"-d", "--detach"} & set(sys.argv):
        print("This run ends with this terminal. One that does not: modal run --detach modal_app.py::quantize")
    call = make_checkpoint.spawn(to, keep_source)
    print(f"started: {call.object_id}")
    try:
        raise SystemExit(call.get())
    except RuntimeError as error:
        raise SystemExit(f"maskloop: {error}") from None


@app.local_entrypoint()
def quantization_study(arguments: str = "") -> None:
    """The study on the deployment's GPU; results land on the weights volume."""
    product = [DEPLOYMENT.model, "--revision", DEPLOYMENT.revision]
    where = ["--out", f"{WEIGHTS}/studies"]
    raise SystemExit(run_module.remote("bench.quantization.__main__", [*product, *where, *arguments.split()]))


@app.local_entrypoint()
def test_inference(local: bool = False, ephemeral: bool = False) -> None:  # noqa: PT028 - an entry point, not a test
    """One request to the deployed app, printed. With `local` the embedded model answers here and Modal is not used."""
    from engine.client import deployed
    from engine.client.acceptance import plan as acceptance_plan
    from engine.client.acceptance.judge import show

    request = acceptance_plan.inference_request()
    if local:
        from engine.serve.modal.container import answer_here

        raise SystemExit(show(answer_here(request)))
    with deployed.exit_where_absent(DEPLOYMENT.modal_app):
        engine = Engine() if ephemeral else deployed.deployed_engine(DEPLOYMENT.modal_app)
        raise SystemExit(show(engine.generate.remote(**request)))


@app.local_entrypoint()
def acceptance(
    url: str = "",
    out: str = "acceptance.json",
    fallback_model: str = "",
    max_tokens: int = 1024,
    ephemeral: bool = False,
) -> None:
    """The criteria on the deployed app, by function calls or with --url over HTTP; exit 1 when one is not met."""
    from engine.client import deployed
    from engine.client.acceptance.judge import judge_deployment, judge_url
    from engine.client.acceptance.plan import Plan

    prices = {"prices": DEPLOYMENT.price_list(), "beside_gpu_usd_per_s": DEPLOYMENT.beside_gpu_usd_per_s}
    fallback = Plan.fallback_to(fallback_model)
    plan = Plan(**prices, max_tokens=max_tokens, scaledown_s=DEPLOYMENT.scaledown_window, fallback=fallback)
    if url:
        raise SystemExit(judge_url(url, plan, Path(out)))
    with deployed.exit_where_absent(DEPLOYMENT.modal_app):
        engine = Engine() if ephemeral else deployed.deployed_engine(DEPLOYMENT.modal_app)
        raise SystemExit(judge_deployment(engine, plan, Path(out)))


if __name__ == "__main__":
    test_inference(local=True)
elif "deploy" in sys.argv and modal.is_local():
    print(DEPLOYMENT.announcement())
