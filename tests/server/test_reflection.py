"""What a client of the reflection service is told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from grpc import StatusCode

from parts.raw_client import Answer, framed, grpc_headers, raw_client
from parts.serving import serving, until
from server.methods import EVERY, SERVICES

if TYPE_CHECKING:
    from pathlib import Path


REFLECTIONS = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]


@pytest.mark.parametrize("path", REFLECTIONS)
async def test_reflection(tmp_path: Path, path: str) -> None:
    """It lists every service, health and itself too, and from a symbol a client comes to all descriptors it needs."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

    every = [*SERVICES, "grpc.health.v1.Health", *(path.split("/")[1] for path in REFLECTIONS)]
    async with serving(tmp_path) as running, raw_client(running.path) as client:

        async def ask(question: ServerReflectionRequest) -> ServerReflectionResponse:
            answer = await client.call(path, question.SerializeToString())
            assert answer.status == 0
            (data,) = answer.messages
            return ServerReflectionResponse.FromString(data)

        listed = (await ask(ServerReflectionRequest(list_services=""))).list_services_response.service
        assert [service.name for service in listed] == sorted(every)
        for service in every:
            pool = DescriptorPool()
            found = await ask(ServerReflectionRequest(file_containing_symbol=service))
            (data,) = found.file_descriptor_response.file_descriptor_proto
            file = FileDescriptorProto.FromString(data)
            for name in file.dependency:
                found = await ask(ServerReflectionRequest(file_by_filename=name))
                (data,) = found.file_descriptor_response.file_descriptor_proto
                pool.Add(FileDescriptorProto.FromString(data))
            pool.Add(file)
            assert pool.FindServiceByName(service).methods
        assert (await ask(ServerReflectionRequest(file_containing_symbol="no.Such"))).error_response.error_code == 5
        bad = await client.call(path, b"\x0a\x05a")
        assert bad.status == StatusCode.INVALID_ARGUMENT.value[0]
        await running.quiet()


def _has_message(answer: Answer) -> bool:
    return len(answer.messages) == 1


async def test_reflection_answers_several_questions_in_one_call(tmp_path: Path) -> None:
    """It is a stream in both directions; clients such as grpcurl keep one open."""
    from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest

    question = framed(ServerReflectionRequest(list_services="").SerializeToString())
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answers = [await client.send(grpc_headers(path), question, end=False) for path in REFLECTIONS * 3]
        for answer in answers:
            await until(partial(_has_message, answer))
            client.h2.send_data(answer.stream, question, end_stream=True)
        await client.flush()
        for answer in answers:
            await answer.finished()
            assert answer.status == 0
            assert len(answer.messages) == 2
        await running.quiet()


_FRESH = """
import asyncio, sys, tempfile, pathlib
sys.path.insert(0, {tests!r})
from parts.serving import serving
from parts.raw_client import raw_client

def loaded():
    return sorted(name for name in sys.modules if name.startswith(("google.protobuf", "grpclib.reflection")))

async def main():
    with tempfile.TemporaryDirectory() as folder:
        async with serving(pathlib.Path(folder)) as running, raw_client(running.path) as client:
            for path in {paths!r}:
                assert (await client.call(path)).status is not None
            assert not loaded(), loaded()
            assert (await client.call({reflection!r}, bytes([0x3a, 0]))).status == 0
            assert loaded()

asyncio.run(main())
"""


async def test_google_protobuf_waits_for_the_first_question(tmp_path: Path) -> None:
    """A server that nobody asks for its interface never imports google's protobuf: 10 MB (python-stack 6)."""
    from pathlib import Path as Folder

    paths = [*EVERY, "/grpc.health.v1.Health/Check"]
    tests = str(Folder(__file__).parents[1])
    script = _FRESH.format(tests=tests, paths=paths, reflection=REFLECTIONS[0])
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
