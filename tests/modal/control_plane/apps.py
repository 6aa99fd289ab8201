"""Apps and the functions in them, by id and by name; what a client is told about a function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modal_proto import api_pb2 as pb

from tests.modal.control_plane.functions import Function


@dataclass(eq=False)
class App:
    """`functions` and `classes` are what was last published: ids by tag."""

    id: str
    name: str
    functions: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    detached: bool = False
    """Of `modal run --detach`: goes on when its terminal is interrupted."""
    done: bool = False
    """An app of `modal run` that has ended."""
    containers_seen: list[str] = field(default_factory=list)


def handle(function: Function) -> pb.FunctionHandleMetadata:
    """What a client keeps of a function, and with it of each method of a class."""
    told = function.definition
    made = pb.FunctionHandleMetadata(
        app_id=function.app_id,
        function_name=told.function_name,
        function_type=told.function_type,
        is_method=told.is_method,
        definition_id=f"de-{function.id}",
        class_parameter_info=told.class_parameter_info,
        function_schema=told.function_schema,
        web_url=function.web_urls.get("", ""),
        supported_input_formats=told.supported_input_formats,
        supported_output_formats=told.supported_output_formats,
    )
    for name, method in told.method_definitions.items():
        made.method_handle_metadata[name].CopyFrom(
            pb.FunctionHandleMetadata(
                app_id=function.app_id,
                function_name=method.function_name,
                function_type=method.function_type,
                use_method_name=name,
                is_method=True,
                web_url=function.web_urls.get(name, ""),
                function_schema=method.function_schema,
                supported_input_formats=method.supported_input_formats,
                supported_output_formats=method.supported_output_formats,
            )
        )
    return made


def described(definition: pb.Function) -> pb.FunctionData:
    """The definition as `FunctionGet` and `FunctionCreate` send it back."""
    ours, theirs = definition.DESCRIPTOR.fields_by_name, pb.FunctionData.DESCRIPTOR.fields_by_name
    shared = [name for name in ours if name in theirs]
    data = pb.FunctionData()
    for name in shared:
        value = getattr(definition, name)
        if isinstance(value, (str, bytes, int, float, bool)):
            setattr(data, name, value)
    data.ranked_functions.add(rank=0, function=definition)
    return data


def layout(app: App, functions: dict[str, Function]) -> pb.AppLayout:
    """What a container and a later deployment know of the app."""
    made = pb.AppLayout(function_ids=app.functions, class_ids=app.classes)
    for identity in app.functions.values():
        made.objects.add(object_id=identity, function_handle_metadata=handle(functions[identity]))
    for identity in app.classes.values():
        made.objects.add(object_id=identity, class_handle_metadata=pb.ClassHandleMetadata())
    used = {each.object_id for identity in app.functions.values() for each in functions[identity].dependencies}
    for identity in sorted(used):
        made.objects.add(object_id=identity, **_metadata(identity))
    return made


def _metadata(identity: str) -> dict[str, Any]:
    """What the client reads of a Volume or a mount; the others need none."""
    if identity.startswith("vo-"):
        return {"volume_metadata": pb.VolumeMetadata(name=identity.removeprefix("vo-"))}
    return {"mount_handle_metadata": pb.MountHandleMetadata()} if identity.startswith("mo-") else {}
