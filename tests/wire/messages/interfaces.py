"""The generated interface as two protobuf runtimes see it: betterproto's classes, and google's from the descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from criimage.cri.descriptors import FILE_DESCRIPTOR_SET
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    import betterproto
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

FILES: Final = {
    file.package: file for file in descriptor_pb2.FileDescriptorSet.FromString(FILE_DESCRIPTOR_SET).file if file.package
}
# betterproto spells names as Python's guide for names has it, not as the interface does.
RESPELLED: Final = {"DNSConfig": "DnsConfig", "IDMapping": "IdMapping", "SELinuxOption": "SeLinuxOption"}


class Kind(NamedTuple):
    """One message type of runtime.v1, in both runtimes."""

    descriptor: Descriptor
    ours: type[betterproto.Message]
    google: type[Message]


def _kinds() -> dict[str, Kind]:
    pool = descriptor_pool.DescriptorPool()
    for file in FILES.values():
        pool.AddSerializedFile(file.SerializeToString())
    kinds = {}
    for message in FILES["runtime.v1"].message_type:
        descriptor = pool.FindMessageTypeByName(f"runtime.v1.{message.name}")
        ours = getattr(v1, RESPELLED.get(message.name, message.name))
        kinds[message.name] = Kind(descriptor, ours, message_factory.GetMessageClass(descriptor))
    return kinds


KINDS: Final = _kinds()
