"""What can be said of an interface on the wire, as plain values that compare and print well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

# Every method of the image service, and of the runtime's those that are typed here.
METHODS: Final = {"ImageService": None, "RuntimeService": {"Version", "Status"}}

Shape = dict[str, str]


def shape(file: FileDescriptorProto) -> Shape:
    """Describes the methods we speak and every type they reach.

    Args:
        file: A compiled interface.

    Returns:
        For each method, message, field and enum value, by its name without the package, what makes it what it is.
    """
    messages, enums = dict(_messages(file)), dict(_enums(file))
    facts: Shape = {}
    waiting: list[str] = []
    for service in file.service:
        for method in service.method:
            wanted = METHODS.get(service.name, set())
            if wanted is None or method.name in wanted:
                ends = [_local(file, method.input_type), _local(file, method.output_type)]
                kind = f"client stream={method.client_streaming}, server stream={method.server_streaming}"
                facts[f"{service.name}/{method.name}"] = f"{ends[0]} -> {ends[1]}, {kind}"
                waiting += ends
    while waiting:
        name = waiting.pop()
        if name in facts:
            continue
        if name in enums:
            facts[name] = "enum"
            facts |= {f"{name}.{value.name}": f"= {value.number}" for value in enums[name].value}
            continue
        facts[name] = "message"
        for field in messages[name].field:
            facts[f"{name}.{field.name}"] = _field(file, field)
            if field.type_name:
                waiting.append(_local(file, field.type_name))
    return facts


def types(file: FileDescriptorProto) -> set[str]:
    """Names every message and enum of a file, reached or not, without the package."""
    return {name for name, _ in _messages(file)} | {name for name, _ in _enums(file)}


def _local(file: FileDescriptorProto, type_name: str) -> str:
    return type_name.removeprefix(f".{file.package}.")


def _field(file: FileDescriptorProto, field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
    choice = " in a oneof" if field.HasField("oneof_index") else ""
    return f"= {field.number}: {label} {kind} {_local(file, field.type_name)}".rstrip() + choice


def _messages(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    waiting = [(message.name, message) for message in file.message_type]
    while waiting:
        name, message = waiting.pop()
        yield name, message
        waiting += [(f"{name}.{nested.name}", nested) for nested in message.nested_type]


def _enums(file: FileDescriptorProto) -> Iterator[tuple[str, EnumDescriptorProto]]:
    yield from ((enum.name, enum) for enum in file.enum_type)
    for name, message in _messages(file):
        yield from ((f"{name}.{enum.name}", enum) for enum in message.enum_type)
