"""The plane as a client sees it: deploying, looking up, calling, waiting, cancelling."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2 as pb

from tests.modal.control_plane import apps
from tests.modal.control_plane.apps import App
from tests.modal.control_plane.calls import Call
from tests.modal.control_plane.functions import Function
from tests.modal.control_plane.rpc import Rpcs, not_found
from tests.modal.control_plane.uploads import new_id

if TYPE_CHECKING:
    from tests.modal.control_plane.plane import Plane

BUILDER = "2026.10"
"""Modal's newest image builder: the client is mounted, not installed in the image."""
CREATE = (pb.OBJECT_CREATION_TYPE_CREATE_IF_MISSING, pb.OBJECT_CREATION_TYPE_EPHEMERAL)


class SessionRpcs(Rpcs):
    """Who is there, which environment, which app."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.uploads = plane.uploads

    async def ClientHello(self, request: Empty) -> pb.ClientHelloResponse:
        return pb.ClientHelloResponse(image_builder_version=BUILDER)

    async def EnvironmentGetOrCreate(self, request: Any) -> pb.EnvironmentGetOrCreateResponse:
        name = request.deployment_name or "main"
        settings = pb.EnvironmentSettings(image_builder_version=BUILDER)
        told = pb.EnvironmentMetadata(name=name, settings=settings)
        return pb.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=told)

    async def AppGetByDeploymentName(self, request: Any) -> pb.AppGetByDeploymentNameResponse:
        app = self.plane.deployed.get(request.name)
        return pb.AppGetByDeploymentNameResponse(app_id=app.id if app else "")

    async def AppCreate(self, request: Any) -> pb.AppCreateResponse:
        app = self.plane.apps.setdefault(identity := new_id("ap"), App(identity, request.description))
        return pb.AppCreateResponse(app_id=app.id, app_page_url=f"http://plane/{app.id}", app_logs_url="http://plane")

    async def AppGetLayout(self, request: Any) -> pb.AppGetLayoutResponse:
        return pb.AppGetLayoutResponse(app_layout=apps.layout(self.plane.apps[request.app_id], self.plane.functions))

    async def AppHeartbeat(self, request: Any) -> Empty:
        return Empty()

    async def AppPublish(self, request: Any) -> pb.AppPublishResponse:
        await self.plane.publish(request)
        return pb.AppPublishResponse(url=f"http://plane/{request.app_id}", deployed_at=1.0)

    async def AppClientDisconnect(self, request: Any) -> Empty:
        await self.plane.disconnect(request.app_id, request.reason)
        return Empty()

    async def AppGetLogs(self, request: Any) -> AsyncIterator[pb.TaskLogsBatch]:
        async for text in self.plane.logs(self.plane.apps[request.app_id]):
            line = pb.TaskLogs(data=text, file_descriptor=pb.FILE_DESCRIPTOR_STDOUT)
            yield pb.TaskLogsBatch(items=[line], entry_id=new_id("lo"))
        yield pb.TaskLogsBatch(app_done=True)


class UploadRpcs(SessionRpcs):
    """Mounts, images, and the named things that functions use."""

    async def MountBatchedCheckExistence(self, request: Any) -> pb.MountBatchedCheckExistenceResponse:
        missing = [each for each in request.sha256_hex_hashes if not self.uploads.file(each).exists()]
        return pb.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def MountPutFile(self, request: Any) -> pb.MountPutFileResponse:
        place = self.uploads.file(request.sha256_hex)
        if not place.exists():
            data = self.uploads.blobs[request.data_blob_id] if request.data_blob_id else request.data
            if hashlib.sha256(data).hexdigest() != request.sha256_hex:
                return pb.MountPutFileResponse(exists=False)
            place.write_bytes(data)
        return pb.MountPutFileResponse(exists=True)

    async def MountGetOrCreate(self, request: Any) -> pb.MountGetOrCreateResponse:
        """Named mounts are Modal's own client and interpreter; the launcher has its own."""
        self.uploads.mounts[identity := new_id("mo")] = list(request.files)
        return pb.MountGetOrCreateResponse(mount_id=identity, handle_metadata=pb.MountHandleMetadata())

    async def ImageGetOrCreate(self, request: Any) -> pb.ImageGetOrCreateResponse:
        text = request.image.SerializeToString(deterministic=True)
        identity = f"im-{hashlib.sha256(text).hexdigest()[:22]}"
        self.uploads.images[identity] = request.image
        told = pb.ImageMetadata(image_builder_version=BUILDER, python_version_info="Python 3.12.0")
        result = pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_SUCCESS)
        return pb.ImageGetOrCreateResponse(image_id=identity, result=result, metadata=told)

    async def VolumeGetOrCreate(self, request: Any) -> pb.VolumeGetOrCreateResponse:
        name = request.deployment_name or new_id("anonymous")
        if request.object_creation_type not in CREATE and name not in self.uploads.volumes:
            raise not_found(f"Volume '{name}' not found")
        self.uploads.volume(name)
        told = pb.VolumeMetadata(name=name, version=request.version)
        return pb.VolumeGetOrCreateResponse(volume_id=f"vo-{name}", version=request.version, metadata=told)

    async def VolumeCommit(self, request: Any) -> pb.VolumeCommitResponse:
        return pb.VolumeCommitResponse()

    async def VolumeReload(self, request: Any) -> Empty:
        return Empty()

    async def SecretGetOrCreate(self, request: Any) -> pb.SecretGetOrCreateResponse:
        name = request.deployment_name
        if not name:
            self.uploads.secrets[name := new_id("anonymous")] = dict(request.env_dict)
        elif request.env_dict:  # `modal secret create`
            self.uploads.secrets[name] = dict(request.env_dict)
        if name not in self.uploads.secrets:
            raise not_found(f"Secret '{name}' not found")
        if missing := set(request.required_keys) - self.uploads.secrets[name].keys():
            raise not_found(f"Secret '{name}' is missing key(s): {', '.join(sorted(missing))}")
        self.uploads.secrets[f"st-{name}"] = self.uploads.secrets[name]
        return pb.SecretGetOrCreateResponse(secret_id=f"st-{name}", metadata=pb.SecretMetadata(name=name))

    async def BlobCreate(self, request: Any) -> pb.BlobCreateResponse:
        identity = new_id("bl")
        url = f"{self.plane.blob_url}/{identity}"
        return pb.BlobCreateResponse(blob_ids=[identity], upload_urls=pb.UploadUrlList(items=[url]))

    async def BlobGet(self, request: Any) -> pb.BlobGetResponse:
        return pb.BlobGetResponse(download_url=f"{self.plane.blob_url}/{request.blob_id}")


class DictRpcs(UploadRpcs):
    """`modal.Dict`: bytes to bytes; the client pickles keys and values. `plane.dict_fails` makes every call fail."""

    def _dict(self, request: Any) -> dict[bytes, bytes]:
        self.plane.check_dict()
        return self.uploads.dicts[request.dict_id.removeprefix("di-")]

    async def DictGetOrCreate(self, request: Any) -> pb.DictGetOrCreateResponse:
        name = request.deployment_name or new_id("anonymous")
        if name not in self.uploads.dicts and request.object_creation_type not in CREATE:
            raise not_found(f"Dict '{name}' not found")
        self.uploads.dicts.setdefault(name, {})
        return pb.DictGetOrCreateResponse(dict_id=f"di-{name}", metadata=pb.DictMetadata(name=name))

    async def DictGet(self, request: Any) -> pb.DictGetResponse:
        value = self._dict(request).get(request.key)
        return pb.DictGetResponse(found=value is not None, value=value)

    async def DictContains(self, request: Any) -> pb.DictContainsResponse:
        return pb.DictContainsResponse(found=request.key in self._dict(request))

    async def DictLen(self, request: Any) -> pb.DictLenResponse:
        return pb.DictLenResponse(len=len(self._dict(request)))

    async def DictUpdate(self, request: Any) -> pb.DictUpdateResponse:
        known = self._dict(request)
        if request.if_not_exists and any(entry.key in known for entry in request.updates):
            return pb.DictUpdateResponse(created=False)
        known.update({entry.key: entry.value for entry in request.updates})
        return pb.DictUpdateResponse(created=True)

    async def DictPop(self, request: Any) -> pb.DictPopResponse:
        value = self._dict(request).pop(request.key, None)
        return pb.DictPopResponse(found=value is not None, value=value)

    async def DictClear(self, request: Any) -> Empty:
        self._dict(request).clear()
        return Empty()

    async def DictContents(self, request: Any) -> AsyncIterator[pb.DictEntry]:
        for key, value in list(self._dict(request).items()):
            yield pb.DictEntry(key=key, value=value if request.values else b"")


class FunctionRpcs(DictRpcs):
    """Creating and finding functions and classes."""

    async def FunctionPrecreate(self, request: Any) -> pb.FunctionPrecreateResponse:
        definition = pb.Function(
            function_name=request.function_name,
            function_type=request.function_type,
            webhook_config=request.webhook_config,
            method_definitions=request.method_definitions,
            supported_input_formats=request.supported_input_formats,
            supported_output_formats=request.supported_output_formats,
        )
        function = await self.plane.define(request.app_id, request.existing_function_id, definition)
        return pb.FunctionPrecreateResponse(function_id=function.id, handle_metadata=apps.handle(function))

    async def FunctionCreate(self, request: Any) -> pb.FunctionCreateResponse:
        definition = request.function
        if request.HasField("function_data"):
            definition = request.function_data.ranked_functions[0].function
        function = await self.plane.define(request.app_id, request.existing_function_id, definition)
        return pb.FunctionCreateResponse(
            function_id=function.id,
            function=function.definition,
            function_data=apps.described(function.definition),
            handle_metadata=apps.handle(function),
        )

    async def ClassCreate(self, request: Any) -> pb.ClassCreateResponse:
        identity = request.existing_class_id or new_id("cs")
        return pb.ClassCreateResponse(class_id=identity, handle_metadata=pb.ClassHandleMetadata())

    def _deployed(self, request: Any) -> App:
        if request.app_name not in self.plane.deployed:
            raise not_found(f"App '{request.app_name}' not found")
        return self.plane.deployed[request.app_name]

    async def ClassGet(self, request: Any) -> pb.ClassGetResponse:
        app = self._deployed(request)
        if request.object_tag not in app.classes:
            raise not_found(f"App has no class '{request.object_tag}'")
        return pb.ClassGetResponse(class_id=app.classes[request.object_tag], handle_metadata=pb.ClassHandleMetadata())

    async def FunctionGet(self, request: Any) -> pb.FunctionGetResponse:
        app = self._deployed(request)
        if request.object_tag not in app.functions:
            raise not_found(f"App has no function '{request.object_tag}'")
        function = self.plane.functions[app.functions[request.object_tag]]
        return pb.FunctionGetResponse(
            function_id=function.id,
            handle_metadata=apps.handle(function),
            function=apps.described(function.definition),
        )

    async def FunctionGetCurrentStats(self, request: Any) -> pb.FunctionStats:
        function = self.plane.functions[request.function_id]
        return pb.FunctionStats(
            backlog=len(function.pending),
            num_total_tasks=len(function.containers),
            num_running_inputs=sum(len(each.running) for each in function.containers),
        )


class CallRpcs(FunctionRpcs):
    """Calling, and what comes back."""

    async def FunctionMap(self, request: Any) -> pb.FunctionMapResponse:
        function = self.plane.functions[request.function_id]
        call = Call(function.id, request.function_call_invocation_type)
        self.plane.calls[call.id] = call
        made = [await function.submit(call, item) for item in request.pipelined_inputs]
        told = [pb.FunctionPutInputsResponseItem(idx=one.index, input_id=one.id) for one in made]
        policy = function.definition.retry_policy
        return pb.FunctionMapResponse(function_call_id=call.id, pipelined_inputs=told, retry_policy=policy)

    async def FunctionPutInputs(self, request: Any) -> pb.FunctionPutInputsResponse:
        call = self.plane.calls[request.function_call_id]
        function = self.plane.functions[call.function_id]
        made = [await function.submit(call, item) for item in request.inputs]
        told = [pb.FunctionPutInputsResponseItem(idx=one.index, input_id=one.id) for one in made]
        return pb.FunctionPutInputsResponse(inputs=told)

    async def FunctionGetOutputs(self, request: Any) -> pb.FunctionGetOutputsResponse:
        call = self.plane.calls[request.function_call_id]
        until = self.plane.loop.time() + request.timeout
        wanted = range(request.start_idx, request.end_idx + 1)
        while not any(index in call.outputs for index in wanted) and (left := until - self.plane.loop.time()) > 0:
            await call.wait(left)
        found = [call.outputs[index] for index in wanted if index in call.outputs]
        return pb.FunctionGetOutputsResponse(
            idxs=[each.idx for each in found], outputs=found, num_unfinished_inputs=call.unfinished
        )

    async def FunctionCallFromId(self, request: Any) -> pb.FunctionCallFromIdResponse:
        if request.function_call_id not in self.plane.calls:
            raise not_found(f"no call {request.function_call_id}")
        count = len(self.plane.calls[request.function_call_id].inputs)
        return pb.FunctionCallFromIdResponse(function_call_id=request.function_call_id, num_inputs=count)

    async def FunctionCallCancel(self, request: Any) -> Empty:
        call = self.plane.calls[request.function_call_id]
        await self.plane.functions[call.function_id].cancel(call)
        return Empty()

    async def FunctionCallGetDataOut(self, request: Any) -> AsyncIterator[pb.DataChunk]:
        call = self.plane.calls[request.function_call_id]
        async for chunk in call.data(call.data_out, request.last_index):
            yield chunk


class ControlRpcs(CallRpcs):
    """All that a client needs."""


class ContainerRpcs(ControlRpcs):
    """The same plane from inside a container: its own inputs, outputs and life beside what any client may ask."""

    HEARTBEAT_S = 14.0
    """Held back for as long as nothing is to be cancelled; the client gives up after 15.1 s."""

    def __init__(self, plane: Plane, function: Function, container: Any) -> None:
        super().__init__(plane)
        self.function, self.container = function, container

    async def ContainerHello(self, request: Empty) -> Empty:
        return Empty()

    async def ContainerHeartbeat(self, request: Any) -> pb.ContainerHeartbeatResponse:
        if found := await self.container.cancelled(self.HEARTBEAT_S):
            return pb.ContainerHeartbeatResponse(cancel_input_event=pb.CancelInputEvent(input_ids=found))
        return pb.ContainerHeartbeatResponse()

    async def FunctionGetInputs(self, request: Any) -> pb.FunctionGetInputsResponse:
        one = await self.function.next_input(self.container)
        if one is None:
            return pb.FunctionGetInputsResponse(inputs=[pb.FunctionGetInputsItem(kill_switch=True)])
        item = pb.FunctionGetInputsItem(
            input_id=one.id,
            input=one.payload,
            function_call_id=one.call.id,
            function_call_invocation_type=one.call.invocation,
            retry_count=one.retry_count,
        )
        return pb.FunctionGetInputsResponse(inputs=[item])

    async def FunctionPutOutputs(self, request: Any) -> Empty:
        for item in request.outputs:
            self.function.finish(self.container, item)
        await self.function.notice()
        return Empty()

    async def FunctionCallGetDataIn(self, request: Any) -> AsyncIterator[pb.DataChunk]:
        call = self.plane.calls[request.function_call_id]
        async for chunk in call.data(call.data_in, request.last_index):
            yield chunk

    async def FunctionCallPutDataOut(self, request: Any) -> Empty:
        call = self.plane.calls[request.function_call_id]
        call.put_data(call.data_out, list(request.data_chunks))
        return Empty()

    async def ContainerStop(self, request: Any) -> pb.ContainerStopResponse:
        await self.function.stop(self.container)
        return pb.ContainerStopResponse()

    async def ContainerCheckpoint(self, request: Any) -> Empty:
        """No snapshot is taken: the process is told at once that it has been restored, and goes on."""
        with suppress(OSError):
            self.container.mapped_at_checkpoint = self.plane.maps(self.container)
        self.container.log_at_checkpoint = self.container.log
        (self.container.folder / "__modal" / "restore-state.json").write_text("{}")
        return Empty()

    async def TaskResult(self, request: Any) -> Empty:
        """A start that failed: everybody who waits gets its error."""
        self.container.stopping = True
        await self.function.fail_pending(request.result)
        return Empty()
